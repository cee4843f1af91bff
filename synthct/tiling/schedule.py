"""A schedule: which sweeps are made over the planes, and where each map lives.

Every boundary between two passes holds a map. Some boundaries are kept: their maps are stored. The
others are never stored: a sweep runs from the last kept map straight through several passes, once
for each boundary whose statistics the next pass needs, and at last to the next kept map. So keeping
everything means no work twice, and keeping little means little memory.

Kept maps of one resolution share a buffer: a map is overwritten plane by plane by the one made from
it, and a residual sum lands on its skip. A buffer then holds the channels [hidden | skip], and no
sweep adds a map of its own.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from math import prod

from synthct.tiling.layers import Layer, Triple, UnknownLayer, flow
from synthct.tiling.passes import Pass, passes

INPUT = -1  # the caller's tensor: read only
OUTPUT = -2  # the caller's result: written once


@dataclass(frozen=True)
class Slot:
    """Some channels of a buffer: its first ones, or its last ones where `high`."""

    buffer: int
    channels: int
    high: bool = False


@dataclass(frozen=True, eq=False)
class Step:
    """One sweep through the passes [first, first + len(passes)), with its places and grids."""

    first: int
    passes: tuple[Pass, ...]
    source: Slot
    target: Slot | None  # None: the sweep only measures
    size_in: Triple
    size_out: Triple
    beside: Slot | None = None  # where the skip of a block that stays open is written
    skip: Slot | None = None  # where the skip of a block that was open before is found
    gather: bool = False  # whether the next pass needs the statistics of what comes out

    @property
    def end(self) -> int:
        """The boundary at which the sweep ends."""
        return self.first + len(self.passes)

    @property
    def in_place(self) -> bool:
        same = self.target is not None and self.source.buffer == self.target.buffer
        return same and self.source.buffer >= 0


@dataclass
class Buffer:
    """Channels and grid of one buffer, and the steps [first, last] during which it exists."""

    size: Triple
    first: int
    channels: int = 0
    last: int = 0

    @property
    def elements(self) -> int:
        return self.channels * prod(self.size)


@dataclass(frozen=True, eq=False)
class Network:
    """Passes, and channels and grid of the map at every boundary, the input's first."""

    passes: tuple[Pass, ...]
    maps: tuple[tuple[int, Triple], ...]
    opened: tuple[int | None, ...]
    """The residual block that is open at a boundary: the number of its first pass."""

    @property
    def barriers(self) -> frozenset[int]:
        """Boundaries that must be kept: around layers that see a map at once."""
        around = (b for n, p in enumerate(self.passes) if p.whole for b in (n, n + 1))
        return frozenset(b for b in around if 0 < b < len(self.passes))

    def grows(self, first: int, last: int) -> bool:
        return prod(self.maps[last][1]) > prod(self.maps[first][1])

    def keeps_grid(self, first: int, last: int) -> bool:
        sizes = {size for _, size in self.maps[first : last + 1]}
        return len(sizes) == 1 and all(
            flow((layer,), *self.maps[n])[1] == self.maps[n][1]
            for n in range(first, last)
            for layer in self.passes[n].layers
        )


@dataclass(frozen=True, eq=False)
class Schedule:
    network: Network
    kept: frozenset[int]
    steps: tuple[Step, ...]
    buffers: tuple[Buffer, ...]

    @property
    def out_channels(self) -> int:
        return self.network.maps[-1][0]

    @property
    def out_size(self) -> Triple:
        return self.network.maps[-1][1]

    def live(self, step: int) -> tuple[int, ...]:
        """The buffers that exist during a step."""
        return tuple(n for n, b in enumerate(self.buffers) if b.first <= step <= b.last)

    def live_elements(self, step: int, without: Collection[int] = ()) -> int:
        """Elements of the buffers that exist during a step and are not in `without`."""
        return sum(self.buffers[n].elements for n in self.live(step) if n not in without)


def network(layers: tuple[Layer, ...], channels: int, size: Triple) -> Network:
    """The passes of `layers` on a map of `channels` and `size` voxels.

    Raises:
        UnknownLayer: see `passes`; or a residual block whose body changes the grid.
        GridError: the map is too small for a layer (a strided convolution needs 2 planes).
    """
    found = passes(layers)
    maps = [(channels, size)]
    block: list[int | None] = [None]
    for number, work in enumerate(found):
        maps.append(flow(work.layers, *maps[-1]))
        start = number if work.opens else block[-1]
        if start is not None and maps[-1][1] != maps[start][1]:
            raise UnknownLayer("a residual block whose body changes the grid")
        block.append(None if work.closes else start)
    return Network(tuple(found), tuple(maps), tuple(block))


def schedule(
    layers: tuple[Layer, ...], channels: int, size: Triple, kept: Iterable[int] | None = None
) -> Schedule:
    """The run of `layers` on a map of `channels` and `size` voxels, keeping everything by default.

    Raises:
        UnknownLayer, GridError: see `network`.
    """
    return arrange(network(layers, channels, size), kept)


