"""Counting what a network holds, multiplies and stores, from shapes alone. No torch.

A forward pass is walked as the program walks it: a layer makes a map, and a map ends where the last
name for it does. The sum of what is alive has a peak, and that is the memory of the pass.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod

Triple = tuple[int, int, int]

FLOAT_BYTES, HALF_BYTES = 4, 2
_BLOCK = 16  # oneDNN lays channels out in blocks of 16 on a CPU with AVX-512


@dataclass(frozen=True)
class Map:
    """A feature map: channels, voxels along i, j, k, bytes of an element, and samples."""

    channels: int
    size: Triple
    item: int
    batch: int = 1

    @property
    def bytes(self) -> int:
        return self.batch * self.channels * prod(self.size) * self.item


@dataclass(frozen=True)
class Row:
    """One part of a pass: the most that is alive during it, and its multiply-adds."""

    name: str
    peak_bytes: int
    macs: int


@dataclass
class Tally:
    """What is alive now, the most that ever was, and the work and weights so far.

    Args:
        item: bytes of an element that a convolution or a linear layer writes.
        blocked: whether the library copies a convolution's input into its own order (oneDNN on
            CPUs; measured growth of RssAnon is input + output, or twice the output if larger).
        batch: samples that a layer is given from now on.
    """

    item: int = FLOAT_BYTES
    blocked: bool = True
    batch: int = 1
    now: int = 0
    peak: int = 0
    macs: int = 0
    parameters: int = 0
    rows: list[Row] = field(default_factory=list)
    _since: int = 0
    _macs_before: int = 0

    def hold(self, channels: int, size: Triple, item: int | None = None) -> Map:
        """A new map."""
        made = Map(channels, size, self.item if item is None else item, self.batch)
        self.now += made.bytes
        self._see(self.now)
        return made

    def free(self, *maps: Map) -> None:
        self.now -= sum(one.bytes for one in maps)

    def like(self, source: Map) -> Map:
        """A pointwise layer out of place, or a sum."""
        return self.hold(source.channels, source.size, source.item)

    def norm(self, source: Map) -> Map:
        self.parameters += 2 * source.channels
        return self.like(source)

    def conv(self, source: Map, channels: int, *, kernel: int = 3, stride: int = 1) -> Map:
        """A convolution padded so that only its stride changes the grid."""
        i, j, k = (-(-n // stride) for n in source.size)
        weights = source.channels * channels * kernel**3
        self.parameters += weights + channels
        self.macs += self.batch * weights * i * j * k
        made = self.hold(channels, (i, j, k))
        self._see(self.now + self._workspace(source, made, weights))
        return made

    def linear(self, into: int, out: int, tokens: int = 1) -> None:
        """Weights and work of a linear layer; its map, where it has a large one, is `hold`'s."""
        self.parameters += into * out + out
        self.macs += self.batch * into * out * tokens

    def part(self, name: str) -> None:
        """Close a part of the pass: a row with its own peak and work."""
        self.rows.append(Row(name, self._since, self.macs - self._macs_before))
        self._since, self._macs_before = self.now, self.macs

    def _see(self, alive: int) -> None:
        self.peak, self._since = max(self.peak, alive), max(self._since, alive)

    def _workspace(self, source: Map, made: Map, weights: int) -> int:
        """Copies in the library's own order, and the weights as it wants them."""
        if not self.blocked:
            return 0
        copies = (
            one.batch * -(-one.channels // _BLOCK) * _BLOCK * prod(one.size) * self.item
            for one in (source, made)
        )
        casts = FLOAT_BYTES // self.item  # a cast to bfloat16, then the library's order
        return max(copies) + casts * weights * self.item
