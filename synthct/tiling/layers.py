"""The layer kinds that tiling knows, as data, each with its rule of locality along the cut axis.

A rule is two small functions on plane numbers: `extent` (how many planes come out of n) and `reach`
(which input planes the output planes [start, stop) depend on, borders not yet considered). Group
norm depends on every plane through its statistics and so ends a pass; `Whole` is a barrier of any
kind.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, TypeAlias

from synthct.errors import GridError, SynthctError
from synthct.tiling.cuts import Cut

if TYPE_CHECKING:  # a plan is made from shapes alone, without torch
    from torch import Tensor

Triple = tuple[int, int, int]

PAIR_TAPS = 3  # of a kernel that makes its planes by pairs
# Convolutions to so few channels waste a vector unit; on a CPU a matrix product is about 5 times
# faster. They stay in float32 where the rest is in half precision, see `stays_single`.
FEW_CHANNELS = 2
_SINGLE = 4  # bytes of a float32
_FEW_FOR_PAIRS = 16  # channels below which that costs more passes over the planes than it saves


@dataclass(frozen=True)
class Kernel:
    """The shape of weights that are not there: enough to plan with."""

    shape: tuple[int, ...]

    def numel(self) -> int:
        return prod(self.shape)


class UnknownLayer(SynthctError):
    """A layer whose locality is not known, so that no exact result can be promised."""


@dataclass(frozen=True, eq=False)
class Conv:
    """Convolution with zero padding, weight (out, in / groups, 3 kernel axes)."""

    weight: Tensor
    bias: Tensor | None
    stride: Triple = (1, 1, 1)
    before: Triple = (0, 0, 0)
    after: Triple = (0, 0, 0)
    dilation: Triple = (1, 1, 1)
    groups: int = 1
    by_pairs: bool = False  # of planes: see `winograd`

    @property
    def channels(self) -> int:
        return int(self.weight.shape[0])

    @property
    def span(self) -> Triple:
        """Planes that one output voxel covers along each axis."""
        i, j, k = (
            d * (n - 1) + 1 for d, n in zip(self.dilation, self.weight.shape[2:], strict=True)
        )
        return i, j, k

    def extent(self, planes: int, axis: int = 0) -> int:
        room = planes + self.before[axis] + self.after[axis] - self.span[axis]
        return room // self.stride[axis] + 1

    def reach(self, start: int, stop: int) -> Cut:
        first = start * self.stride[0] - self.before[0]
        return first, (stop - 1) * self.stride[0] - self.before[0] + self.span[0]

    def core(self, start: int, stop: int) -> Cut:
        return start * self.stride[0], stop * self.stride[0]


@dataclass(frozen=True, eq=False)
class TransposedConv:
    """Transposed convolution, weight (in, out / groups, 3 kernel axes)."""

    weight: Tensor
    bias: Tensor | None
    stride: Triple = (2, 2, 2)
    padding: Triple = (1, 1, 1)
    output_padding: Triple = (1, 1, 1)
    groups: int = 1

    @property
    def channels(self) -> int:
        return int(self.weight.shape[1]) * self.groups

    def extent(self, planes: int, axis: int = 0) -> int:
        grown = (planes - 1) * self.stride[axis] + self.weight.shape[2 + axis]
        return int(grown) - 2 * self.padding[axis] + self.output_padding[axis]

    def reach(self, start: int, stop: int) -> Cut:
        kernel, stride, padding = int(self.weight.shape[2]), self.stride[0], self.padding[0]
        return -((kernel - 1 - start - padding) // stride), (stop - 1 + padding) // stride + 1

    def core(self, start: int, stop: int) -> Cut:
        return start // self.stride[0], -(-stop // self.stride[0])


@dataclass(frozen=True, eq=False)
class GroupNorm:
    """Group normalisation over a whole map: statistics of all planes, then an affine map."""

    groups: int
    eps: float
    weight: Tensor | None
    bias: Tensor | None


@dataclass(frozen=True, eq=False)
class Pointwise:
    """A function of one voxel and channel, e.g. SiLU. It may work in place on its argument."""

    function: Callable[[Tensor], Tensor]
    name: str


@dataclass(frozen=True, eq=False)
class Upsample:
    """Twice as many voxels along every axis; `trilinear` has half-voxel centres."""

    mode: str = "trilinear"

    def extent(self, planes: int, axis: int = 0) -> int:
        return 2 * planes

    def reach(self, start: int, stop: int) -> Cut:
        if self.mode == "nearest":
            return self.core(start, stop)
        return (start + 1) // 2 - 1, stop // 2 + 1

    def core(self, start: int, stop: int) -> Cut:
        return start // 2, (stop + 1) // 2


@dataclass(frozen=True, eq=False)
class Residual:
    """body(x) + shortcut(x). The body keeps the grid; the shortcut looks at one voxel only."""

    body: tuple[Layer, ...]
    shortcut: tuple[Layer, ...] = ()


@dataclass(frozen=True, eq=False)
class Whole:
    """Anything that mixes all voxels and keeps the shape (attention): run on the map at once."""

    function: Callable[[Tensor], Tensor]
    name: str


Local: TypeAlias = Conv | TransposedConv | Upsample | Pointwise
Layer: TypeAlias = Local | GroupNorm | Residual | Whole


def is_pointlike(layer: Layer) -> bool:
    """Whether an output voxel depends only on the input voxel at its place, given statistics."""
    if isinstance(layer, Conv):
        unpadded = not any(layer.before) and not any(layer.after)
        return layer.span == (1, 1, 1) and layer.stride == (1, 1, 1) and unpadded
    return isinstance(layer, Pointwise | GroupNorm)


def stays_single(layer: Layer, itemsize: int) -> bool:
    """Whether this layer works in float32 though maps have `itemsize` bytes an element."""
    return isinstance(layer, Conv) and layer.channels <= FEW_CHANNELS and itemsize < _SINGLE


def goes_by_pairs(layer: Layer, itemsize: int) -> bool:
    """Whether `winograd` replaces this convolution on a CPU, in numbers of `itemsize` bytes."""
    if not isinstance(layer, Conv) or itemsize < _SINGLE:
        return False
    plain = layer.stride == layer.dilation == (1, 1, 1) and layer.groups == 1
    even = layer.before[1:] == layer.after[1:]
    wide = min(layer.weight.shape[:2]) >= _FEW_FOR_PAIRS or itemsize > _SINGLE
    return plain and even and wide and layer.weight.shape[2] == PAIR_TAPS


def flow(layers: tuple[Layer, ...], channels: int, size: Triple) -> tuple[int, Triple]:
    """Channels and grid after `layers`.

    Raises:
        GridError: nothing would be left of an axis.
    """
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


def needed(layer: Local, want: Cut, planes: int, limit: int | None = None) -> Cut:
    """Input planes that the output planes `want` of `layer` depend on, of the `planes` there are.

    Args:
        limit: test hook: no more than so many halo planes on a side. None: all that are needed.
    """
    if isinstance(layer, Pointwise):
        return want
    first, last = layer.reach(*want)
    if limit is not None:
        core = layer.core(*want)
        first, last = max(first, core[0] - limit), min(last, core[1] + limit)
    return max(0, first), min(planes, last)
