"""Who does which planes: one process all of them, or several processes a share each.

With several, every map is cut into as many runs of planes as there are workers. Before a sweep each
worker fetches the planes beyond its own that the sweep will look at (the halo); after it, the
statistics of all shares are merged. So the result is that of one process.
"""

from __future__ import annotations

from typing import Protocol

import torch
import torch.distributed as dist
from torch import Tensor

from synthct.tensors import FeatureMap
from synthct.tiling import cuts
from synthct.tiling.cuts import Cut
from synthct.tiling.layers import flow, needed
from synthct.tiling.schedule import Network, Schedule, Slot, Step
from synthct.tiling.statistics import Moments
from synthct.tiling.stores import Stores


class Team(Protocol):
    def own(self, extent: int) -> Cut:
        """The planes that this process makes, of `extent`."""

    def held(self, schedule: Schedule, number: int) -> Cut:
        """The planes of a buffer that this process has a place for."""

    def exchange(self, schedule: Schedule, step: Step, stores: Stores) -> None:
        """Fetch what a step reads beyond the own planes."""

    def merged(self, moments: Moments, channels: int) -> Moments:
        """The statistics of the whole map from those of the own planes."""

    def collect(self, out: FeatureMap) -> None:
        """Fill in what others have made of the result."""


class Alone:
    """One process does everything."""

    def own(self, extent: int) -> Cut:
        return 0, extent

    def held(self, schedule: Schedule, number: int) -> Cut:
        return 0, schedule.buffers[number].size[0]

    def exchange(self, schedule: Schedule, step: Step, stores: Stores) -> None:
        pass

    def merged(self, moments: Moments, channels: int) -> Moments:
        return moments

    def collect(self, out: FeatureMap) -> None:
        pass


class Workers:
    """The processes of a torch.distributed group (gloo on CPUs, nccl on GPUs).

    Every process calls `run` with the same layers, source and planner.
    """

    def __init__(self, group: dist.ProcessGroup | None = None) -> None:
        self._group = group
        self._rank, self._count = dist.get_rank(group), dist.get_world_size(group)

    def own(self, extent: int) -> Cut:
        return self._share(extent, self._rank)

    def _share(self, extent: int, rank: int) -> Cut:
        """Nothing for the last workers where there are fewer planes than workers."""
        shares = cuts.even(extent, self._count)
        return shares[rank] if rank < len(shares) else (extent, extent)

    def held(self, schedule: Schedule, number: int) -> Cut:
        first, stop = self.own(schedule.buffers[number].size[0])
        for step in schedule.steps:
            if any(s is not None and s.buffer == number for s in (step.source, step.skip)):
                reach = self._reach(schedule, step, self._rank)
                first, stop = min(first, reach[0]), max(stop, reach[1])
        return first, stop

    def _reach(self, schedule: Schedule, step: Step, rank: int) -> Cut:
        """What a worker's share of a step looks at in its source."""
        own = self._share(step.size_out[0], rank)
        if own[0] == own[1]:
            return self._share(step.size_in[0], rank)
        if step.passes and step.passes[0].whole is not None:
            return 0, step.size_in[0]
        return reach(schedule.network, step.first, step.end, own)

    def exchange(self, schedule: Schedule, step: Step, stores: Stores) -> None:
        for slot in {step.source, step.skip} - {None}:
            if slot is not None and slot.buffer >= 0:
                self._exchange(schedule, step, stores, slot)

    def _exchange(self, schedule: Schedule, step: Step, stores: Stores, slot: Slot) -> None:
        """Every pair of workers passes on what one has made and the other looks at."""
        extent = schedule.buffers[slot.buffer].size[0]
        region, first = stores.region(slot), stores.first(slot)
        waiting: list[dist.P2POp] = []
        arriving: list[tuple[Tensor, Tensor]] = []
        for other in range(self._count):
            if other == self._rank:
                continue
            out = _both(self.own(extent), self._reach(schedule, step, other))
            if out is not None:
                sent = region[:, :, out[0] - first : out[1] - first].contiguous()
                waiting.append(dist.P2POp(dist.isend, sent, self._peer(other), self._group))
            into = _both(self._share(extent, other), self._reach(schedule, step, self._rank))
            if into is not None:
                place = region[:, :, into[0] - first : into[1] - first]
                got = torch.empty(place.shape, dtype=place.dtype, device=place.device)
                waiting.append(dist.P2POp(dist.irecv, got, self._peer(other), self._group))
                arriving.append((place, got))
        for work in dist.batch_isend_irecv(waiting) if waiting else []:
            work.wait()
        for place, got in arriving:
            place.copy_(got)

    def _peer(self, rank: int) -> int:
        return rank if self._group is None else dist.get_global_rank(self._group, rank)

    def merged(self, moments: Moments, channels: int) -> Moments:
        own = moments.packed(channels)
        every = [torch.empty_like(own) for _ in range(self._count)]
        dist.all_gather(every, own, group=self._group)
        return Moments.unpacked(every)

    def collect(self, out: FeatureMap) -> None:
        dist.all_reduce(out, group=self._group)  # a sum: what others make is zero here


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


def _both(one: Cut, other: Cut) -> Cut | None:
    first, stop = max(one[0], other[0]), min(one[1], other[1])
    return (first, stop) if first < stop else None
