"""Run a list of layers slab by slab, exactly.

For each step of the schedule, for each slab: take the slab with its halo through the step's head
(one plane at a time: normalise, activate) into a window, run the chain on the window, write the new
planes, and note their statistics for the next group norm. Prepared planes that the next slab needs
again stay in the window, so that the planes behind it may be overwritten.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from synthct.tensors import FeatureMap, Slab
from synthct.tiling import budget
from synthct.tiling.budget import Plan
from synthct.tiling.cuts import Cut
from synthct.tiling.heap import Tidy
from synthct.tiling.kernels import apply, memory_format, windows
from synthct.tiling.layers import Conv, GroupNorm, Layer, Pointwise, prepare
from synthct.tiling.schedule import INPUT, OUTPUT, Schedule, Slot, Step, schedule
from synthct.tiling.statistics import Moments, Normalise, chunks

Progress: TypeAlias = Callable[[int, int], None]  # (done, total), in units of work
Planner: TypeAlias = Callable[[Schedule, int], Plan]  # (schedule, bytes of an element) -> plan
PlaneFunction: TypeAlias = Callable[[Slab], Slab]


@torch.no_grad()
def run(
    layers: tuple[Layer, ...],
    source: FeatureMap,
    *,
    axis: int = 0,
    planner: Planner = budget.automatic,
    dtype: torch.dtype = torch.float32,
    out_device: torch.device | str = "cpu",
    progress: Progress | None = None,
    halo_limit: int | None = None,
) -> FeatureMap:
    """The output of `layers` on `source`, as if run at once, in the memory of a few slabs and maps.

    Args:
        source: (n, c, i, j, k), on the device that computes. Samples are run one after the other.
        axis: spatial axis that is cut: 0, 1 or 2.
        planner: chooses the slabs, e.g. `lambda s, b: budget.by_count(s, 5, b)`.
        dtype: of maps and kernels: float32, bfloat16 (statistics stay float32) or float64.
        out_device: where the result is gathered, slab by slab.
        progress: called after every slab.
        halo_limit: for tests only: fewer halo planes than exactness needs.

    Raises:
        UnknownLayer: a layer whose locality is not known.
        GridError: the map is too small for the layers.
        MemoryBudgetError: from a planner that keeps to a budget.
    """
    source = source.transpose(2, 2 + axis)
    turned = tuple(prepare(layer, axis, dtype) for layer in layers)
    size = source.shape[2], source.shape[3], source.shape[4]
    todo = schedule(turned, source.shape[1], size)
    plan = planner(todo, dtype.itemsize)
    kind = dtype if dtype == torch.float64 else torch.float32
    out = torch.empty(
        (source.shape[0], todo.out_channels, *todo.out_size), dtype=kind, device=out_device
    )
    meter = _Meter(todo, plan, source.shape[0], progress)
    with torch.autocast(source.device.type, enabled=False):
        for index in range(source.shape[0]):
            sample = slice(index, index + 1)
            _Sweeper(todo, plan, source[sample], out[sample], dtype, meter, halo_limit).run()
    return out.transpose(2, 2 + axis).contiguous()


class _Meter:
    """Turns finished planes into (done, total)."""

    def __init__(self, todo: Schedule, plan: Plan, samples: int, progress: Progress | None) -> None:
        costs = [budget.work(step) for step in todo.steps]
        unit = max(1, min(costs))
        self.costs = [cost // unit for cost in costs]
        planes = [cuts[-1][1] for cuts in plan.cuts]
        self._total = samples * sum(c * n for c, n in zip(self.costs, planes, strict=True))
        self._done, self._progress = 0, progress

    def advance(self, step: int, planes: int) -> None:
        self._done += self.costs[step] * planes
        if self._progress is not None:
            self._progress(self._done, self._total)


@dataclass
class _Sweeper:
    """Executes a schedule for one sample."""

    todo: Schedule
    plan: Plan
    source: Tensor  # (1, c, planes, j, k)
    out: Tensor
    dtype: torch.dtype
    meter: _Meter
    halo_limit: int | None

    def __post_init__(self) -> None:
        self._buffers: dict[int, Tensor] = {}
        self._moments: Moments | None = None
        self._tidy = Tidy(self.source.device.type, self.plan.peak_bytes)

    def run(self) -> None:
        for index, step in enumerate(self.todo.steps):
            self._allocate(index)
            if step.work.whole is not None:
                self._at_once(index, step)
            else:
                self._sweep(index, step)
            self._release(index)

    def _allocate(self, index: int) -> None:
        for number, buffer in enumerate(self.todo.buffers):
            if buffer.first == index:
                self._buffers[number] = torch.empty(
                    (1, buffer.channels, *buffer.size),
                    dtype=self.dtype,
                    device=self.source.device,
                    memory_format=memory_format(self.source.device, buffer.widest, self.dtype),
                )

    def _release(self, index: int) -> None:
        for number, buffer in enumerate(self.todo.buffers):
            if buffer.last == index:
                self._buffers.pop(number, None)

    def _region(self, slot: Slot) -> Tensor:
        if slot.buffer == INPUT:
            return self.source
        if slot.buffer == OUTPUT:
            return self.out
        buffer = self._buffers[slot.buffer]
        first = buffer.shape[1] - slot.channels if slot.high else 0
        return buffer.narrow(1, first, slot.channels)

    def _at_once(self, index: int, step: Step) -> None:
        assert step.work.whole is not None
        result = step.work.whole.function(self._region(step.source))
        self._region(step.target).copy_(result)
        self._moments = _moments_of(result) if step.gather else None
        self.meter.advance(index, step.size_out[0])

    def _sweep(self, index: int, step: Step) -> None:
        source, target = self._region(step.source), self._region(step.target)
        head = self._plane_function(step.work.head, source)
        shortcut = self._plane_function(step.work.shortcut, source)
        gathered = Moments() if step.gather else None
        cuts = self.plan.cuts[index]
        work_bytes = self.dtype.itemsize * budget.slab_elements(step, cuts[0][1])
        extents = budget.extents(step)
        reaches = [windows(step.work.chain, cut, extents, self.halo_limit) for cut in cuts]
        window = _Window(source, head, self.dtype, roll=bool(step.work.head) or step.in_place)
        window.reserve(
            max(max(r[0][1], c[1]) - r[0][0] for r, c in zip(reaches, cuts, strict=True))
        )
        for cut, reach in zip(cuts, reaches, strict=True):
            fresh = self._slab(step, window, reach, source, shortcut, cut)
            _planes(target, cut).copy_(fresh)
            if gathered is not None:
                gathered.add(fresh)
            self.meter.advance(index, cut[1] - cut[0])
            self._tidy.after(work_bytes)
        self._moments = gathered

    def _slab(
        self,
        step: Step,
        window: _Window,
        reach: list[Cut],
        source: Tensor,
        shortcut: PlaneFunction,
        cut: Cut,
    ) -> Slab:
        slab = window.take(reach[0], cut[1] if step.in_place else 0)
        for layer, have, want in zip(step.work.chain, reach, reach[1:], strict=False):
            slab = apply(layer, slab, have, want)
        if step.beside is not None:
            _planes(self._region(step.beside), cut).copy_(shortcut(_planes(source, cut)))
        if step.skip is not None:
            return slab.add_(_planes(self._region(step.skip), cut))
        if step.work.closes:
            return slab.add_(shortcut(_planes(source, cut)))
        return slab

    def _plane_function(self, layers: tuple[Layer, ...], source: Tensor) -> PlaneFunction:
        """Compose pointlike layers; group norms get the statistics of `source`."""
        ready: list[PlaneFunction] = []
        for layer in layers:
            if isinstance(layer, GroupNorm):
                moments = self._moments or _moments_of(source)
                ready.append(Normalise(layer, moments, source.device))
            elif isinstance(layer, Pointwise):
                ready.append(layer.function if ready else _on_copy(layer.function))
            else:
                assert isinstance(layer, Conv)
                ready.append(_voxelwise(layer))
        return lambda planes: _composed(ready, planes)


def _composed(functions: list[PlaneFunction], planes: Slab) -> Slab:
    for function in functions:
        planes = function(planes)
    return planes


def _on_copy(function: PlaneFunction) -> PlaneFunction:
    return lambda planes: function(planes.clone())


def _voxelwise(layer: Conv) -> PlaneFunction:
    def convolve(planes: Slab) -> Slab:
        every = 0, planes.shape[2]
        return apply(layer, planes.to(layer.weight.dtype), every, every)

    return convolve


def _moments_of(source: Tensor) -> Moments:
    moments = Moments()
    moments.add(source)
    return moments


def _planes(region: Tensor, cut: Cut) -> Slab:
    return region[:, :, cut[0] : cut[1]]


class _Window:
    """The prepared planes [start, stop) of a source, rolling along with the slabs."""

    def __init__(
        self,
        source: Tensor,
        head: PlaneFunction,
        dtype: torch.dtype,
        *,
        roll: bool,
    ) -> None:
        self._source, self._head, self._dtype = source, head, dtype
        self._roll = roll or source.dtype != dtype
        self._room, self._held = 0, (0, 0)
        self._planes: Tensor | None = None

    def reserve(self, planes: int) -> None:
        """Make room for windows of up to `planes` planes."""
        self._room = planes

    def take(self, want: Cut, through: int) -> Slab:
        """The planes `want`, prepared; the source is read at least up to plane `through`."""
        if not self._roll:
            return _planes(self._source, want)
        stop = max(want[1], through)
        kept = self._keep(want[0])
        for part in chunks(_planes(self._source, (kept, stop))):
            self._fill(kept + part.start, kept + part.stop)
        self._held = want[0], stop
        assert self._planes is not None
        return self._planes[:, :, : want[1] - want[0]]

    def _keep(self, first: int) -> int:
        """Move the planes from `first` on to the front; return the plane to go on with."""
        start, stop = self._held
        again = stop - first
        self._held = first, stop
        if self._planes is None or again <= 0:
            return first
        overlap = self._planes[:, :, first - start : stop - start].clone()
        self._planes[:, :, :again].copy_(overlap)
        return stop

    def _fill(self, start: int, stop: int) -> None:
        prepared = self._head(_planes(self._source, (start, stop)))
        if self._planes is None:
            self._planes = torch.empty(
                (1, prepared.shape[1], self._room, *prepared.shape[3:]),
                dtype=self._dtype,
                device=prepared.device,
                memory_format=memory_format(prepared.device, prepared.shape[1], self._dtype),
            )
        first = self._held[0]
        self._planes[:, :, start - first : stop - first].copy_(prepared)
