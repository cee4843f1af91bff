"""Unit deviation, shared out: the latents change, the decoded image does not."""

from __future__ import annotations

import pytest
import torch

from synthct.models.maisi.networks import build_autoencoder
from synthct.models.maisi.spec import preset
from synthct.models.maisi.start import nearly_linear
from synthct.models.maisi.unit_latents import unit_latents


def test_latents_have_unit_deviation_and_decode_to_the_same() -> None:
    torch.manual_seed(0)
    autoencoder = build_autoencoder(preset("mini-ct").autoencoder).eval()
    nearly_linear(autoencoder)
    images = [torch.rand(1, 1, 32, 32, 32) * size for size in (0.3, 1.0)]
    with torch.no_grad():
        before, sigma = autoencoder.encode(images[0])
        decoded = autoencoder.decode(before)
    told: list[int] = []
    shares = unit_latents(autoencoder, images, lambda: told.append(1))
    assert len(told) == 2 * len(images)
    assert shares[0] > 1.3 > max(shares[1:])  # the level moves the image most
    with torch.no_grad():
        means = [autoencoder.encode(image)[0].flatten(2)[0] for image in images]
        after, sigma_after = autoencoder.encode(images[0])
        again = autoencoder.decode(after)
    latents = torch.cat(means, dim=1)
    assert torch.allclose(latents.std(dim=1), torch.tensor(shares), rtol=1e-3)
    assert abs(float(latents.std()) - 1) < 1e-3
    assert torch.allclose(latents.mean(dim=1), torch.zeros(16), atol=1e-4)
    assert torch.allclose(again, decoded, atol=1e-5)
    grown = (sigma_after / sigma).flatten(2).mean(dim=2)
    spread = before.flatten(2).std(dim=2), after.flatten(2).std(dim=2)
    assert torch.allclose(grown * spread[0], spread[1], rtol=1e-3)


def test_without_images_it_says_so() -> None:
    autoencoder = build_autoencoder(preset("tiny").autoencoder)
    with pytest.raises(ValueError, match="no image"):
        unit_latents(autoencoder, [])
