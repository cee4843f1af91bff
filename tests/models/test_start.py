"""The autoencoder's start: a linear code whose level no normalisation changes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.fft import dctn
from torch.nn import functional

from synthct.models.maisi.networks import build_autoencoder
from synthct.models.maisi.spec import preset
from synthct.models.maisi.start import hold_constants, nearly_linear

PRESETS = ("mini-ct", "tiny")  # two halvings, and one


@pytest.mark.parametrize("name", PRESETS)
def test_before_training_the_level_is_right_whatever_the_volume(name: str) -> None:
    autoencoder = _started(name)
    factor = 2 ** (len(preset(name).autoencoder.num_channels) - 1)
    for level, air in ((0.5, 0), (0.5, 24), (0.3, 8), (0.7, 30)):
        image = torch.full((1, 1, 32, 32, 32), level)
        image[..., :air] = 0.0
        with torch.no_grad():
            out = autoencoder.decode(autoencoder.encode(image)[0])
        inside = out[..., 8:24, 8:24, air + 2 * factor : 32 - factor]
        if inside.numel():
            assert inside.median().item() == pytest.approx(level, abs=0.02)


def test_after_one_halving_the_latents_are_averages_and_differences() -> None:
    autoencoder = _started("tiny")
    image = _smooth(1)
    with torch.no_grad():
        mu, sigma = autoencoder.encode(image)
    mean = functional.avg_pool3d(image, 2)
    seen = torch.stack(
        [mu[0, 0, 2:-2, 2:-2, 2:-2].flatten(), mean[0, 0, 2:-2, 2:-2, 2:-2].flatten()]
    )
    assert torch.corrcoef(seen)[0, 1] > 0.999
    step = image[..., 1::2, :, :] - image[..., ::2, :, :]
    slope = functional.avg_pool3d(step, (1, 2, 2))
    seen = torch.stack(
        [mu[0, 1, 2:-2, 2:-2, 2:-2].flatten(), slope[0, 0, 2:-2, 2:-2, 2:-2].flatten()]
    )
    assert torch.corrcoef(seen)[0, 1] > 0.99
    assert sigma.max() < 0.06


def test_after_two_halvings_the_latents_are_the_cosines_with_most_variance() -> None:
    autoencoder = _started("mini-ct")
    image = _smooth(1)
    with torch.no_grad():
        mu, sigma = autoencoder.encode(image)
    blocks = image[0, 0].unfold(0, 4, 4).unfold(1, 4, 4).unfold(2, 4, 4).reshape(-1, 64).numpy()
    inner = np.zeros((8, 8, 8), bool)
    inner[1:-1, 1:-1, 1:-1] = True
    blocks = blocks[inner.ravel()].reshape(-1, 4, 4, 4)
    waves = dctn(blocks, axes=(1, 2, 3), norm="ortho")
    wanted = {0: (0, 0, 0), 1: (0, 0, 1), 2: (0, 1, 0), 3: (1, 0, 0), 4: (0, 0, 2), 6: (2, 0, 0)}
    for channel, (i, j, k) in wanted.items():
        made = mu[0, channel].flatten().numpy()[inner.ravel()]
        assert abs(np.corrcoef(made, waves[:, i, j, k])[0, 1]) > 0.98, channel
    assert sigma.max() < 0.06


@pytest.mark.parametrize("name", PRESETS)
def test_the_constants_stay_while_the_rest_learns(name: str) -> None:
    autoencoder = _started(name)
    hold_constants(autoencoder)
    before = {k: v.clone() for k, v in autoencoder.state_dict().items()}
    optimiser = torch.optim.Adam(autoencoder.parameters(), lr=1e-3)
    image = _smooth(2)
    for _ in range(2):
        optimiser.zero_grad()
        functional.l1_loss(autoencoder(image)[0], image).backward()
        optimiser.step()
    after = autoencoder.state_dict()
    first, norm = "encoder.blocks.0.conv.conv", "encoder.blocks.1.norm1"
    assert torch.equal(after[f"{first}.bias"][:2], before[f"{first}.bias"][:2])
    assert torch.equal(after[f"{norm}.weight"][:2], torch.zeros(2))
    assert not torch.equal(after[f"{first}.bias"][2:], before[f"{first}.bias"][2:])
    assert not torch.equal(after[f"{norm}.weight"][2:], before[f"{norm}.weight"][2:])


def _started(name: str) -> torch.nn.Module:
    torch.manual_seed(0)
    autoencoder = build_autoencoder(preset(name).autoencoder).eval()
    nearly_linear(autoencoder)
    return autoencoder


def _smooth(seed: int) -> torch.Tensor:
    """Random hills in [0, 1], (1, 1, 32, 32, 32)."""
    coarse = torch.rand(1, 1, 9, 9, 9, generator=torch.Generator().manual_seed(seed))
    return functional.interpolate(coarse, size=(32, 32, 32), mode="trilinear")
