"""From a list of layers to a schedule: which passes over the planes, and where each map lives.

A pass reads one map plane by plane and writes another. It ends where the next layer needs
statistics of all planes (group norm) or more neighbours than one convolution asks for. Maps of one
resolution share a buffer: a map is overwritten plane by plane by the one made from it, and a
residual sum lands on its skip. So a buffer holds the channels [hidden | skip], and no pass adds a
map of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from synthct.errors import GridError
from synthct.tiling.layers import (
    Conv,
    GroupNorm,
    Layer,
    Local,
    Pointwise,
    Residual,
    TransposedConv,
    Triple,
    UnknownLayer,
    Upsample,
    Whole,
    is_pointlike,
)

INPUT = -1  # the caller's tensor: read only
OUTPUT = -2  # the caller's result: written once


@dataclass(frozen=True, eq=False)
class Pass:
    """One sweep: `head` on each plane alone, then `chain` on windows of planes."""

    head: tuple[Layer, ...] = ()
    chain: tuple[Local, ...] = ()
    shortcut: tuple[Layer, ...] = ()
    opens: bool = False  # begins a residual block: keeps shortcut(input) as the skip
    closes: bool = False  # ends a residual block: adds the skip
    whole: Whole | None = None

    @property
    def layers(self) -> tuple[Layer, ...]:
        return (*self.head, *self.chain)

    @property
    def needs_statistics(self) -> bool:
        return any(isinstance(layer, GroupNorm) for layer in (*self.head, *self.shortcut))


@dataclass(frozen=True)
class Slot:
    """Some channels of a buffer: its first ones, or its last ones where `high`."""

    buffer: int
    channels: int
    high: bool = False


@dataclass(frozen=True, eq=False)
class Step:
    """A pass with its places and grids."""

    work: Pass
    source: Slot
    target: Slot
    size_in: Triple
    size_out: Triple
    beside: Slot | None = None  # where an opening pass writes the skip
    skip: Slot | None = None  # where a closing pass finds it
    gather: bool = False  # whether the next step needs the target's statistics

    @property
    def in_place(self) -> bool:
        return self.source.buffer == self.target.buffer and self.source.buffer >= 0


@dataclass
class Buffer:
    """Channels and grid of one buffer, and the steps [first, last] during which it exists."""

    size: Triple
    first: int
    channels: int = 0
    widest: int = 0  # channels of the widest map that lives here
    last: int = 0

    @property
    def elements(self) -> int:
        return self.channels * self.size[0] * self.size[1] * self.size[2]


@dataclass(frozen=True, eq=False)
class Schedule:
    steps: tuple[Step, ...]
    buffers: tuple[Buffer, ...]

    @property
    def out_channels(self) -> int:
        return self.steps[-1].target.channels

    @property
    def out_size(self) -> Triple:
        return self.steps[-1].size_out

    def live_elements(self, step: int) -> int:
        """Elements of all buffers that exist during a step."""
        return sum(b.elements for b in self.buffers if b.first <= step <= b.last)


def passes(layers: tuple[Layer, ...]) -> list[Pass]:
    """Cut a list of layers into passes.

    Raises:
        UnknownLayer: a layer, or its place inside a residual block, is not known to be local.
    """
    found: list[Pass] = []
    run: list[Layer] = []
    for layer in layers:
        if isinstance(layer, Residual | Whole):
            found += _sweeps(run)
            run = []
            found += _residual(layer) if isinstance(layer, Residual) else [Pass(whole=layer)]
        else:
            run.append(layer)
    return found + _sweeps(run)


def _sweeps(layers: list[Layer]) -> list[Pass]:
    found: list[Pass] = []
    group: list[Layer] = []
    for layer in layers:
        _check_known(layer)
        if group and (isinstance(layer, GroupNorm) or (_mixes(layer) and any(map(_mixes, group)))):
            found.append(_sweep(group))
            group = []
        group.append(layer)
    return [*found, _sweep(group)] if group else found


def _mixes(layer: Layer) -> bool:
    return isinstance(layer, Conv | TransposedConv) and not is_pointlike(layer)


def _check_known(layer: object) -> None:
    if not isinstance(layer, Conv | TransposedConv | Upsample | Pointwise | GroupNorm):
        raise UnknownLayer(
            f"tiling does not know the layer kind {type(layer).__name__} at this place",
            "describe it in synthct/tiling/layers.py with its halo, or run the network unsplit",
        )


def _sweep(group: list[Layer]) -> Pass:
    pointlike = [is_pointlike(layer) for layer in group]
    split = pointlike.index(False) if False in pointlike else len(group)
    chain = tuple(layer for layer in group[split:] if not isinstance(layer, GroupNorm))
    return Pass(tuple(group[:split]), chain)  # type: ignore[arg-type]


def _residual(block: Residual) -> list[Pass]:
    if not block.body or not all(is_pointlike(layer) for layer in block.shortcut):
        raise UnknownLayer(
            "a residual block with an empty body or a shortcut that looks beyond one voxel",
            "tiling knows 1x1x1 and pointwise shortcuts",
        )
    body = _sweeps(list(block.body))
    last = len(body) - 1
    return [
        Pass(
            sweep.head,
            sweep.chain,
            block.shortcut if index == 0 else (),
            opens=index == 0,
            closes=index == last,
        )
        for index, sweep in enumerate(body)
    ]


def schedule(layers: tuple[Layer, ...], channels: int, size: Triple) -> Schedule:
    """Plan the run of `layers` on a map of `channels` and `size` voxels.

    Raises:
        UnknownLayer: see `passes`.
        GridError: the map is too small for a layer (a strided convolution needs 2 planes).
    """
    work = passes(layers)
    if not work:
        raise UnknownLayer("an empty list of layers: there is nothing to run")
    placer = _Placer(channels, size)
    for index, sweep in enumerate(work):
        following = work[index + 1] if index + 1 < len(work) else None
        placer.place(sweep, following)
    return Schedule(tuple(placer.steps), tuple(placer.buffers))


def flow(layers: tuple[Layer, ...], channels: int, size: Triple) -> tuple[int, Triple]:
    """Channels and grid after `layers`."""
    for layer in layers:
        if isinstance(layer, Conv | TransposedConv):
            channels = layer.channels
        if isinstance(layer, Conv | TransposedConv | Upsample):
            grown = [layer.extent(n, axis) for axis, n in enumerate(size)]
            size = grown[0], grown[1], grown[2]
    if min(size) < 1:
        raise GridError(
            f"a layer would leave {size} voxels; every axis of a map must keep at least 1",
            "use a larger volume",
        )
    return channels, size


@dataclass
class _Placer:
    """Gives every pass its slots, in order; `at` is where the current map lives."""

    channels: int
    size: Triple
    buffers: list[Buffer] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    skip: Slot | None = None

    def __post_init__(self) -> None:
        self.at = Slot(INPUT, self.channels)

    def place(self, work: Pass, following: Pass | None) -> None:
        channels, size = flow(work.layers, self.at.channels, self.size)
        if (work.opens or self.skip) and size != self.size:
            raise UnknownLayer("a residual block whose body changes the grid")
        if _grows(self.size, size):
            self._compact(work.needs_statistics)
        beside = self._open(work, channels) if work.opens and not work.closes else None
        target = self._target(work, channels, size)
        if following is None:
            target = Slot(OUTPUT, channels)
        skip = self.skip if work.closes else None
        gather = following is not None and following.needs_statistics
        self._record(Step(work, self.at, target, self.size, size, beside, skip, gather))
        if work.closes:
            self.skip = None

    def _open(self, work: Pass, channels: int) -> Slot | None:
        """Choose the skip's place; None where the skip is the source itself."""
        if not work.shortcut:
            self.skip = self.at
            return None
        kept, _ = flow(work.shortcut, self.at.channels, self.size)
        buffer = self.at.buffer if self.at.buffer >= 0 else self._new(self.size)
        self.skip = Slot(buffer, kept, high=True)
        return self.skip

    def _target(self, work: Pass, channels: int, size: Triple) -> Slot:
        if self.skip is not None and self.skip.buffer >= 0:
            if work.closes:
                return self.skip
            return Slot(self.skip.buffer, channels, not self.skip.high)
        if size != self.size or self.at.buffer < 0:
            return Slot(self._new(size), channels)
        return Slot(self.at.buffer, channels, self.at.high)

    def _compact(self, gather: bool) -> None:
        """Move the map into a buffer of its own before a larger one is made beside it."""
        if self.at.buffer >= 0 and self.buffers[self.at.buffer].channels > self.at.channels:
            target = Slot(self._new(self.size), self.at.channels)
            self._record(Step(Pass(), self.at, target, self.size, self.size, gather=gather))

    def _new(self, size: Triple) -> int:
        self.buffers.append(Buffer(size, first=len(self.steps)))
        return len(self.buffers) - 1

    def _record(self, step: Step) -> None:
        live = {
            slot for slot in (step.target, step.beside, step.skip, self.skip) if slot is not None
        }
        for slot in (step.source, *live):
            if slot.buffer >= 0:
                buffer = self.buffers[slot.buffer]
                buffer.last = len(self.steps)
                together = sum(s.channels for s in live if s.buffer == slot.buffer)
                buffer.channels = max(buffer.channels, together, slot.channels)
                buffer.widest = max(buffer.widest, slot.channels)
        self.steps.append(step)
        self.at, self.size = step.target, step.size_out


def _grows(before: Triple, after: Triple) -> bool:
    return after[0] * after[1] * after[2] > before[0] * before[1] * before[2]
