"""Which planes of every map one of several devices makes, and which it holds. No torch.

Every map is cut into as many runs of planes as there are devices. A device holds its own run, and
the planes beside it that a sweep of its own looks at.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache
from math import prod

from synthct.tiling import cuts
from synthct.tiling.cuts import Cut
from synthct.tiling.layers import flow, needed
from synthct.tiling.schedule import Network, Schedule, Step


def share(extent: int, count: int, rank: int) -> Cut:
    """Nothing for the last devices where there are fewer planes than devices.

    >>> share(7, 3, 1)
    (3, 5)
    """
    every = cuts.even(extent, count)
    return every[rank] if rank < len(every) else (extent, extent)


def held(schedule: Schedule, number: int, count: int, rank: int) -> Cut:
    """The planes of buffer `number` that device `rank` of `count` has a place for."""
    first, stop = share(schedule.buffers[number].size[0], count, rank)
    for step in schedule.steps:
        if any(s is not None and s.buffer == number for s in (step.source, step.skip)):
            seen = looks_at(schedule, step, count, rank)
            first, stop = min(first, seen[0]), max(stop, seen[1])
    return first, stop


def looks_at(schedule: Schedule, step: Step, count: int, rank: int) -> Cut:
    """What a device's share of a step looks at in its source."""
    own = share(step.size_out[0], count, rank)
    if own[0] == own[1]:
        return share(step.size_in[0], count, rank)
    if step.passes and step.passes[0].whole is not None:
        return 0, step.size_in[0]
    return reach(schedule.network, step.first, step.end, own)


def reach(net: Network, first: int, last: int, want: Cut) -> Cut:
    """Planes at boundary `first` that the planes `want` at boundary `last` depend on."""
    for number in range(last - 1, first - 1, -1):
        work = net.passes[number]
        grids = [flow(work.head, *net.maps[number])]
        for layer in work.chain:
            grids.append(flow((layer,), *grids[-1]))
        inside = want
        for layer, grid in zip(reversed(work.chain), reversed(grids[:-1]), strict=True):
            inside = needed(layer, inside, grid[1][0])
        if work.opens or work.closes or net.opened[number] is not None:
            inside = min(inside[0], want[0]), max(inside[1], want[1])  # the skip is looked at too
        want = inside
    return want


def live_elements(schedule: Schedule, step: int, without: Collection[int], count: int) -> int:
    """`Schedule.live_elements` of the device that holds the most."""
    if count == 1:
        return schedule.live_elements(step, without)
    live = [number for number in schedule.live(step) if number not in without]
    return max(sum(one[number] for number in live) for one in _held_elements(schedule, count))


@lru_cache(maxsize=8)
def _held_elements(schedule: Schedule, count: int) -> tuple[tuple[int, ...], ...]:
    """For each device the elements that it holds of each buffer."""

    def elements(number: int, rank: int) -> int:
        first, stop = held(schedule, number, count, rank)
        buffer = schedule.buffers[number]
        return (stop - first) * buffer.channels * prod(buffer.size[1:])

    numbers = range(len(schedule.buffers))
    return tuple(tuple(elements(n, rank) for n in numbers) for rank in range(count))
