"""The mask encoder's start: channels that are on for their run of ids and for no other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from synthct.models.maisi.conditions import label_bits
from synthct.models.maisi.mask_start import RUNS, start_mask_encoder
from synthct.models.maisi.networks import build_controlnet
from synthct.models.maisi.spec import preset


def test_each_run_lights_up_its_channel_alone() -> None:
    encoder = _encoder("mini-ct")
    ids = np.zeros((256, 3, 3), np.uint8)
    ids[:] = np.arange(256)[:, None, None]
    with torch.no_grad():
        seen = encoder.conv_in(label_bits(ids).float())[0, -len(RUNS) :, :, 1, 1]
    for channel, (low, count) in zip(seen, RUNS, strict=True):
        inside = [n for n in range(256) if channel[n] > 1]
        assert inside == list(range(low, low + count))


def test_a_run_arrives_at_the_latent_grid() -> None:
    encoder = _encoder("mini-ct")
    ids = np.full((16, 16, 16), 62, np.uint8)
    ids[8:] = 63
    with torch.no_grad():
        out = encoder.conv_in(label_bits(ids).float())
        for block in encoder.blocks:
            out = block(out)
    rib, colon = (len(RUNS) - n for n in (RUNS.index((63, 1)), RUNS.index((62, 1))))
    assert out[0, -rib, 6, 4, 4] > 3 > 0.1 > abs(out[0, -rib, 1, 4, 4])
    assert out[0, -colon, 1, 4, 4] > 3 > 0.1 > abs(out[0, -colon, 6, 4, 4])


def test_a_narrow_encoder_is_left_alone() -> None:
    torch.manual_seed(0)
    encoder = build_controlnet(preset("tiny")).get_submodule("controlnet_cond_embedding")
    before = {k: v.clone() for k, v in encoder.state_dict().items()}
    start_mask_encoder(encoder)
    assert all(torch.equal(v, before[k]) for k, v in encoder.state_dict().items())


def _encoder(name: str) -> torch.nn.Module:
    spec = replace(preset(name), embedding_channels=(32, 48))
    encoder = build_controlnet(spec).get_submodule("controlnet_cond_embedding")
    start_mask_encoder(encoder)
    return encoder
