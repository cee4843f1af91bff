"""Run a list of layers slab by slab, exactly.

The executor of a schedule: for each step it builds the stream of planes that the step's passes are,
asks it for one slab after the other, writes them where they belong, and notes their statistics for
the next group norm. Memory that runs out on the way is answered by a smaller plan.
"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeAlias

import torch
from torch import Tensor

from synthct.errors import MemoryBudgetError, UsageError
from synthct.tensors import FeatureMap, Slab
from synthct.tiling import budget, cuts
from synthct.tiling.budget import Plan
from synthct.tiling.copies import Ahead
from synthct.tiling.cuts import Cut
from synthct.tiling.heap import Tidy, is_out_of_memory, release
from synthct.tiling.kernels import apply, full_precision
from synthct.tiling.layers import Conv, GroupNorm, Layer, Pointwise
from synthct.tiling.modules import prepare
from synthct.tiling.pipeline import Stage, multiply_adds, stages
from synthct.tiling.schedule import INPUT, OUTPUT, Schedule, Slot, Step, schedule
from synthct.tiling.statistics import Moments, Normalise, chunks
from synthct.tiling.stores import Stores
from synthct.tiling.streams import (
    Hold,
    Lead,
    PlaneFunction,
    Reader,
    Stored,
    Stream,
    Sum,
    Tap,
    Windowed,
    planes,
)
from synthct.tiling.team import Alone, Team

Progress: TypeAlias = Callable[[int, int], None]  # (done, total), in units of work
Planner: TypeAlias = Callable[[Schedule, int], Plan]  # (schedule, bytes of an element) -> plan
Statistics: TypeAlias = MutableMapping[int, Moments]  # boundary -> of the map there
Sink: TypeAlias = Callable[[int, Cut, Slab], None]  # (sample, planes [start, stop), their values)


@torch.no_grad()
def run(
    layers: tuple[Layer, ...],
    source: FeatureMap,
    *,
    axis: int = 0,
    planner: Planner = budget.automatic,
    dtype: torch.dtype = torch.float32,
    out_device: torch.device | str = "cpu",
    sink: Sink | None = None,
    spill_folder: Path | None = None,
    progress: Progress | None = None,
    team: Team = Alone(),  # noqa: B008
    statistics: Statistics | None = None,
    halo_limit: int | None = None,
) -> FeatureMap | None:
    """The output of `layers` on `source`, as if run at once, in the memory of a few slabs and maps.

    Args:
        source: (n, c, i, j, k), on the device that computes. Samples are run one after the other.
        axis: spatial axis that is cut: 0, 1 or 2.
        planner: chooses the plan, e.g. `lambda s, b: budget.by_count(s, 5, b)`.
        dtype: of maps and kernels: float32, bfloat16 (statistics stay float32) or float64.
        out_device: where the result is gathered, slab by slab.
        sink: takes the finished slabs (1, c, planes, j, k), in order, in the caller's axis order;
            then nothing is gathered and None returned. After memory ran out it begins again at
            plane 0.
        spill_folder: where a plan's spill file lies; the system's temporary folder by default.
        progress: called after every slab.
        team: `Workers` where several processes share the planes; each then gets the whole result.
            A sink gets the planes of its own process only.
        statistics: of the maps before each group norm, by boundary. What is there is taken instead
            of being measured, what is found is added: so a run that was interrupted goes on (see
            `statistics_file`), and a block cut out of a map can be made as part of the whole.
        halo_limit: for tests only: fewer halo planes than exactness needs.

    Raises:
        UsageError: `statistics` with more than one sample.
        UnknownLayer: a layer whose locality is not known.
        GridError: the map is too small for the layers.
        MemoryBudgetError: the planner's budget is too small, or the machine is out of memory with
            the smallest plan.
    """
    if statistics is not None and source.shape[0] != 1:
        raise UsageError(f"statistics are those of one sample; {source.shape[0]} were given")
    turned = source.transpose(2, 2 + axis)
    ready = tuple(prepare(layer, axis, dtype) for layer in layers)
    size = turned.shape[2], turned.shape[3], turned.shape[4]
    plan = planner(schedule(ready, turned.shape[1], size), dtype.itemsize)
    out = None if sink else _result(plan, turned, axis, dtype, out_device)
    gather = _into(out, axis) if sink is None else _facing(sink, axis)
    job = _Job(turned, dtype, gather, spill_folder, progress, team, statistics, halo_limit)
    with torch.autocast(source.device.type, enabled=False), full_precision():
        _run_in_what_there_is(plan, job)
    if out is not None:
        team.collect(out)
    return out


def _result(
    plan: Plan, source: Tensor, axis: int, dtype: torch.dtype, device: torch.device | str
) -> FeatureMap:
    i, j, k = torch.empty(plan.schedule.out_size, device="meta").transpose(0, axis).shape
    kind = dtype if dtype == torch.float64 else torch.float32
    shape = (source.shape[0], plan.schedule.out_channels, i, j, k)
    return torch.zeros(shape, dtype=kind, device=device)


def _into(out: Tensor | None, axis: int) -> Sink:
    assert out is not None
    place = out.transpose(2, 2 + axis)

    def write(sample: int, cut: Cut, slab: Slab) -> None:
        planes(place[sample : sample + 1], cut).copy_(slab)

    return write


def _facing(sink: Sink, axis: int) -> Sink:
    return lambda sample, cut, slab: sink(sample, cut, slab.transpose(2, 2 + axis))


def _run_in_what_there_is(plan: Plan, job: _Job) -> None:
    """Run `plan`; where memory runs out, begin again with a smaller one."""
    current: Plan | None = plan
    while current is not None:
        if _fits(current, job):
            return
        release(job.source.device)
        current = budget.smaller(current)
    raise MemoryBudgetError(
        "the machine ran out of memory with the smallest plan",
        "close other programs, use bfloat16, or ask for fewer voxels",
        minimum=budget.minimum(plan.schedule, plan.itemsize, plan.room),
    )


def _fits(plan: Plan, job: _Job) -> bool:
    meter = _Meter(plan, job.source.shape[0], job.progress)
    try:
        for sample in range(job.source.shape[0]):
            folder, held = job.spill_folder, job.team.held
            with Stores(plan, job.dtype, job.source.device, folder, held) as stores:
                _Sweeper(plan, job, sample, stores, meter).run()
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return False
    return True


@dataclass
class _Job:
    """What stays the same whatever the plan."""

    source: Tensor  # (n, c, planes, j, k)
    dtype: torch.dtype
    write: Sink
    spill_folder: Path | None
    progress: Progress | None
    team: Team
    statistics: Statistics | None
    halo_limit: int | None


class _Meter:
    """Turns finished planes into (done, total)."""

    def __init__(self, plan: Plan, samples: int, progress: Progress | None) -> None:
        net = plan.schedule.network
        work = [
            multiply_adds(net, step.first, step.end) + step.size_out[1] * step.size_out[2]
            for step in plan.schedule.steps
        ]
        extents = [own[-1][1] for own in plan.cuts]
        self._costs = [1 + w // planes for w, planes in zip(work, extents, strict=True)]
        self._total = samples * sum(c * n for c, n in zip(self._costs, extents, strict=True))
        self._done, self._progress = 0, progress

    def advance(self, step: int, count: int) -> None:
        self._done += self._costs[step] * count
        if self._progress is not None:
            self._progress(self._done, self._total)


@dataclass
class _Sweeper:
    """Executes a plan for one sample."""

    plan: Plan
    job: _Job
    sample: int
    stores: Stores
    meter: _Meter
    moments: Statistics = field(default_factory=dict)  # of the map at each boundary

    def __post_init__(self) -> None:
        if self.job.statistics is not None:
            self.moments = self.job.statistics

    def run(self) -> None:
        self._tidy = Tidy(self.job.source.device.type, self.plan.peak_bytes)
        for index, step in enumerate(self.plan.schedule.steps):
            self.job.team.all_do(partial(self.stores.open, index))
            self.job.team.exchange(self.plan.schedule, step, self.stores)
            if step.passes and step.passes[0].whole is not None:
                self.job.team.all_do(partial(self._at_once, index, step))
            elif step.target is None and step.end in self.moments:
                self.meter.advance(index, step.size_out[0])
            else:
                self._sweep(index, step)
            self.stores.close(index)

    def _at_once(self, index: int, step: Step) -> None:
        whole, device = step.passes[0].whole, self.job.source.device
        assert whole is not None and step.target is not None
        result = whole.function(self._region(step.source).to(device))
        own = self.job.team.own(step.size_out[0])
        self._write(step.target, own, planes(result, own))
        if step.gather and step.end not in self.moments:
            self.moments[step.end] = _moments_of(result)
        self.meter.advance(index, step.size_out[0])

    def _sweep(self, index: int, step: Step) -> None:
        gathered = Moments() if step.gather and step.end not in self.moments else None
        self.job.team.all_do(partial(self._own_planes, index, step, gathered))
        if gathered is not None:
            channels = self.plan.schedule.network.maps[step.end][0]
            self.moments[step.end] = self.job.team.merged(gathered, channels)

    def _own_planes(self, index: int, step: Step, gathered: Moments | None) -> None:
        thickest = max(stop - start for start, stop in self.plan.cuts[index])
        stream, beside = self._stream(step, thickest)
        work_bytes = self.plan.itemsize * budget.step_elements(self.plan.schedule, step, thickest)
        for cut in self._own_cuts(step, thickest):
            self._emit(step, cut, stream.take(cut), gathered)
            if beside is not None and step.beside is not None:
                for part, skip in beside.pieces(cut):
                    self._write(step.beside, part, skip)
            self.meter.advance(index, cut[1] - cut[0])
            self._tidy.after(work_bytes)

    def _own_cuts(self, step: Step, thickness: int) -> list[Cut]:
        first, stop = self.job.team.own(step.size_out[0])
        if first == stop:
            return []
        inside = cuts.in_pairs(stop - first, thickness)
        return [(first + a, first + b) for a, b in inside]

    def _emit(self, step: Step, cut: Cut, slab: Slab, gathered: Moments | None) -> None:
        """Write and measure a finished slab, a few planes at a time."""
        for part in chunks(slab):
            some = slab[:, :, part]
            if step.target is not None:
                self._write(step.target, (cut[0] + part.start, cut[0] + part.stop), some)
            if gathered is not None:
                gathered.add(some)

    def _write(self, slot: Slot, cut: Cut, slab: Slab) -> None:
        if slot.buffer == OUTPUT:
            self.job.write(self.sample, cut, slab)
        else:
            self.stores.write(slot, cut, slab)

    def _region(self, slot: Slot) -> Tensor:
        if slot.buffer == INPUT:
            return self.job.source[self.sample : self.sample + 1]
        return self.stores.region(slot)

    def _stream(self, step: Step, thickness: int) -> tuple[Stream, Hold | None]:
        """The passes of a step as one stream; and the skip that stays open at its end."""
        net = self.plan.schedule.network
        stream: Stream = self._reader(step.source)
        skip: Hold | Stored | None = Stored(self._reader(step.skip)) if step.skip else None
        still_open: Hold | None = None
        every = stages(net, step.first, step.end, thickness)
        for number, own in enumerate(every, start=step.first):
            work = net.passes[number]
            if work.opens and (step.beside or net.opened[step.end] != number):
                skip = still_open = Hold()
                stream = Tap(stream, still_open, self._functions(work.shortcut, number, False))
            if work.head:
                stream = Lead(stream, self._functions(work.head, number, stream.fresh))
            stream = self._chained(stream, step, work.chain, own)
            if work.closes:
                assert skip is not None
                stream, still_open = Sum(stream, skip), None
        return stream, still_open

    def _reader(self, slot: Slot) -> Reader | Ahead:
        if slot.buffer == INPUT:
            return Reader(self._region(slot), self.job.source.device)
        return self.stores.reader(slot)

    def _chained(
        self, stream: Stream, step: Step, chain: tuple[Layer, ...], own: list[Stage]
    ) -> Stream:
        left = iter(own)
        for layer in chain:
            if isinstance(layer, Pointwise):
                stream = Lead(stream, [layer.function])
                continue
            dtype = layer.weight.dtype if isinstance(layer, Conv) else self.job.dtype
            direct = isinstance(stream, Reader) and not step.in_place and stream.dtype == dtype
            stream = Windowed(
                next(left),
                stream,
                dtype,
                self.job.source.device,
                roll=not direct,
                halo_limit=self.job.halo_limit,
            )
        return stream

    def _functions(
        self, layers: tuple[Layer, ...], boundary: int, fresh: bool
    ) -> list[PlaneFunction]:
        """Pointlike layers, ready to run on the map at `boundary`."""
        ready: list[PlaneFunction] = []
        for layer in layers:
            if isinstance(layer, GroupNorm):
                ready.append(Normalise(layer, self._moments(boundary), self.job.source.device))
            elif isinstance(layer, Pointwise):
                ready.append(layer.function if ready or fresh else _on_copy(layer.function))
            else:
                assert isinstance(layer, Conv)
                ready.append(_voxelwise(layer))
        return ready

    def _moments(self, boundary: int) -> Moments:
        if boundary == 0 and boundary not in self.moments:
            self.moments[0] = _moments_of(self.job.source[self.sample : self.sample + 1])
        return self.moments[boundary]


def _on_copy(function: PlaneFunction) -> PlaneFunction:
    return lambda slab: function(slab.clone())


def _voxelwise(layer: Conv) -> PlaneFunction:
    def convolve(slab: Slab) -> Slab:
        every = 0, slab.shape[2]
        return apply(layer, slab.to(layer.weight.dtype), every, every)

    return convolve


def _moments_of(source: Tensor) -> Moments:
    moments = Moments()
    moments.add(source)
    return moments
