"""The augmentations: each acts, repeats with its generator, keeps to the range."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from scipy import ndimage

from synthct.models.maisi.augment import Augment

NAMES = [field.name for field in fields(Augment)]
MR_ONLY = ("bias_field", "gibbs", "contrast", "histogram")


@pytest.fixture
def image() -> torch.Tensor:
    """A smooth ball in noise, with an edge."""
    rng = np.random.default_rng(0)
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, 20)] * 3, indexing="ij"))
    ball = 0.2 + 0.6 * (np.square(grid).sum(0) < 0.4) + 0.02 * rng.standard_normal((20, 20, 20))
    return torch.from_numpy(ball.astype(np.float32)).clamp(0, 1)[None, None]


def _changed(image: torch.Tensor, name: str, seed: int = 0, modality: str = "MR") -> torch.Tensor:
    augment = replace(Augment(), **{name: 1.0})
    return augment(image, np.random.default_rng(seed), modality)


def test_none_by_default(image: torch.Tensor) -> None:
    assert torch.equal(Augment()(image, np.random.default_rng(0), "MR"), image)


@pytest.mark.parametrize("name", NAMES)
def test_each_acts_and_repeats(name: str, image: torch.Tensor) -> None:
    one, again, other = (_changed(image, name, seed) for seed in (1, 1, 2))
    assert one.shape == image.shape and one.dtype == torch.float32
    assert torch.equal(one, again)
    assert not torch.equal(one, image) and not torch.equal(one, other)
    assert one.min() >= 0


@pytest.mark.parametrize("name", NAMES)
def test_ct_stays_in_range_and_has_no_mr_artefacts(name: str, image: torch.Tensor) -> None:
    out = _changed(image, name, modality="CT")
    assert out.min() >= 0 and out.max() <= 1
    assert torch.equal(out, image) == (name in MR_ONLY)


def test_a_bias_field_is_smooth_and_multiplies(image: torch.Tensor) -> None:
    ratio = (_changed(image, "bias_field") / image.clamp_min(0.05))[0, 0].numpy()
    smooth = ndimage.gaussian_filter(ratio, 2)
    assert np.ptp(ratio) > 0.02
    assert np.std((ratio - smooth)[5:-5, 5:-5, 5:-5]) < 0.1 * np.ptp(ratio)


def test_gibbs_takes_from_the_high_frequencies(image: torch.Tensor) -> None:
    def high(volume: torch.Tensor) -> float:
        power = torch.fft.fftn(volume[0, 0]).abs().square()
        frequency = torch.fft.fftfreq(20).abs()
        far = (frequency[:, None, None] ** 2 + frequency[:, None] ** 2 + frequency**2) > 0.25
        return float(power[far].sum())

    assert high(_changed(image, "gibbs")) < 0.5 * high(image)


def test_contrast_and_histogram_keep_the_order_of_greys(image: torch.Tensor) -> None:
    order = image.flatten().argsort()
    for name in ("contrast", "histogram"):
        assert (_changed(image, name).flatten()[order].diff() > -1e-5).all()


def test_low_resolution_blurs(image: torch.Tensor) -> None:
    assert _changed(image, "low_resolution").diff(dim=2).abs().sum() < image.diff(dim=2).abs().sum()


def test_rotation_turns_by_little(image: torch.Tensor) -> None:
    turned = _changed(image, "rotate")
    assert np.corrcoef(turned.flatten(), image.flatten())[0, 1] > 0.7
    assert turned.mean() == pytest.approx(image.mean().item(), rel=0.1)
