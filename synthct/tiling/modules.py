"""Layers from torch modules, and made ready to run: axes turned, kernels in the right precision."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from synthct.tiling import winograd
from synthct.tiling.layers import (
    Conv,
    GroupNorm,
    Layer,
    Pointwise,
    Residual,
    TransposedConv,
    Triple,
    UnknownLayer,
    Whole,
    stays_single,
)


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

    Group norm keeps its own precision: its affine map is applied to float32 statistics. So do
    convolutions to very few channels: they cost next to nothing, and their result is not stored in
    half precision.
    """
    if isinstance(layer, Conv):
        if stays_single(layer, dtype.itemsize):
            dtype = torch.float32
        turned = Conv(
            layer.weight.to(dtype).transpose(2, 2 + axis),
            None if layer.bias is None else layer.bias.to(dtype),
            _turn(layer.stride, axis),
            _turn(layer.before, axis),
            _turn(layer.after, axis),
            _turn(layer.dilation, axis),
            layer.groups,
        )
        if winograd.serves(turned):
            return replace(turned, by_pairs=True)
        return replace(turned, weight=turned.weight.contiguous())
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
