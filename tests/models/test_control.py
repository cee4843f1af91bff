"""The mask's embedding: tile by tile, exactly; label bits never at full resolution."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from synthct.models.maisi import footprint
from synthct.models.maisi.conditions import label_bits
from synthct.models.maisi.control import embed, reach, tiles
from tests.models.small import LAYOUTS, narrow, pair
from tests.models.tracing import Traced


@pytest.mark.parametrize("tile", [8, 24, 40])
@pytest.mark.parametrize("name", LAYOUTS)
@torch.inference_mode()
def test_tiles_make_the_whole(name: str, tile: int) -> None:
    network = pair(narrow(name))[1].controlnet_cond_embedding
    labels = np.random.default_rng(tile).integers(0, 201, (16, 24, 40), dtype=np.uint8)
    whole = network(label_bits(labels).float())
    tiled = embed(network, labels, tile=tile)
    assert tiled.shape == whole.shape
    assert float((tiled - whole).norm() / whole.norm()) <= 1e-6


@torch.inference_mode()
def test_without_the_margin_the_tiles_would_show() -> None:
    network = pair(narrow("ct-rflow"))[1].controlnet_cond_embedding
    labels = np.random.default_rng(0).integers(0, 201, (48, 48, 48), dtype=np.uint8)
    whole = network(label_bits(labels).float())
    bits = label_bits(labels[:24]).float()
    assert not torch.allclose(network(bits), whole[:, :, :6], atol=1e-3)


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_planner_knows_the_margin_of_the_network(name: str) -> None:
    spec = narrow(name)
    factor, margin = reach(pair(spec)[1].controlnet_cond_embedding)
    assert (factor, margin) == (spec.autoencoder.factor, footprint.mask_margin(spec))


@torch.inference_mode()
def test_float_bits_exist_for_one_tile_at_a_time() -> None:
    network = pair(narrow("ct-rflow"))[1].controlnet_cond_embedding
    labels = np.zeros((96, 16, 16), dtype=np.uint8)
    with Traced() as trace:
        embed(network, labels, tile=16)
    assert trace.largest <= 8 * 4 * (16 + 2 * 12) * 16 * 16


def test_every_voxel_is_in_one_core() -> None:
    seen = np.zeros((40, 32, 24), dtype=int)
    for core, halo in tiles(seen.shape, 16, 12, 4):
        seen[core] += 1
        assert all(h.start % 4 == 0 and h.start <= c.start for h, c in zip(halo, core, strict=True))
    assert (seen == 1).all()
