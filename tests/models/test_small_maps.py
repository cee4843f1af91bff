"""Small maps are convolved by oneDNN, to rounding as torch would, and nothing else changes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from synthct.models.maisi import small_maps as module
from synthct.models.maisi.small_maps import (
    OneVoxelMaps,
    SmallMaps,
    is_slow,
    small_maps,
    step_precision,
)

pytestmark = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available(), reason="torch is built without oneDNN"
)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("channels", "side"), [(64, 16), (128, 12), (256, 6), (512, 3)])
@torch.inference_mode()
def test_the_sums_are_torch_s(channels: int, side: int, stride: int) -> None:
    torch.manual_seed(0)
    conv = nn.Conv3d(channels, 8, 3, padding=1, stride=stride)
    x = torch.randn(1, channels, side, side, side)
    expected = conv(x)
    with SmallMaps():
        found = conv(x)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_slow_is_one_small_float32_map_and_a_wide_kernel() -> None:
    wide = torch.empty(8, 64, 3, 3, 3)
    small = torch.empty(1, 64, 16, 16, 16)
    assert is_slow(small, wide)
    assert not is_slow(small.bfloat16(), wide)
    assert not is_slow(small.repeat(2, 1, 1, 1, 1), wide), "a batch is oneDNN's anyway"
    assert not is_slow(torch.empty(1, 64, 24, 24, 24), wide), "a large map too"
    assert not is_slow(torch.empty(1, 64, 4, 4, 4), wide), "laying out the weights would cost more"
    assert not is_slow(small, torch.empty(8, 64, 1, 1, 1))


def test_it_is_on_only_where_torch_has_a_slow_loop() -> None:
    assert isinstance(small_maps(torch.device("cpu"), "float32"), SmallMaps)
    assert isinstance(small_maps(torch.device("cpu"), "bfloat16"), OneVoxelMaps)
    for precision in ("float32", "bfloat16"):
        off = small_maps(torch.device("cuda"), precision)
        assert not isinstance(off, SmallMaps | OneVoxelMaps)


@pytest.mark.parametrize("fast", [False, True])
def test_a_step_of_training_has_torch_s_gradients(
    fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In float32 where bfloat16 has no instructions; autocast where it has."""
    monkeypatch.setattr(module, "fast_bfloat16", lambda device: fast)
    monkeypatch.setattr("synthct.training.precision.fast_bfloat16", lambda device: fast)
    torch.manual_seed(0)
    conv = nn.Conv3d(64, 8, 3, padding=1)
    x = torch.randn(1, 64, 8, 8, 8, requires_grad=True)
    moving = (x, *conv.parameters())
    expected = torch.autograd.grad(conv(x).square().mean(), moving)
    with step_precision(True, x.device):
        out = conv(x)
    assert out.dtype == (torch.bfloat16 if fast else torch.float32)
    assert ("Mkldnn" in type(out.grad_fn).__name__) is not fast
    found = torch.autograd.grad(out.float().square().mean(), moving)
    rtol = 0.1 if fast else 1e-4
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=rtol, atol=rtol * float(other.abs().max()))


@pytest.mark.parametrize("planes", [1, 2])
@torch.inference_mode()
def test_onto_one_voxel_is_of_float32_in_bfloat16_too(planes: int) -> None:
    """Where a CPU with AMX is wrong by as much as the result."""
    torch.manual_seed(0)
    conv = nn.Conv3d(64, 64, 3, padding=1, stride=2)
    x = torch.randn(1, 64, 16, 8, planes)
    expected = conv(x)
    with torch.autocast("cpu", torch.bfloat16), OneVoxelMaps():
        found = conv(x)
        longer = conv(torch.randn(1, 64, 16, 8, 3))
    torch.testing.assert_close(found, expected)
    assert longer.dtype == torch.bfloat16, "others stay as they are"


@pytest.mark.parametrize("shape", [(16, 8, k) for k in range(1, 6)] + [(4, 4, 4), (1, 9, 9)])
@torch.inference_mode()
def test_strided_convolutions_in_bfloat16_are_close_to_float32(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    conv = nn.Conv3d(64, 64, 3, padding=1, stride=2)
    x = torch.randn(1, 64, *shape)
    with torch.autocast("cpu", torch.bfloat16), OneVoxelMaps():
        found = conv(x).float()
    assert (found - conv(x)).norm() < 0.02 * conv(x).norm()
