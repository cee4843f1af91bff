"""The layer kinds that tiling knows, as data, each with its rule of locality along the cut axis.

A rule is two small functions on plane numbers: `extent` (how many planes come out of n) and `reach`
(which input planes the output planes [start, stop) depend on, borders not yet considered). Group
norm depends on every plane through its statistics and so ends a pass; `Whole` is a barrier of any
kind.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor, nn

from synthct.errors import SynthctError
from synthct.tiling.cuts import Cut

Triple = tuple[int, int, int]


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


def silu() -> Pointwise:
    return Pointwise(lambda x: nn.functional.silu(x, inplace=True), "silu")


def from_torch(module: nn.Module) -> Layer:
    """Describe a plain torch layer.

    Raises:
        UnknownLayer: the module is of another kind, or pads with something else than zeros.
    """
    kind = type(module)
    if kind is nn.Conv3d and isinstance(module, nn.Conv3d):
        return _from_conv(module)
    if kind is nn.ConvTranspose3d and isinstance(module, nn.ConvTranspose3d):
        return _from_transposed(module)
    if kind is nn.SiLU:
        return silu()
    if isinstance(module, nn.GroupNorm) and kind is nn.GroupNorm:
        return GroupNorm(module.num_groups, module.eps, module.weight, module.bias)
    raise UnknownLayer(
        f"tiling does not know the layer {kind.__name__}; it knows convolutions, group norm, "
        "pointwise functions, x2 upsampling, residual sums and attention",
        "run this network unsplit, or describe the layer in synthct/tiling/layers.py",
    )


def _from_conv(module: nn.Conv3d) -> Conv:
    if module.padding_mode != "zeros" or isinstance(module.padding, str):
        raise UnknownLayer(
            f"convolution with {module.padding_mode} padding {module.padding!r}; "
            "tiling knows zero padding given in voxels",
        )
    padding = _triple(module.padding)
    return Conv(
        module.weight,
        module.bias,
        _triple(module.stride),
        padding,
        padding,
        _triple(module.dilation),
        module.groups,
    )


def _from_transposed(module: nn.ConvTranspose3d) -> TransposedConv:
    if _triple(module.dilation) != (1, 1, 1):
        raise UnknownLayer("dilated transposed convolution; tiling knows undilated ones")
    assert not isinstance(module.padding, str)
    return TransposedConv(
        module.weight,
        module.bias,
        _triple(module.stride),
        _triple(module.padding),
        _triple(module.output_padding),
        module.groups,
    )


def _triple(values: tuple[int, ...]) -> Triple:
    i, j, k = values
    return i, j, k


def _turn(values: Triple, axis: int) -> Triple:
    """Swap entry 0 and entry `axis`."""
    turned = list(values)
    turned[0], turned[axis] = turned[axis], turned[0]
    return turned[0], turned[1], turned[2]


def prepare(layer: Layer, axis: int, dtype: torch.dtype) -> Layer:
    """The same layer for a map whose axes 0 and `axis` are swapped, its kernels in `dtype`.

    Group norm keeps its own precision: its affine map is applied to float32 statistics.
    """
    if isinstance(layer, Conv):
        return Conv(
            layer.weight.to(dtype).transpose(2, 2 + axis).contiguous(),
            None if layer.bias is None else layer.bias.to(dtype),
            _turn(layer.stride, axis),
            _turn(layer.before, axis),
            _turn(layer.after, axis),
            _turn(layer.dilation, axis),
            layer.groups,
        )
    if isinstance(layer, TransposedConv):
        return TransposedConv(
            layer.weight.to(dtype).transpose(2, 2 + axis).contiguous(),
            None if layer.bias is None else layer.bias.to(dtype),
            _turn(layer.stride, axis),
            _turn(layer.padding, axis),
            _turn(layer.output_padding, axis),
            layer.groups,
        )
    if isinstance(layer, Residual):
        return Residual(
            tuple(prepare(inner, axis, dtype) for inner in layer.body),
            tuple(prepare(inner, axis, dtype) for inner in layer.shortcut),
        )
    if isinstance(layer, Whole):
        inner = layer.function
        return Whole(lambda x: inner(x.transpose(2, 2 + axis)).transpose(2, 2 + axis), layer.name)
    return layer
