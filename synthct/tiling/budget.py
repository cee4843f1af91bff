"""How thick the slabs are: from a count, a thickness, or the memory that may be used."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from itertools import pairwise
from math import prod

from synthct.errors import MemoryBudgetError
from synthct.tiling import cuts
from synthct.tiling.cuts import Cut
from synthct.tiling.kernels import windows
from synthct.tiling.layers import Conv, TransposedConv, Triple
from synthct.tiling.schedule import Schedule, Step, flow

_SMALL_BYTES = 16 * 2**20  # slabs below this are not worth cutting further
_SHARE_OF_MAPS = 16  # otherwise a slab's work may take 1/16 of the maps it works on
_COPIES = 2  # a convolution library reorders what it reads and what it writes
_OVERHEAD_BYTES = 8 * 2**20  # chunks in flight in normalisation and statistics


@dataclass(frozen=True)
class Plan:
    """For each step of a schedule its slabs, and the predicted peak of what is allocated."""

    cuts: tuple[tuple[Cut, ...], ...]
    peak_bytes: int

    @property
    def thickness(self) -> int:
        """Planes of the thickest slab of the last step."""
        return max(stop - start for start, stop in self.cuts[-1])


def by_count(schedule: Schedule, slabs: int, itemsize: int = 4) -> Plan:
    """`slabs` slabs in every step, fewer where there are fewer planes."""
    return _plan(schedule, [cuts.even(s.size_out[0], slabs) for s in schedule.steps], itemsize)


def by_thickness(schedule: Schedule, planes: int, itemsize: int = 4) -> Plan:
    """At most `planes` planes where slabs are largest, slabs of equal cost elsewhere."""
    target = max(slab_elements(step, min(planes, step.size_out[0])) for step in schedule.steps)
    thick = [max(planes, _thickest(step, target)) for step in schedule.steps]
    return _plan(schedule, _thick_cuts(schedule, thick), itemsize)


def by_memory(schedule: Schedule, budget_bytes: int, itemsize: int = 4) -> Plan:
    """The thickest useful slabs whose predicted peak keeps to `budget_bytes`.

    Raises:
        MemoryBudgetError: not even slabs of one plane fit.
    """
    room = (budget_bytes - _OVERHEAD_BYTES) // itemsize
    useful = _useful(schedule, itemsize)
    thick = [
        max(1, _thickest(step, min(useful[index], room - schedule.live_elements(index))))
        for index, step in enumerate(schedule.steps)
    ]
    plan = _plan(schedule, _thick_cuts(schedule, thick), itemsize)
    if plan.peak_bytes > budget_bytes:
        least = by_count(schedule, max(s.size_out[0] for s in schedule.steps), itemsize).peak_bytes
        raise MemoryBudgetError(
            f"decoding needs at least {least / 2**20:.0f} MiB here, {budget_bytes / 2**20:.0f} MiB "
            "were allowed",
            "allow more memory, use bfloat16, or ask for fewer voxels",
        )
    return plan


def automatic(schedule: Schedule, itemsize: int = 4) -> Plan:
    """Slabs that cost little beside the maps themselves."""
    useful = _useful(schedule, itemsize)
    thick = [
        max(1, _thickest(step, limit)) for step, limit in zip(schedule.steps, useful, strict=True)
    ]
    return _plan(schedule, _thick_cuts(schedule, thick), itemsize)


def _useful(schedule: Schedule, itemsize: int) -> list[int]:
    live = max(schedule.live_elements(index) for index in range(len(schedule.steps)))
    return [max(_SMALL_BYTES // itemsize, live // _SHARE_OF_MAPS)] * len(schedule.steps)


def _thick_cuts(schedule: Schedule, thick: list[int]) -> list[tuple[Cut, ...]]:
    return [
        cuts.at_most(step.size_out[0], planes)
        for step, planes in zip(schedule.steps, thick, strict=True)
    ]


def _plan(schedule: Schedule, chosen: list[tuple[Cut, ...]], itemsize: int) -> Plan:
    peaks = [
        schedule.live_elements(index) + slab_elements(step, max(b - a for a, b in chosen[index]))
        for index, step in enumerate(schedule.steps)
    ]
    return Plan(tuple(chosen), max(peaks) * itemsize + _OVERHEAD_BYTES)


def _thickest(step: Step, elements: int) -> int:
    """Most planes whose work stays within `elements`; 0 if not even one plane does."""
    options = range(1, step.size_out[0] + 1)
    return bisect_right(options, elements, key=lambda planes: slab_elements(step, planes))


def extents(step: Step) -> list[int]:
    """Planes that exist at the input of each layer of the step's chain, and at its output."""
    return [size[0] for _, size in _grids(step)]


def _grids(step: Step) -> list[tuple[int, Triple]]:
    grids = [flow(step.work.head, step.source.channels, step.size_in)]
    for layer in step.work.chain:
        grids.append(flow((layer,), *grids[-1]))
    return grids


def slab_elements(step: Step, planes: int) -> int:
    """Elements alive beside the buffers while a slab of `planes` output planes is made."""
    if step.work.whole is not None:
        return (
            6 * step.source.channels * prod(step.size_in)
        )  # norm, queries, keys, values, sum, output
    grids = _grids(step)
    start = (step.size_out[0] - planes) // 2
    reach = windows(step.work.chain, (start, start + planes), [s[0] for _, s in grids], None)
    amounts = [
        channels * (stop - first) * size[1] * size[2]
        for (channels, size), (first, stop) in zip(grids, reach, strict=True)
    ]
    taps = [
        _taps(layer, amount, grid[0])
        for layer, amount, grid in zip(step.work.chain, amounts, grids, strict=False)
    ]
    busiest = max([_COPIES * (a + b) for a, b in pairwise(amounts)] + taps, default=0)
    plane = size_of_plane(step)
    kept = step.skip.channels if step.skip else step.beside.channels if step.beside else 0
    return amounts[0] + busiest + (kept + 1) * planes * plane


def _taps(layer: object, amount: int, channels: int) -> int:
    """Elements of the matrix product that replaces a convolution to one channel."""
    if isinstance(layer, Conv) and layer.channels == 1:
        return amount // channels * prod(layer.weight.shape[2:])
    return 0


def size_of_plane(step: Step) -> int:
    return step.size_out[1] * step.size_out[2]


def work(step: Step) -> int:
    """Multiply-adds of one output plane, for the progress bar."""
    total, channels = 0, step.source.channels
    for layer in (*step.work.layers, *step.work.shortcut):
        if isinstance(layer, Conv | TransposedConv):
            total += layer.weight.numel() * size_of_plane(step)
            channels = layer.channels
    return total + channels * size_of_plane(step)
