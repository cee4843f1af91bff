"""The autoencoder's layers from its numbers alone: what a plan needs, without weights or torch.

The same list that `decode.py` reads off MONAI's modules, with shapes in the place of kernels; a
test holds the two against each other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from synthct.models.maisi.mask_spec import channels_in, channels_out
from synthct.models.maisi.spec import AutoencoderSpec
from synthct.tiling.layers import (
    Conv,
    GroupNorm,
    Kernel,
    Layer,
    Pointwise,
    Residual,
    TransposedConv,
    Triple,
    Upsample,
)

if TYPE_CHECKING:
    from torch import Tensor


def decoder_outline(spec: AutoencoderSpec) -> tuple[Layer, ...]:
    """From the latent to the image, the 1x1x1 convolution ahead of it included."""
    widths, blocks = spec.num_channels[::-1], spec.num_res_blocks[::-1]
    latent = spec.latent_channels
    layers: list[Layer] = [_conv(latent, latent, 1), _conv(latent, widths[0])]
    at = widths[0]
    for level, width in enumerate(widths):
        for _ in range(blocks[level]):
            layers.append(_block(spec, at, width))
            at = width
        if level + 1 < len(widths):
            layers += [_doubling(at)] if spec.use_convtranspose else [Upsample(), _conv(at, at)]
    return (*layers, _norm(spec), _conv(at, channels_out(spec)))


def encoder_outline(spec: AutoencoderSpec) -> tuple[Layer, ...]:
    """From the image to the map before the two 1x1x1 convolutions for mean and sigma."""
    at = spec.num_channels[0]
    layers: list[Layer] = [_conv(channels_in(spec), at)]
    for level, width in enumerate(spec.num_channels):
        for _ in range(spec.num_res_blocks[level]):
            layers.append(_block(spec, at, width))
            at = width
        if level + 1 < len(spec.num_channels):
            layers.append(_halving(at))
    return (*layers, _norm(spec), _conv(at, spec.latent_channels))


def _block(spec: AutoencoderSpec, into: int, out: int) -> Residual:
    first = (_norm(spec), _silu(), _conv(into, out))
    second = (_norm(spec), _silu(), _conv(out, out))
    return Residual((*first, *second), () if into == out else (_conv(into, out, 1),))


def _norm(spec: AutoencoderSpec) -> GroupNorm:
    return GroupNorm(spec.norm_num_groups, spec.norm_eps, None, None)


def _silu() -> Pointwise:
    return Pointwise(_not_to_be_run, "silu")


def _not_to_be_run(x: Tensor) -> Tensor:
    raise TypeError("an outline has shapes and no values: it can be planned, not run")


def _conv(into: int, out: int, kernel: int = 3) -> Conv:
    pad: Triple = (kernel // 2, kernel // 2, kernel // 2)
    return Conv(_kernel(out, into, kernel), None, (1, 1, 1), pad, pad)


def _halving(channels: int) -> Conv:
    """A stride of two after one plane of zeros behind every axis."""
    return Conv(_kernel(channels, channels, 3), None, (2, 2, 2), (0, 0, 0), (1, 1, 1))


def _doubling(channels: int) -> TransposedConv:
    """A transposed convolution with a stride of two."""
    return TransposedConv(_kernel(channels, channels, 3), None)


def _kernel(out: int, into: int, size: int) -> Tensor:
    return cast("Tensor", Kernel((out, into, size, size, size)))
