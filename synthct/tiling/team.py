"""Who does which planes: one process all of them, or several processes a share each.

With several, every map is cut into as many runs of planes as there are workers. Before a sweep each
worker fetches the planes beyond its own that the sweep will look at (the halo); after it, the
statistics of all shares are merged. So the result is that of one process.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
import torch.distributed as dist
from torch import Tensor

from synthct.tensors import FeatureMap
from synthct.tiling import shares
from synthct.tiling.cuts import Cut
from synthct.tiling.heap import is_out_of_memory
from synthct.tiling.schedule import Schedule, Slot, Step
from synthct.tiling.statistics import Moments
from synthct.tiling.stores import Stores


class Team(Protocol):
    def own(self, extent: int) -> Cut:
        """The planes that this process makes, of `extent`."""

    def held(self, schedule: Schedule, number: int) -> Cut:
        """The planes of a buffer that this process has a place for."""

    def exchange(self, schedule: Schedule, step: Step, stores: Stores) -> None:
        """Fetch what a step reads beyond the own planes."""

    def all_do(self, part: Callable[[], None]) -> None:
        """Do one's part. Where memory runs out for one, it does for all: each raises, none waits.

        Raises:
            MemoryError: for another; one's own error comes as it is.
        """

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

    def all_do(self, part: Callable[[], None]) -> None:
        part()

    def merged(self, moments: Moments, channels: int) -> Moments:
        return moments

    def collect(self, out: FeatureMap) -> None:
        pass


class Workers:
    """The processes of a torch.distributed group of the kind gloo, one for each device.

    Every process calls `run` with the same layers, source and planner. What they tell one another
    goes through host memory, whatever their devices.
    """

    def __init__(self, group: dist.ProcessGroup | None = None) -> None:
        self._group = group
        self._rank, self._count = dist.get_rank(group), dist.get_world_size(group)

    def own(self, extent: int) -> Cut:
        return shares.share(extent, self._count, self._rank)

    def held(self, schedule: Schedule, number: int) -> Cut:
        return shares.held(schedule, number, self._count, self._rank)

    def exchange(self, schedule: Schedule, step: Step, stores: Stores) -> None:
        for slot in _kept(step):
            self._exchange(schedule, step, stores, slot)

    def _exchange(self, schedule: Schedule, step: Step, stores: Stores, slot: Slot) -> None:
        """Every pair of workers passes on what one has made and the other looks at."""
        extent = schedule.buffers[slot.buffer].size[0]
        region, first = stores.region(slot), stores.first(slot)
        waiting: list[dist.P2POp] = []
        arriving: list[tuple[Tensor, Tensor]] = []

        def place(cut: Cut) -> Tensor:
            return region[:, :, cut[0] - first : cut[1] - first]

        def prepare() -> None:
            for other in range(self._count):
                if other == self._rank:
                    continue
                theirs = shares.looks_at(schedule, step, self._count, other)
                out = _both(self.own(extent), theirs)
                if out is not None:
                    sent = place(out).contiguous().cpu()
                    waiting.append(dist.P2POp(dist.isend, sent, self._peer(other), self._group))
                mine = shares.looks_at(schedule, step, self._count, self._rank)
                into = _both(shares.share(extent, self._count, other), mine)
                if into is not None:
                    got = torch.empty(place(into).shape, dtype=region.dtype)
                    waiting.append(dist.P2POp(dist.irecv, got, self._peer(other), self._group))
                    arriving.append((place(into), got))

        self.all_do(prepare)
        for work in dist.batch_isend_irecv(waiting) if waiting else []:
            work.wait()
        for there, got in arriving:
            there.copy_(got)

    def _peer(self, rank: int) -> int:
        return rank if self._group is None else dist.get_global_rank(self._group, rank)

    def all_do(self, part: Callable[[], None]) -> None:
        short: BaseException | None = None
        try:
            part()
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            short = error.with_traceback(None)  # its frames hold what must be given back
        flag = torch.tensor([short is not None], dtype=torch.int32)
        dist.all_reduce(flag, dist.ReduceOp.MAX, group=self._group)
        if short is not None:
            raise short
        if flag.item():
            raise MemoryError("another device of the team ran out of memory")

    def merged(self, moments: Moments, channels: int) -> Moments:
        own = moments.packed(channels)
        every = [torch.empty_like(own) for _ in range(self._count)]
        dist.all_gather(every, own, group=self._group)
        return Moments.unpacked(every)

    def collect(self, out: FeatureMap) -> None:
        dist.all_reduce(out, group=self._group)  # a sum: what others make is zero here


def _kept(step: Step) -> list[Slot]:
    """What a step reads of kept maps, in an order that is the same for all workers."""
    slots = [step.source] if step.skip in (None, step.source) else [step.source, step.skip]
    return [slot for slot in slots if slot is not None and slot.buffer >= 0]


def _both(one: Cut, other: Cut) -> Cut | None:
    first, stop = max(one[0], other[0]), min(one[1], other[1])
    return (first, stop) if first < stop else None
