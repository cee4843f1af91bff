"""One prediction, walked with little alive: MONAI's numbers, and no matrix of tokens by tokens."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from monai.networks.blocks import SABlock

from synthct.models.maisi.conditions import conditions, label_bits
from synthct.models.maisi.control import MaskEmbedding
from synthct.models.maisi.prediction import predict
from tests.models.small import LAYOUTS, narrow, pair
from tests.models.tracing import Traced


def _inputs(name: str, side: int) -> Any:
    spec = narrow(name)
    unet, controlnet = pair(spec)
    shape = (side * spec.autoencoder.factor,) * 3
    labels = torch.randint(0, 201, shape, dtype=torch.uint8).numpy()
    told = conditions(spec, regions=("chest", "abdomen"), spacing_mm=(1.0, 1.0, 2.0))
    latent = torch.randn(1, spec.autoencoder.latent_channels, side, side, side)
    return unet, controlnet, labels, told, latent, torch.tensor([321.0])


@pytest.mark.parametrize("name", LAYOUTS)
@torch.inference_mode()
def test_the_walk_gives_what_monai_gives(name: str) -> None:
    unet, controlnet, labels, told, latent, time = _inputs(name, 8)
    down, middle = controlnet(
        latent.clone(), time, label_bits(labels).float(), class_labels=told.modality_class
    )
    expected = unet(
        latent.clone(),
        time,
        down_block_additional_residuals=down,
        mid_block_additional_residual=middle,
        **told.unet_arguments(),
    )
    kept = latent.clone()
    got = predict(unet, [MaskEmbedding.of(controlnet, labels)], told, latent, time)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(latent, kept), "the noisy latent must stay as it is"
    without = unet(latent.clone(), time, **told.unet_arguments())
    torch.testing.assert_close(predict(unet, [], told, latent, time), without)
    assert not torch.allclose(got, without), "the mask must steer"


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_attention_runs_through_the_fused_kernel(name: str) -> None:
    """MONAI's other path builds the whole matrix of tokens by tokens."""
    for network in pair(narrow(name)):
        blocks = [block for block in network.modules() if isinstance(block, SABlock)]
        assert blocks and all(block.use_flash_attention for block in blocks)


@torch.inference_mode()
def test_attention_is_linear_in_tokens() -> None:
    unet, *_ = _inputs("ct-rflow", 8)
    attention = unet.middle_block.attention
    peaks = []
    for side in (8, 16):  # 8 times the tokens
        with Traced() as trace:
            attention(torch.randn(1, 64, side, side, side))
        peaks.append(trace.peak)
    assert peaks[1] <= 8.5 * peaks[0]
