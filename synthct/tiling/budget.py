"""The plan for a budget: which maps are kept and where, how thick the slabs are, what it takes.

No torch is needed to plan: shapes are enough.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import Any

from synthct.errors import MemoryBudgetError
from synthct.tiling import cuts, describe, shares
from synthct.tiling.cuts import Cut
from synthct.tiling.layers import PAIR_TAPS, goes_by_pairs
from synthct.tiling.pipeline import multiply_adds, slab_elements
from synthct.tiling.schedule import Schedule, Step, arrange
from synthct.tiling.strategies import candidates

_SMALL_BYTES = 16 * 2**20  # slabs below this are not worth cutting further
_SHARE_OF_MAPS = 12  # otherwise a slab's work may take 1/12 of the maps it works on
_OVERHEAD_BYTES = 24 * 2**20  # chunks in flight, scratch of the convolution library
_RESULT_BYTES = 4
_FETCHED, _SENT = 2, 2  # slabs of a map in host memory: in use and fetched ahead; on the way out
_COPIES = 1  # made by the convolution library of a GPU, of what it reads and what it writes

# Only to order strategies that fit: multiply-adds and bytes that a machine moves in a second.
_RATE = {"cpu": 1.5e11, "cuda": 5e13}
_FILE_RATE, _HOST_RATE = 5e8, 2e10


@dataclass(frozen=True)
class Room:
    """What each of the devices may use. `budget_bytes` None: as much as the cheapest plan takes."""

    budget_bytes: int | None = None
    device: str = "cpu"
    host_bytes: int = 0  # for spilled maps, where the device has a memory of its own
    file_bytes: int = 0  # for spilled maps, in a memory-mapped file
    streamed: bool = False  # the result does not stay in memory
    copies_weights: bool = True  # for another precision or axis; False: they are used as they are
    devices: int = 1  # that share the planes of every map


@dataclass(frozen=True, eq=False)
class Plan:
    """A schedule, for each of its steps the slabs, and what the run will take."""

    schedule: Schedule
    cuts: tuple[tuple[Cut, ...], ...]
    itemsize: int
    room: Room = Room()
    spilled: frozenset[int] = frozenset()  # buffers that live outside the device's memory
    axis: int = 0  # of the caller's map, which the planes count along

    @property
    def dtype(self) -> str:
        return {2: "bfloat16", 4: "float32", 8: "float64"}[self.itemsize]

    @property
    def summary(self) -> str:
        """What was chosen and why, in one line."""
        return describe.summary(self)

    def lines(self) -> list[str]:
        """The schedule, one line per sweep."""
        return describe.lines(self)

    def as_dict(self) -> dict[str, Any]:
        return describe.as_dict(self)

    @property
    def thickness(self) -> int:
        """Planes of the thickest slab of the last step."""
        return max(stop - start for start, stop in self.cuts[-1])

    @property
    def result_bytes(self) -> int:
        return _RESULT_BYTES * self.schedule.out_channels * prod(self.schedule.out_size)

    @cached_property
    def spilled_bytes(self) -> int:
        """Most that spilled maps take at once."""
        steps = range(len(self.schedule.steps))
        inside = set(range(len(self.schedule.buffers))) - self.spilled
        return self.itemsize * max(self.schedule.live_elements(n, inside) for n in steps)

    @property
    def spills_to_host(self) -> bool:
        return bool(self.spilled) and self.spilled_bytes <= self.room.host_bytes

    @property
    def copied(self) -> frozenset[int]:
        """Buffers whose planes are copied beside the computing, see `copies`."""
        apart = self.room.device != "cpu" and self.spills_to_host
        return self.spilled if apart else frozenset()

    @property
    def file_bytes(self) -> int:
        return 0 if self.spills_to_host else self.spilled_bytes

    @property
    def host_bytes(self) -> int:
        """Host memory beside the device's: spilled maps, and the result where it stays."""
        if self.room.device == "cpu":
            return 0
        result = 0 if self.room.streamed else self.result_bytes
        return result + (self.spilled_bytes if self.spills_to_host else 0)

    @property
    def peak_bytes(self) -> int:
        """Most that is allocated on the device at once, beside weights and source."""
        fixed = _OVERHEAD_BYTES + self.itemsize * _weights(self.schedule, self.itemsize, self.room)
        if self.room.device == "cpu" and not self.room.streamed:
            fixed += self.result_bytes
        return fixed + max(self.step_bytes(n) for n in range(len(self.cuts)))

    def step_bytes(self, index: int) -> int:
        """Alive during one step: kept maps and the work on a slab."""
        thickest = max(stop - start for start, stop in self.cuts[index])
        step = self.schedule.steps[index]
        live = shares.live_elements(self.schedule, index, self.spilled, self.room.devices)
        work = step_elements(self.schedule, step, thickest, self.room.device, self.itemsize)
        return self.itemsize * (live + work + copied_elements(step, thickest, self.copied))

    @property
    def work(self) -> float:
        """Multiply-adds over those of the network run at once; 1 where nothing is made twice."""
        once = self._work_at_once
        return sum(map(self.step_work, self.schedule.steps)) / once if once else 1.0

    @property
    def _work_at_once(self) -> int:
        net = self.schedule.network
        return multiply_adds(net, 0, len(net.passes))

    def step_work(self, step: Step) -> int:
        return multiply_adds(
            self.schedule.network, step.first, step.end, stores=step.target is not None
        )

    @property
    def seconds(self) -> float:
        """A rough time, good enough to order plans."""
        moved = 0
        for step in self.schedule.steps:
            for slot in (step.source, step.target, step.skip, step.beside):
                if slot is not None and slot.buffer in self.spilled:
                    size = step.size_in if slot in (step.source, step.skip) else step.size_out
                    moved += self.itemsize * slot.channels * prod(size)
        rate = _RATE.get(self.room.device, _RATE["cpu"])
        moving = moved / (_HOST_RATE if self.spills_to_host else _FILE_RATE)
        return self.work * self._work_at_once / rate + moving


