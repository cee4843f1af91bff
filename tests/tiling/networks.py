"""Small networks that hold every layer kind, and what they mean when run at once."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn import functional

from synthct.tiling.layers import (
    Conv,
    GroupNorm,
    Layer,
    Pointwise,
    Residual,
    TransposedConv,
    Upsample,
    Whole,
)
from synthct.tiling.modules import silu

Size = tuple[int, int, int]


def whole(layers: tuple[Layer, ...], x: torch.Tensor) -> torch.Tensor:
    """The plain meaning of the layers: no slabs, no statistics of our own."""
    for layer in layers:
        x = one_layer(layer, x)
    return x


def one_layer(layer: Layer, x: torch.Tensor) -> torch.Tensor:
    if isinstance(layer, Conv):
        pads = [p for pair in zip(layer.before[::-1], layer.after[::-1], strict=True) for p in pair]
        x = functional.pad(x, pads)
        return functional.conv3d(
            x, layer.weight, layer.bias, layer.stride, 0, layer.dilation, layer.groups
        )
    if isinstance(layer, TransposedConv):
        return functional.conv_transpose3d(
            x,
            layer.weight,
            layer.bias,
            layer.stride,
            layer.padding,
            layer.output_padding,
            layer.groups,
        )
    if isinstance(layer, GroupNorm):
        return functional.group_norm(x, layer.groups, layer.weight, layer.bias, layer.eps)
    if isinstance(layer, Upsample):
        return functional.interpolate(x, scale_factor=2.0, mode=layer.mode)
    if isinstance(layer, Residual):
        return whole(layer.body, x) + whole(layer.shortcut, x)
    return layer.function(x.clone())


def random(*shape: int) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64)


def conv(into: int, out: int, kernel: int = 3, **options: object) -> Conv:
    pad = (kernel // 2,) * 3
    defaults: dict[str, object] = {"before": pad, "after": pad}
    weight = random(out, into, kernel, kernel, kernel) / kernel**1.5
    return Conv(weight, random(out), **{**defaults, **options})  # type: ignore[arg-type]


def norm(channels: int) -> GroupNorm:
    return GroupNorm(2, 1e-6, random(channels), random(channels))


def block(into: int, out: int) -> Residual:
    body = (norm(into), silu(), conv(into, out), norm(out), silu(), conv(out, out))
    return Residual(body, () if into == out else (conv(into, out, 1),))


def mean_field(x: torch.Tensor) -> torch.Tensor:
    """Stands for attention: every voxel looks at all, and the three axes differ."""
    weights = torch.arange(x.shape[-1], dtype=x.dtype)
    return x + (x * weights).mean((2, 3, 4), keepdim=True)


# Each takes 4 channels. Together they hold every kind, at the front, in the middle and at the end.
NETWORKS: dict[str, Callable[[], tuple[Layer, ...]]] = {
    "convolution": lambda: (conv(4, 3),),
    "norm first": lambda: (norm(4), conv(4, 4)),
    "norm last": lambda: (conv(4, 6), norm(6)),
    "two convolutions": lambda: (conv(4, 6, 5), conv(6, 1)),
    "asymmetric padding": lambda: (conv(4, 4, before=(2, 0, 1), after=(0, 2, 1)),),
    "padding ahead only": lambda: (
        conv(4, 4),
        norm(4),
        conv(4, 4, before=(0, 1, 1), after=(2, 1, 1)),
        norm(4),
        conv(4, 4, before=(2, 1, 1), after=(0, 1, 1)),
    ),
    "dilation": lambda: (conv(4, 2, dilation=(2, 1, 3), before=(2, 1, 3), after=(2, 1, 3)),),
    "groups": lambda: (Conv(random(8, 2, 3, 3, 3), None, (1,) * 3, (1,) * 3, (1,) * 3, groups=2),),
    "downsample": lambda: (
        conv(4, 4),
        conv(4, 6, stride=(2, 2, 2), before=(0, 0, 0), after=(1, 1, 1)),
        norm(6),
        silu(),
        conv(6, 2),
    ),
    "decoder": lambda: (
        conv(4, 4, 1),
        conv(4, 8),
        block(8, 8),
        Upsample(),
        conv(8, 8),
        block(8, 6),
        block(6, 6),
        norm(6),
        conv(6, 1),
    ),
    "nearest": lambda: (norm(4), Upsample("nearest"), conv(4, 2), silu()),
    "upsample alone": lambda: (Upsample(), norm(4), silu()),
    "twice upsampled": lambda: (Upsample(), Upsample("nearest"), silu(), conv(4, 2)),
    "transposed": lambda: (conv(4, 4), TransposedConv(random(4, 2, 3, 3, 3), random(2))),
    "transposed wide": lambda: (
        TransposedConv(random(4, 2, 4, 2, 3), None, (2, 2, 3), (1, 0, 1), (0, 0, 0)),
    ),
    "pointwise": lambda: (Pointwise(torch.square, "square"),),
    "residual first": lambda: (block(4, 4), block(4, 8), block(8, 2)),
    "residual of one pass": lambda: (
        Residual((norm(4), silu(), conv(4, 6)), (conv(4, 6, 1),)),
        Residual((norm(6), silu(), conv(6, 6))),
    ),
    "residual of three passes": lambda: (
        Residual((conv(4, 9), conv(9, 2), norm(2), conv(2, 4)), ()),
        norm(4),
    ),
    "barrier": lambda: (conv(4, 6), Whole(mean_field, "mean field"), block(6, 6)),
    "barrier at both ends": lambda: (
        Whole(mean_field, "mean field"),
        block(4, 6),
        Whole(mean_field, "mean field"),
    ),
}


def relative_error(got: torch.Tensor, expected: torch.Tensor) -> float:
    assert got.shape == expected.shape
    return float((got - expected).norm() / expected.norm())
