"""Copies between a device and maps in host memory that run beside the computing.

A GPU computes on one stream and copies on another. Between the two stand tickets: whoever uses what
a copy brings waits for its ticket first, and no memory is used again before the copies that read it
are done. One slab is fetched ahead of the one that is worked on, and at most two are on their way
out.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

import torch
from torch import Tensor

from synthct.tensors import Slab
from synthct.tiling.cuts import Cut

ON_THE_WAY = 2
"""Slabs that may be on their way out at once: while one is copied, the next is computed."""


class Ticket(Protocol):
    """A copy that has been asked for."""

    def join(self) -> None:
        """What is computed from now on finds the copy done."""

    def wait(self) -> None:
        """Return when the copy is done."""


class Lane(Protocol):
    """Copies in the order in which they are asked for, beside the computing."""

    def send(self, slab: Slab, place: Tensor) -> Ticket:
        """Start to copy what is computed so far of `slab` to the host; it is not written again."""

    def fetch(self, region: Tensor) -> tuple[Slab, Ticket]:
        """Start to copy a region of host memory to the device."""


class CudaLane:
    """A stream of its own. The host memory must be pinned, or the copies wait for one another."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._stream = device, torch.cuda.Stream(device)

    def send(self, slab: Slab, place: Tensor) -> Ticket:
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):
            place.copy_(slab, non_blocking=True)
        slab.record_stream(self._stream)
        return _CudaTicket(self._stream, self._device)

    def fetch(self, region: Tensor) -> tuple[Slab, Ticket]:
        with torch.cuda.stream(self._stream):
            slab = region.to(self._device, non_blocking=True)
        slab.record_stream(torch.cuda.current_stream(self._device))
        return slab, _CudaTicket(self._stream, self._device)


class _CudaTicket:
    def __init__(self, stream: torch.cuda.Stream, device: torch.device) -> None:
        self._device, self._event = device, torch.cuda.Event()
        self._event.record(stream)

    def join(self) -> None:
        torch.cuda.current_stream(self._device).wait_event(self._event)

    def wait(self) -> None:
        self._event.synchronize()


class Copies:
    """What is on its way between a device and the host."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self._out: deque[Ticket] = deque()
        self._last: Ticket | None = None  # of all: a lane keeps the order

    def send(self, slab: Slab, place: Tensor) -> None:
        while len(self._out) >= ON_THE_WAY:
            self._out.popleft().wait()
        self._last = self._lane.send(slab, place)
        self._out.append(self._last)

    def fetch(self, region: Tensor) -> tuple[Slab, Ticket]:
        slab, self._last = self._lane.fetch(region)
        return slab, self._last

    def finish(self) -> None:
        """Return when all copies are done: before the host reads, or lets memory go."""
        if self._last is not None:
            self._last.wait()
        self._last = None
        self._out.clear()


def lane_of(device: torch.device) -> Lane | None:
    """None where host memory is the device's own."""
    return CudaLane(device) if device.type == "cuda" else None


class Ahead:
    """Reads a map in host memory and fetches the next planes while these are worked on.

    It is asked for one run of planes after the other, none twice. Planes that are fetched ahead are
    not overwritten yet: what is made in place of them comes later on the same lane.

    Args:
        region: the map, or a run of its planes.
        first: the map's plane that is the region's first.
    """

    fresh = False

    def __init__(self, region: Tensor, copies: Copies, first: int = 0) -> None:
        self._region, self._copies, self._first = region, copies, first
        self._next: tuple[Cut, Slab, Ticket] | None = None

    @property
    def dtype(self) -> torch.dtype:
        return self._region.dtype

    def take(self, cut: Cut) -> Slab:
        have, slab, ticket = self._fetched(cut)
        ticket.join()
        stop = self._first + self._region.shape[2]
        if have[1] == cut[1] < stop:
            self._next = self._fetch((cut[1], min(stop, cut[1] + cut[1] - cut[0])))
        else:
            self._next = have, slab, ticket
        return slab.narrow(2, cut[0] - have[0], cut[1] - cut[0])

    def pour(self, cut: Cut, out: Slab) -> None:
        out.copy_(self.take(cut))

    def _fetched(self, cut: Cut) -> tuple[Cut, Slab, Ticket]:
        """What was fetched ahead, where that was the right guess."""
        if self._next is not None:
            have = self._next[0]
            if have[0] <= cut[0] and cut[1] <= have[1]:
                return self._next
        return self._fetch(cut)

    def _fetch(self, cut: Cut) -> tuple[Cut, Slab, Ticket]:
        here = self._region[:, :, cut[0] - self._first : cut[1] - self._first]
        return (cut, *self._copies.fetch(here))
