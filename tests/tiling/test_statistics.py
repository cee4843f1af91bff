"""Statistics of a whole map from its slabs."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from synthct.tiling import cuts
from synthct.tiling.layers import GroupNorm
from synthct.tiling.statistics import Moments, Normalise, pieces


def _gathered(x: torch.Tensor, slabs: int) -> Moments:
    moments = Moments()
    for start, stop in cuts.even(x.shape[2], slabs):
        moments.add(x[:, :, start:stop])
    return moments


@settings(max_examples=30, deadline=None)
@given(planes=st.integers(1, 13), slabs=st.integers(1, 13), seed=st.integers(0, 99))
def test_groups_have_the_statistics_of_the_whole_map(planes: int, slabs: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn((1, 6, planes, 3, 5), generator=generator)
    x += torch.arange(planes).view(1, 1, -1, 1, 1)  # slab means far apart
    mean, variance = _gathered(x, slabs).per_group(2)
    groups = x.double().view(2, -1)
    # Deviations of order 1 are rounded to 6e-8 each; a mean may be as near to 0 as it likes.
    assert torch.allclose(mean.view(2, 3)[:, 0], groups.mean(1), rtol=1e-6, atol=1e-7)
    assert torch.allclose(variance.view(2, 3)[:, 0], groups.var(1, unbiased=False), rtol=1e-6)


def test_a_large_offset_does_not_cancel() -> None:
    x = torch.randn((1, 4, 9, 16, 16), generator=torch.Generator().manual_seed(0)) + 1000.0
    _, variance = _gathered(x, 4).per_group(1)
    assert variance[0].item() == pytest.approx(x.double().var(unbiased=False).item(), rel=1e-6)


@pytest.mark.parametrize("affine", [True, False])
def test_normalise_equals_torch(affine: bool) -> None:
    torch.manual_seed(0)
    x = torch.randn(1, 8, 5, 4, 6) * 3 + 1
    weight, bias = (torch.randn(8), torch.randn(8)) if affine else (None, None)
    normalise = Normalise(GroupNorm(4, 1e-6, weight, bias), _gathered(x, 3), x.device)
    expected = torch.nn.functional.group_norm(x, 4, weight, bias, 1e-6)
    assert torch.allclose(normalise(x), expected, atol=2e-6)
    assert normalise(x.bfloat16()).dtype == torch.float32


def test_planes_too_large_to_look_at_are_measured_by_rows() -> None:
    x = torch.randn((1, 64, 3, 160, 128), generator=torch.Generator().manual_seed(0))
    x += torch.arange(160).view(1, 1, 1, -1, 1)  # rows far apart
    for kept in (x, x.contiguous(memory_format=torch.channels_last_3d)):
        assert max(kept[:, :, p, r].numel() for p, r in pieces(kept)) <= 2**19
        seen = torch.zeros(3, 160)
        for part, rows in pieces(kept):
            seen[part, rows] += 1
        assert (seen == 1).all()
        mean, variance = _gathered(kept, 2).per_group(2)
        groups = x.double().view(2, -1)
        assert torch.allclose(mean.view(2, 32)[:, 0], groups.mean(1), rtol=1e-6)
        assert torch.allclose(variance.view(2, 32)[:, 0], groups.var(1, unbiased=False), rtol=1e-6)
