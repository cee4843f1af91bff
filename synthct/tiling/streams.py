"""Planes on demand: what a sweep is made of.

A stream gives planes when asked, in increasing order and each at most once. `Reader` reads a kept
map; `Lead` does pointlike layers; `Windowed` does a layer that looks at neighbours and keeps the
planes that it will need again; `Tap` lays a block's skip aside and `Sum` adds it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol, TypeAlias

import torch
from torch import Tensor

from synthct.tensors import Slab
from synthct.tiling.cuts import Cut
from synthct.tiling.kernels import apply, memory_format
from synthct.tiling.layers import needed
from synthct.tiling.pipeline import Stage
from synthct.tiling.statistics import pieces

PlaneFunction: TypeAlias = Callable[[Slab], Slab]


class Stream(Protocol):
    def take(self, cut: Cut) -> Slab:
        """The planes [start, stop). They may be changed by the caller if `fresh`."""

    def pour(self, cut: Cut, out: Slab) -> None:
        """Write the planes [start, stop) into `out`."""

    @property
    def fresh(self) -> bool: ...


def planes(region: Tensor, cut: Cut) -> Slab:
    return region[:, :, cut[0] : cut[1]]


class Reader:
    """A kept map: views of it, or copies on `device` where it lives elsewhere."""

    fresh = False

    def __init__(self, region: Tensor, device: torch.device, first: int = 0) -> None:
        self._region, self._device, self._first = region, device, first

    @property
    def dtype(self) -> torch.dtype:
        return self._region.dtype

    def take(self, cut: Cut) -> Slab:
        here = planes(self._region, (cut[0] - self._first, cut[1] - self._first))
        return here.to(self._device, non_blocking=True)

    def pour(self, cut: Cut, out: Slab) -> None:
        out.copy_(self.take(cut))


class Lead:
    """Pointlike layers, a few planes at a time so that they stay in the cache."""

    fresh = True

    def __init__(self, source: Stream, functions: list[PlaneFunction]) -> None:
        self._source, self._functions = source, functions

    def take(self, cut: Cut) -> Slab:
        return self._applied(self._source.take(cut))

    def pour(self, cut: Cut, out: Slab) -> None:
        got = self._source.take(cut)
        for part, rows in pieces(got):
            out[:, :, part, rows].copy_(self._applied(got[:, :, part, rows]))

    def _applied(self, got: Slab) -> Slab:
        for function in self._functions:
            got = function(got)
        return got


class Windowed:
    """A layer that looks at neighbours: rolls a window of prepared planes along.

    Args:
        extent: planes that the source has.
        dtype: of the window.
        roll: False where the source may be read again: then no window is held.
        halo_limit: test hook, see `layers.needed`.
    """

    fresh = True

    def __init__(
        self,
        stage: Stage,
        source: Stream,
        dtype: torch.dtype,
        device: torch.device,
        *,
        roll: bool,
        halo_limit: int | None,
    ) -> None:
        self._stage, self._source = stage, source
        self._dtype, self._device = dtype, device
        self._extent, self._limit, self._roll = stage.size[0], halo_limit, roll
        self._held: Cut = (0, 0)
        self._window: Tensor | None = None
        self._first = 0  # the plane at the front of the window

    def take(self, cut: Cut) -> Slab:
        reach = needed(self._stage.layer, cut, self._extent, self._limit)
        slab = self._rolled(reach) if self._roll else self._source.take(reach)
        return apply(self._stage.layer, slab, reach, cut)

    def pour(self, cut: Cut, out: Slab) -> None:
        out.copy_(self.take(cut))

    def _rolled(self, want: Cut) -> Slab:
        have = self._make_room(want)
        for start in range(have, want[1], self._stage.fresh):
            part = start, min(start + self._stage.fresh, want[1])
            self._source.pour(part, self._place(part))
        self._held = want
        return self._place(want)

    def _make_room(self, want: Cut) -> int:
        """See that the window can hold `want`; return the first plane of it that is lacking."""
        again = want[0], max(want[0], self._held[1])
        old = self._window
        if old is not None and want[1] - self._first <= old.shape[2]:
            return again[1]
        overlap = None if old is None else self._place(again)
        if old is None or old.shape[2] < want[1] - want[0]:
            self._window = self._allocated(max(self._stage.room, want[1] - want[0]))
        elif again[1] - again[0] > want[0] - self._first and overlap is not None:
            overlap = overlap.clone()  # the two places overlap
        self._first = want[0]
        if overlap is not None:
            self._place(again).copy_(overlap)
        return again[1]

    def _place(self, cut: Cut) -> Slab:
        assert self._window is not None
        return planes(self._window, (cut[0] - self._first, cut[1] - self._first))

    def _allocated(self, room: int) -> Tensor:
        channels, plane = self._stage.channels, self._stage.size[1:]
        return torch.empty(
            (1, channels, room, *plane),
            dtype=self._dtype,
            device=self._device,
            memory_format=memory_format(self._device),
        )


class Hold:
    """Planes of a skip that wait until the body of their block has caught up."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Cut, Slab]] = []

    def put(self, cut: Cut, slab: Slab) -> None:
        self._waiting.append((cut, slab))

    def pieces(self, cut: Cut) -> Iterator[tuple[Cut, Slab]]:
        """What is held of [start, stop), piece by piece; what lies before it is let go."""
        self._waiting = [(have, slab) for have, slab in self._waiting if have[1] > cut[0]]
        for have, slab in list(self._waiting):
            both = max(have[0], cut[0]), min(have[1], cut[1])
            if both[0] < both[1]:
                yield both, planes(slab, (both[0] - have[0], both[1] - have[0]))
        self._waiting = [(have, slab) for have, slab in self._waiting if have[1] > cut[1]]


class Stored:
    """A skip that a former sweep has stored, with the same face as `Hold`."""

    def __init__(self, reader: Stream) -> None:
        self._reader = reader

    def pieces(self, cut: Cut) -> Iterator[tuple[Cut, Slab]]:
        yield cut, self._reader.take(cut)


class Tap:
    """Passes planes on and lays shortcut(planes) aside."""

    def __init__(self, source: Stream, hold: Hold, shortcut: list[PlaneFunction]) -> None:
        self._source, self._hold, self._shortcut = source, hold, shortcut

    @property
    def fresh(self) -> bool:
        return self._source.fresh and bool(self._shortcut)

    def take(self, cut: Cut) -> Slab:
        got = self._source.take(cut)
        skip = got
        for function in self._shortcut:
            skip = function(skip)
        self._hold.put(cut, skip)
        return got

    def pour(self, cut: Cut, out: Slab) -> None:
        out.copy_(self.take(cut))


class Sum:
    """body + skip."""

    fresh = True

    def __init__(self, body: Stream, skip: Hold | Stored) -> None:
        self._body, self._skip = body, skip

    def take(self, cut: Cut) -> Slab:
        slab = self._body.take(cut)
        for part, skip in self._skip.pieces(cut):
            planes(slab, (part[0] - cut[0], part[1] - cut[0])).add_(skip)
        return slab

    def pour(self, cut: Cut, out: Slab) -> None:
        out.copy_(self.take(cut))
