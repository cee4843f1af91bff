"""Convolution by pairs of planes against torch's own, and where it is not used."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from synthct.tiling import winograd
from synthct.tiling.layers import Conv
from synthct.tiling.modules import prepare


def _layer(into: int, out: int, dtype: torch.dtype = torch.float64, **options: object) -> Conv:
    pad = (1, 1, 1)
    weight = torch.randn(out, into, 3, 3, 3, dtype=dtype) / (27 * into) ** 0.5
    bias = torch.randn(out, dtype=dtype)
    return Conv(weight, bias, **{"before": pad, "after": pad, **options})  # type: ignore[arg-type]


@pytest.mark.parametrize("count", [1, 2, 3, 6, 7])
@pytest.mark.parametrize("before", [0, 1])
@pytest.mark.parametrize("channels", [(3, 5), (150, 2)])
def test_it_is_the_same_sum(count: int, before: int, channels: tuple[int, int]) -> None:
    torch.manual_seed(0)
    layer = prepare(_layer(*channels), 0, torch.float64)
    assert isinstance(layer, Conv) and layer.by_pairs
    slab = torch.randn(1, channels[0], count + 1, 4, 6, dtype=torch.float64)
    padded = functional.pad(slab, (1, 1, 1, 1, before, 2))
    expected = functional.conv3d(padded, layer.weight, layer.bias)[:, :, :count]
    got = winograd.convolve(layer, slab, before, count)
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


def test_every_axis_can_be_the_one_that_is_cut() -> None:
    torch.manual_seed(0)
    layer, x = _layer(4, 3), torch.randn(1, 4, 5, 6, 7, dtype=torch.float64)
    expected = functional.conv3d(x, layer.weight, layer.bias, padding=1)
    for axis in range(3):
        turned = prepare(layer, axis, torch.float64)
        assert isinstance(turned, Conv)
        got = winograd.convolve(turned, x.transpose(2, 2 + axis), 1, x.shape[2 + axis])
        torch.testing.assert_close(got.transpose(2, 2 + axis), expected)


def test_float32_rounding_stays_near_that_of_the_plain_kernel() -> None:
    torch.manual_seed(0)
    layer = prepare(_layer(128, 32, torch.float32), 0, torch.float32)
    assert isinstance(layer, Conv) and layer.by_pairs
    slab = torch.randn(1, 128, 8, 12, 12)
    exact = functional.conv3d(
        functional.pad(slab.double(), (1, 1, 1, 1)), layer.weight.double(), layer.bias.double()
    )
    got = winograd.convolve(layer, slab, 0, 6)
    assert float((got - exact).norm() / exact.norm()) < 1e-6


@pytest.mark.parametrize(
    ("layer", "dtype"),
    [
        (_layer(16, 16, torch.float32, stride=(2, 2, 2)), torch.float32),
        (_layer(16, 16, torch.float32, dilation=(2, 2, 2)), torch.float32),
        (_layer(16, 16, torch.float32, groups=2), torch.float32),
        (_layer(16, 16, torch.float32, after=(1, 0, 1)), torch.float32),
        (_layer(16, 1, torch.float32), torch.float32),
        (_layer(16, 16, torch.float32), torch.bfloat16),
    ],
)
def test_where_it_does_not_serve_the_weight_stays(layer: Conv, dtype: torch.dtype) -> None:
    ready = prepare(layer, 0, dtype)
    assert isinstance(ready, Conv) and not ready.by_pairs