def arrange(net: Network, kept: Iterable[int] | None = None) -> Schedule:
    """The schedule that keeps the maps at the boundaries `kept`, and those that must be."""
    inner = range(1, len(net.passes))
    chosen = frozenset(inner) if kept is None else frozenset(kept) & frozenset(inner)
    chosen |= net.barriers
    placer = _Placer(net)
    for first, last in pairwise([0, *sorted(chosen), len(net.passes)]):
        placer.segment(first, last)
    return Schedule(net, chosen, tuple(placer.steps), tuple(placer.buffers))


@dataclass
class _Placer:
    """Gives every kept map its slot, in order; `at` is where the current one lives."""

    net: Network
    buffers: list[Buffer] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    skip: Slot | None = None  # of the block that is open at the current boundary

    def __post_init__(self) -> None:
        self.at = Slot(INPUT, self.net.maps[0][0])

    def segment(self, first: int, last: int) -> None:
        """From one kept boundary to the next: measure what lies between, then store."""
        if self.net.grows(first, last):
            self._compact(first)
        for boundary in range(first + 1, last):
            if self.net.passes[boundary].needs_statistics:
                self._record(self._step(first, boundary, None, None))
        skip, target, beside = self._places(first, last)
        self._record(self._step(first, last, target, beside), skip)
        self.at, self.skip = target, skip

    def _step(self, first: int, last: int, target: Slot | None, beside: Slot | None) -> Step:
        net = self.net
        closes = net.opened[first] is not None and net.opened[last] != net.opened[first]
        following = net.passes[last].needs_statistics if last < len(net.passes) else False
        return Step(
            first,
            net.passes[first:last],
            self.at,
            target,
            net.maps[first][1],
            net.maps[last][1],
            beside,
            self.skip if closes else None,
            following,
        )

    def _places(self, first: int, last: int) -> tuple[Slot | None, Slot, Slot | None]:
        """The slots at `last`: of the skip of an open block, of the map, and of a new skip."""
        opened = self.net.opened[last]
        if opened is None:
            return None, self._closed(first, last), None
        if opened == self.net.opened[first]:
            return self.skip, self._hidden(first, last, self.skip), None
        shortcut = self.net.passes[opened].shortcut
        if opened == first and not shortcut:  # the source itself is the skip, and stays
            return self.at, self._hidden(first, last, self.at), None
        kept, _ = flow(shortcut, *self.net.maps[opened])
        buffer = self._same_or_new(first, last)
        skip = Slot(buffer, kept, high=True)
        return skip, Slot(buffer, self.net.maps[last][0]), skip

    def _closed(self, first: int, last: int) -> Slot:
        channels = self.net.maps[last][0]
        if last == len(self.net.passes):
            return Slot(OUTPUT, channels)
        kept = self.skip if self.skip is not None and self.skip.buffer >= 0 else self.at
        if kept.buffer >= 0 and self.net.keeps_grid(first, last):
            return Slot(kept.buffer, channels, kept.high)
        return Slot(self._new(last), channels)

    def _hidden(self, first: int, last: int, skip: Slot | None) -> Slot:
        """A place beside the skip."""
        channels = self.net.maps[last][0]
        if skip is not None and skip.buffer >= 0:
            return Slot(skip.buffer, channels, not skip.high)
        return Slot(self._same_or_new(first, last), channels)

    def _same_or_new(self, first: int, last: int) -> int:
        keep = self.at.buffer >= 0 and self.net.keeps_grid(first, last)
        return self.at.buffer if keep else self._new(last)

    def _compact(self, boundary: int) -> None:
        """Move the map into a buffer of its own before a larger one is made beside it."""
        wide = self.at.buffer >= 0 and self.buffers[self.at.buffer].channels > self.at.channels
        if wide and self.net.opened[boundary] is None:
            size = self.net.maps[boundary][1]
            target = Slot(self._new(boundary), self.at.channels)
            self._record(Step(boundary, (), self.at, target, size, size))
            self.at = target

    def _new(self, boundary: int) -> int:
        self.buffers.append(Buffer(self.net.maps[boundary][1], first=len(self.steps)))
        return len(self.buffers) - 1

    def _record(self, step: Step, skip: Slot | None = None) -> None:
        """Append a step; buffers in use last until now and hold what lives in them together."""
        for together in ({step.source, self.skip}, {step.target, skip}):
            slots = [slot for slot in together if slot is not None and slot.buffer >= 0]
            for slot in slots:
                buffer = self.buffers[slot.buffer]
                buffer.last = len(self.steps)
                channels = sum(s.channels for s in slots if s.buffer == slot.buffer)
                buffer.channels = max(buffer.channels, channels)
        self.steps.append(step)