def by_count(schedule: Schedule, slabs: int, itemsize: int = 4) -> Plan:
    """`slabs` slabs in every step, fewer where there are fewer planes."""
    chosen = (cuts.even(_planes(step), slabs) for step in schedule.steps)
    return Plan(schedule, tuple(chosen), itemsize)


def by_thickness(schedule: Schedule, planes: int, itemsize: int = 4) -> Plan:
    """At most `planes` planes where slabs are largest, slabs of equal cost elsewhere."""
    steps = schedule.steps
    planes -= planes % 2 if planes > 1 else 0
    target = max(
        step_elements(schedule, step, min(planes, _planes(step)), itemsize=itemsize)
        for step in steps
    )
    thick = [max(planes, _thickest(schedule, step, target, itemsize)) for step in steps]
    return Plan(schedule, _thick_cuts(schedule, thick), itemsize)


def choose(schedule: Schedule, itemsize: int, room: Room) -> Plan:
    """The quickest plan for what may be used.

    Raises:
        MemoryBudgetError: see `by_memory`.
    """
    if room.budget_bytes is None:
        return automatic(schedule, itemsize, room)
    return by_memory(schedule, room.budget_bytes, itemsize, room)


def automatic(schedule: Schedule, itemsize: int = 4, room: Room = Room()) -> Plan:
    """Slabs that cost little beside the maps themselves; nothing is made twice."""
    useful = _useful(schedule, itemsize)
    thick = [max(1, _thickest(schedule, step, useful, itemsize, room)) for step in schedule.steps]
    return Plan(schedule, _thick_cuts(schedule, thick), itemsize, room)


def by_memory(
    schedule: Schedule,
    budget_bytes: int,
    itemsize: int = 4,
    room: Room = Room(),
) -> Plan:
    """The quickest plan whose predicted peak keeps to `budget_bytes`.

    Raises:
        MemoryBudgetError: not even the smallest plan fits; `minimum` says what it takes.
    """
    room = replace(room, budget_bytes=budget_bytes)
    smallest = _smallest_plans(schedule, itemsize, room)
    fitting = [plan for plan in smallest if plan.peak_bytes <= budget_bytes]
    if not fitting:
        least = min(plan.peak_bytes for plan in smallest)
        raise MemoryBudgetError(
            f"this needs at least {least / 2**20:.0f} MiB, {budget_bytes / 2**20:.0f} MiB "
            "were allowed",
            "allow more memory, use bfloat16, or ask for fewer voxels",
            minimum=least,
        )
    return _thickened(min(fitting, key=lambda plan: plan.seconds), _useful(schedule, itemsize))


