"""The engine against the same layers run at once, in float64: nothing hides behind rounding."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from synthct.errors import GridError
from synthct.tiling import budget
from synthct.tiling.halo import run
from synthct.tiling.layers import (
    Conv,
    GroupNorm,
    Layer,
    Pointwise,
    Residual,
    TransposedConv,
    UnknownLayer,
    Upsample,
    Whole,
    from_torch,
    silu,
)

Size = tuple[int, int, int]


def _whole(layers: tuple[Layer, ...], x: torch.Tensor) -> torch.Tensor:
    """The plain meaning of the layers: no slabs, no statistics of our own."""
    for layer in layers:
        x = _one(layer, x)
    return x


def _one(layer: Layer, x: torch.Tensor) -> torch.Tensor:
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
        return _whole(layer.body, x) + _whole(layer.shortcut, x)
    return layer.function(x.clone())


def _random(*shape: int) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64)


def _conv(into: int, out: int, kernel: int = 3, **options: object) -> Conv:
    pad = (kernel // 2,) * 3
    defaults: dict[str, object] = {"before": pad, "after": pad}
    weight = _random(out, into, kernel, kernel, kernel) / kernel**1.5
    return Conv(weight, _random(out), **{**defaults, **options})  # type: ignore[arg-type]


def _norm(channels: int) -> GroupNorm:
    return GroupNorm(2, 1e-6, _random(channels), _random(channels))


def _block(into: int, out: int) -> Residual:
    body = (_norm(into), silu(), _conv(into, out), _norm(out), silu(), _conv(out, out))
    return Residual(body, () if into == out else (_conv(into, out, 1),))


def _mean_field(x: torch.Tensor) -> torch.Tensor:
    """Stands for attention: every voxel looks at all, and the three axes differ."""
    weights = torch.arange(x.shape[-1], dtype=x.dtype)
    return x + (x * weights).mean((2, 3, 4), keepdim=True)


# Each takes 4 channels. Together they hold every kind, at the front, in the middle and at the end.
NETWORKS: dict[str, Callable[[], tuple[Layer, ...]]] = {
    "convolution": lambda: (_conv(4, 3),),
    "norm first": lambda: (_norm(4), _conv(4, 4)),
    "norm last": lambda: (_conv(4, 6), _norm(6)),
    "two convolutions": lambda: (_conv(4, 6, 5), _conv(6, 1)),
    "asymmetric padding": lambda: (_conv(4, 4, before=(2, 0, 1), after=(0, 2, 1)),),
    "padding ahead only": lambda: (
        _conv(4, 4),
        _norm(4),
        _conv(4, 4, before=(0, 1, 1), after=(2, 1, 1)),
        _norm(4),
        _conv(4, 4, before=(2, 1, 1), after=(0, 1, 1)),
    ),
    "dilation": lambda: (_conv(4, 2, dilation=(2, 1, 3), before=(2, 1, 3), after=(2, 1, 3)),),
    "groups": lambda: (Conv(_random(8, 2, 3, 3, 3), None, (1,) * 3, (1,) * 3, (1,) * 3, groups=2),),
    "downsample": lambda: (
        _conv(4, 4),
        _conv(4, 6, stride=(2, 2, 2), before=(0, 0, 0), after=(1, 1, 1)),
        _norm(6),
        silu(),
        _conv(6, 2),
    ),
    "decoder": lambda: (
        _conv(4, 4, 1),
        _conv(4, 8),
        _block(8, 8),
        Upsample(),
        _conv(8, 8),
        _block(8, 6),
        _block(6, 6),
        _norm(6),
        _conv(6, 1),
    ),
    "nearest": lambda: (_norm(4), Upsample("nearest"), _conv(4, 2), silu()),
    "upsample alone": lambda: (Upsample(), _norm(4), silu()),
    "twice upsampled": lambda: (Upsample(), Upsample("nearest"), silu(), _conv(4, 2)),
    "transposed": lambda: (_conv(4, 4), TransposedConv(_random(4, 2, 3, 3, 3), _random(2))),
    "transposed wide": lambda: (
        TransposedConv(_random(4, 2, 4, 2, 3), None, (2, 2, 3), (1, 0, 1), (0, 0, 0)),
    ),
    "pointwise": lambda: (Pointwise(torch.square, "square"),),
    "residual first": lambda: (_block(4, 4), _block(4, 8), _block(8, 2)),
    "residual of one pass": lambda: (
        Residual((_norm(4), silu(), _conv(4, 6)), (_conv(4, 6, 1),)),
        Residual((_norm(6), silu(), _conv(6, 6))),
    ),
    "residual of three passes": lambda: (
        Residual((_conv(4, 9), _conv(9, 2), _norm(2), _conv(2, 4)), ()),
        _norm(4),
    ),
    "barrier": lambda: (_conv(4, 6), Whole(_mean_field, "mean field"), _block(6, 6)),
    "barrier at both ends": lambda: (
        Whole(_mean_field, "mean field"),
        _block(4, 6),
        Whole(_mean_field, "mean field"),
    ),
}


def _error(got: torch.Tensor, expected: torch.Tensor) -> float:
    assert got.shape == expected.shape
    return float((got - expected).norm() / expected.norm())


@pytest.mark.parametrize("name", NETWORKS)
@settings(max_examples=25, deadline=None)
@given(
    size=st.tuples(*(st.integers(3, 11) for _ in range(3))),
    slabs=st.integers(1, 12),
    axis=st.integers(0, 2),
    seed=st.integers(0, 2**16),
)
def test_slabs_give_what_the_whole_gives(
    name: str, size: Size, slabs: int, axis: int, seed: int
) -> None:
    torch.manual_seed(seed)
    layers, x = NETWORKS[name](), _random(1, 4, *size)
    got = run(
        layers,
        x.clone(),
        axis=axis,
        planner=lambda s, b: budget.by_count(s, slabs, b),
        dtype=torch.float64,
    )
    assert _error(got, _whole(layers, x)) < 1e-12


@pytest.mark.parametrize("size", [(1, 1, 1), (1, 5, 2), (2, 1, 7)])
@pytest.mark.parametrize("name", ["convolution", "decoder", "transposed", "barrier", "nearest"])
def test_one_voxel_thick(name: str, size: Size) -> None:
    torch.manual_seed(0)
    layers, x = NETWORKS[name](), _random(1, 4, *size)
    for axis in range(3):
        got = run(layers, x, axis=axis, dtype=torch.float64)
        assert _error(got, _whole(layers, x)) < 1e-12


@pytest.mark.parametrize("name", ["decoder", "downsample", "transposed", "residual first"])
def test_without_halo_the_result_is_wrong(name: str) -> None:
    """The exactness tests bite: they fail when neighbours are left out."""
    torch.manual_seed(0)
    layers, x = NETWORKS[name](), _random(1, 4, 8, 6, 6)
    got = run(
        layers,
        x,
        planner=lambda s, b: budget.by_count(s, 3, b),
        dtype=torch.float64,
        halo_limit=0,
    )
    assert _error(got, _whole(layers, x)) > 1e-3


def test_samples_have_their_own_statistics_and_the_source_is_left_alone() -> None:
    torch.manual_seed(0)
    layers, x = NETWORKS["residual first"](), _random(3, 4, 5, 4, 3)
    before = x.clone()
    got = run(layers, x, dtype=torch.float64)
    assert torch.equal(x, before)
    assert _error(got, _whole(layers, x)) < 1e-12


@pytest.mark.parametrize("pad", [1, 0])
def test_a_narrow_output_is_summed_from_taps(pad: int) -> None:
    """The matrix product that replaces a convolution to one channel."""
    torch.manual_seed(0)
    layers = (_conv(32, 1, before=(pad,) * 3, after=(pad,) * 3),)
    x = _random(1, 32, 5, 4, 6)
    assert _error(run(layers, x, dtype=torch.float64), _whole(layers, x)) < 1e-12


def test_progress_ends_at_the_total() -> None:
    seen: list[tuple[int, int]] = []
    run(
        NETWORKS["decoder"](),
        _random(2, 4, 5, 3, 3),
        dtype=torch.float64,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})
    assert seen[-1][0] == seen[-1][1]


def test_inference_mode_and_autocast_outside_change_nothing() -> None:
    torch.manual_seed(0)
    layers, x = NETWORKS["decoder"](), _random(1, 4, 5, 4, 3).float()
    expected = run(layers, x)
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(run(layers, x), expected)


@pytest.mark.parametrize(
    "layers",
    [
        ("not a layer",),
        (Residual((_conv(4, 4), "not a layer")),),  # type: ignore[arg-type]
        (Residual((_conv(4, 4),), (_conv(4, 4),)),),
        (Residual((Upsample(), _conv(4, 4))),),
        (Residual(()),),
        (Residual((_block(4, 4),)),),
        (),
    ],
)
def test_what_is_not_known_is_an_error(layers: tuple[Layer, ...]) -> None:
    with pytest.raises(UnknownLayer):
        run(layers, _random(1, 4, 3, 3, 3), dtype=torch.float64)


@pytest.mark.parametrize(
    "module",
    [
        nn.InstanceNorm3d(4),
        nn.Conv3d(4, 4, 3, padding=1, padding_mode="reflect"),
        nn.Conv3d(4, 4, 3, padding="same"),
        nn.ConvTranspose3d(4, 4, 3, dilation=2),
    ],
)
def test_torch_layers_that_are_not_known(module: nn.Module) -> None:
    with pytest.raises(UnknownLayer):
        from_torch(module)


def test_torch_layers_that_are_known() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv3d(4, 8, 3, padding=1),
        nn.GroupNorm(2, 8),
        nn.SiLU(),
        nn.ConvTranspose3d(8, 2, 3, stride=2, padding=1, output_padding=1),
    ).double()
    layers = tuple(from_torch(module) for module in network)
    x = _random(1, 4, 3, 4, 5)
    with torch.no_grad():
        assert _error(run(layers, x, dtype=torch.float64), network(x)) < 1e-12


def test_a_map_too_small_for_a_stride_is_refused() -> None:
    with pytest.raises(GridError, match="at least 1"):
        run(NETWORKS["downsample"](), _random(1, 4, 1, 4, 4), dtype=torch.float64)
