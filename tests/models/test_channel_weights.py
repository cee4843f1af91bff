"""A channel of the latent counts by what it does to the image."""

from __future__ import annotations

import torch

from synthct.models.maisi.channel_weights import channel_weights
from synthct.models.maisi.networks import build_autoencoder
from synthct.models.maisi.spec import preset
from synthct.models.maisi.start import nearly_linear


def test_the_level_weighs_more_than_detail_of_the_same_deviation() -> None:
    torch.manual_seed(0)
    autoencoder = build_autoencoder(preset("mini-ct").autoencoder).eval()
    nearly_linear(autoencoder)
    found = channel_weights(autoencoder, torch.randn(1, 16, 6, 6, 6), 1.0)
    assert found.shape == (1, 16, 1, 1, 1)
    assert abs(float(found.mean()) - 1) < 1e-5
    level, *details = found.flatten().tolist()
    assert level > 1.5 * max(details)  # gains of 2 against 4.6 and more at the start
    assert min(details) > 0


def test_it_does_not_depend_on_the_scale_of_the_latents() -> None:
    torch.manual_seed(0)
    autoencoder = build_autoencoder(preset("tiny").autoencoder).eval()
    latent = torch.randn(1, 2, 8, 8, 8)
    one = channel_weights(autoencoder, latent, 1.0)
    other = channel_weights(autoencoder, 3 * latent, 3.0)
    assert torch.allclose(one, other, rtol=0.1)  # smaller steps on the same curve