def smaller(plan: Plan) -> Plan | None:
    """A plan of at most 3/4 of the memory of `plan`; the smallest where there is none; or None."""
    everything = arrange(plan.schedule.network)
    least = minimum(everything, plan.itemsize, plan.room)
    if plan.peak_bytes <= least:
        return None
    target = max(least, plan.peak_bytes * 3 // 4)
    return by_memory(everything, target, plan.itemsize, plan.room)


def minimum(schedule: Schedule, itemsize: int = 4, room: Room = Room()) -> int:
    """Bytes of the smallest budget that `by_memory` accepts."""
    return min(plan.peak_bytes for plan in _smallest_plans(schedule, itemsize, room))


def _smallest_plans(schedule: Schedule, itemsize: int, room: Room) -> list[Plan]:
    """Every strategy with slabs of one plane."""
    found: list[Plan] = []
    for kept in candidates(schedule.network):
        variant = arrange(schedule.network, kept)
        thin = _thick_cuts(variant, [1] * len(variant.steps))
        for spilled in _spills(variant, itemsize, room):
            found.append(Plan(variant, thin, itemsize, room, spilled))
    return found


def _spills(schedule: Schedule, itemsize: int, room: Room) -> Iterator[frozenset[int]]:
    """Nothing, the largest buffer, the two largest, ... as far as there is room outside."""
    yield frozenset()
    order = sorted(
        range(len(schedule.buffers)), key=lambda n: schedule.buffers[n].elements, reverse=True
    )
    outside = max(room.host_bytes if room.device != "cpu" else 0, room.file_bytes)
    for count in range(1, len(order) + 1):
        plan = Plan(schedule, (), itemsize, room, frozenset(order[:count]))
        if plan.spilled_bytes <= outside:
            yield plan.spilled


def _thickened(plan: Plan, useful: int) -> Plan:
    """The same strategy with slabs as thick as is useful and fits."""
    schedule, budget = plan.schedule, plan.room.budget_bytes
    assert budget is not None
    fixed = plan.peak_bytes - max(plan.step_bytes(n) for n in range(len(plan.cuts)))
    room = (budget - fixed) // plan.itemsize
    how = plan.itemsize, plan.room, plan.copied
    thick = [
        max(1, _thickest(schedule, step, min(useful, room - live), *how))
        for step, live in (
            (step, shares.live_elements(schedule, n, plan.spilled, plan.room.devices))
            for n, step in enumerate(schedule.steps)
        )
    ]
    return replace(plan, cuts=_thick_cuts(schedule, thick))


def _useful(schedule: Schedule, itemsize: int) -> int:
    live = max(schedule.live_elements(index) for index in range(len(schedule.steps)))
    return max(_SMALL_BYTES // itemsize, live // _SHARE_OF_MAPS)


def _thick_cuts(schedule: Schedule, thick: list[int]) -> tuple[tuple[Cut, ...], ...]:
    pairs = zip(schedule.steps, thick, strict=True)
    return tuple(cuts.in_pairs(_planes(step), planes) for step, planes in pairs)


def _planes(step: Step) -> int:
    return step.size_out[0]


def step_elements(
    schedule: Schedule, step: Step, planes: int, device: str = "cpu", itemsize: int = 4
) -> int:
    """Elements alive beside the kept maps while `step` makes a slab of `planes` planes."""
    return slab_elements(
        schedule.network,
        step.first,
        step.end,
        planes,
        stores=step.target is not None,
        copies=0 if device == "cpu" else _COPIES,
        itemsize=itemsize,
    )


def copied_elements(step: Step, planes: int, copied: frozenset[int]) -> int:
    """On the device for copies of the buffers `copied` while a slab of `planes` planes is made."""
    coming = [s for s in (step.source, step.skip) if s is not None and s.buffer in copied]
    going = [s for s in (step.target, step.beside) if s is not None and s.buffer in copied]
    before = min(step.size_in[0], 1 + -(-planes * step.size_in[0] // step.size_out[0]))
    fetched = _FETCHED * before * prod(step.size_in[1:]) * sum(slot.channels for slot in coming)
    sent = _SENT * planes * prod(step.size_out[1:]) * sum(slot.channels for slot in going)
    return fetched + sent


def _thickest(
    schedule: Schedule,
    step: Step,
    elements: int,
    itemsize: int,
    room: Room = Room(),
    copied: frozenset[int] = frozenset(),
) -> int:
    """Most planes of a share whose work stays within `elements`; 0 if not even one plane does."""
    options = range(1, -(-_planes(step) // room.devices) + 1)

    def work(planes: int) -> int:
        sweep = step_elements(schedule, step, planes, room.device, itemsize)
        return sweep + copied_elements(step, planes, copied)

    return bisect_right(options, elements, key=work)


def _weights(schedule: Schedule, itemsize: int, room: Room) -> int:
    """Elements of the kernels that a run holds in its own precision or orientation.

    A convolution by pairs of planes works on views of the weights, and makes the plane kernels of
    one layer at a time.
    """
    total = largest = 0
    for work in schedule.network.passes:
        for layer in (*work.layers, *work.shortcut):
            weight = getattr(layer, "weight", None)
            if weight is None:
                continue
            if room.device == "cpu" and goes_by_pairs(layer, itemsize):
                largest = max(largest, weight.numel() * (PAIR_TAPS + 1) // PAIR_TAPS)
            elif room.copies_weights:
                total += weight.numel()
    return total + largest
