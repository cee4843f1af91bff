"""The engine against the same layers run at once, in float64: nothing hides behind rounding."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from synthct.errors import GridError
from synthct.tiling import budget
from synthct.tiling.halo import run
from synthct.tiling.layers import (
    Layer,
    Residual,
    UnknownLayer,
    Upsample,
)
from synthct.tiling.modules import from_torch
from tests.tiling.networks import NETWORKS, block, conv, random, relative_error, whole

Size = tuple[int, int, int]


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
    layers, x = NETWORKS[name](), random(1, 4, *size)
    got = run(
        layers,
        x.clone(),
        axis=axis,
        planner=lambda s, b: budget.by_count(s, slabs, b),
        dtype=torch.float64,
    )
    assert relative_error(got, whole(layers, x)) < 1e-12


@pytest.mark.parametrize("size", [(1, 1, 1), (1, 5, 2), (2, 1, 7)])
@pytest.mark.parametrize("name", ["convolution", "decoder", "transposed", "barrier", "nearest"])
def test_one_voxel_thick(name: str, size: Size) -> None:
    torch.manual_seed(0)
    layers, x = NETWORKS[name](), random(1, 4, *size)
    for axis in range(3):
        got = run(layers, x, axis=axis, dtype=torch.float64)
        assert relative_error(got, whole(layers, x)) < 1e-12


@pytest.mark.parametrize("name", ["decoder", "downsample", "transposed", "residual first"])
def test_without_halo_the_result_is_wrong(name: str) -> None:
    """The exactness tests bite: they fail when neighbours are left out."""
    torch.manual_seed(0)
    layers, x = NETWORKS[name](), random(1, 4, 8, 6, 6)
    got = run(
        layers,
        x,
        planner=lambda s, b: budget.by_count(s, 3, b),
        dtype=torch.float64,
        halo_limit=0,
    )
    assert relative_error(got, whole(layers, x)) > 1e-3


def test_samples_have_their_own_statistics_and_the_source_is_left_alone() -> None:
    torch.manual_seed(0)
    layers, x = NETWORKS["residual first"](), random(3, 4, 5, 4, 3)
    before = x.clone()
    got = run(layers, x, dtype=torch.float64)
    assert torch.equal(x, before)
    assert relative_error(got, whole(layers, x)) < 1e-12


@pytest.mark.parametrize("pad", [1, 0])
def test_a_narrow_output_is_summed_from_taps(pad: int) -> None:
    """The matrix product that replaces a convolution to one channel."""
    torch.manual_seed(0)
    layers = (conv(32, 1, before=(pad,) * 3, after=(pad,) * 3),)
    x = random(1, 32, 5, 4, 6)
    assert relative_error(run(layers, x, dtype=torch.float64), whole(layers, x)) < 1e-12


def test_progress_ends_at_the_total() -> None:
    seen: list[tuple[int, int]] = []
    run(
        NETWORKS["decoder"](),
        random(2, 4, 5, 3, 3),
        dtype=torch.float64,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})
    assert seen[-1][0] == seen[-1][1]


def test_inference_mode_and_autocast_outside_change_nothing() -> None:
    torch.manual_seed(0)
    layers, x = NETWORKS["decoder"](), random(1, 4, 5, 4, 3).float()
    expected = run(layers, x)
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(run(layers, x), expected)


@pytest.mark.parametrize(
    "layers",
    [
        ("not a layer",),
        (Residual((conv(4, 4), "not a layer")),),  # type: ignore[arg-type]
        (Residual((conv(4, 4),), (conv(4, 4),)),),
        (Residual((Upsample(), conv(4, 4))),),
        (Residual(()),),
        (Residual((block(4, 4),)),),
        (),
    ],
)
def test_what_is_not_known_is_an_error(layers: tuple[Layer, ...]) -> None:
    with pytest.raises(UnknownLayer):
        run(layers, random(1, 4, 3, 3, 3), dtype=torch.float64)


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
    x = random(1, 4, 3, 4, 5)
    with torch.no_grad():
        assert relative_error(run(layers, x, dtype=torch.float64), network(x)) < 1e-12


def test_a_map_too_small_for_a_stride_is_refused() -> None:
    with pytest.raises(GridError, match="at least 1"):
        run(NETWORKS["downsample"](), random(1, 4, 1, 4, 4), dtype=torch.float64)
