"""The published models with narrow networks: their entries and layouts, in seconds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from synthct.checkpoints import catalogue
from synthct.checkpoints.entry import Entry, Sizes
from synthct.models.maisi import spec as specs
from synthct.models.maisi.spec import AutoencoderSpec
from tests.checkpoints.published import random_networks, write_published

MODELS = ("maisi-ct-ddpm", "maisi-ct-rflow", "maisi-mr-rflow", "maisi-mr-brain-rflow")
_VAE = AutoencoderSpec((8, 8, 8), (1, 1, 1), 4, 4)
_SMALL_CT = {
    "sizes": Sizes(in_plane=(64, 96), slices=(32, 64)),
    "shape_min": (64, 64, 32),
    "shape_max": (96, 96, 64),
    "spacing_range_mm": ((0.5, 8.0), (0.5, 8.0), (0.5, 8.0)),
}


def install(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Narrow networks under the published names, their files in the layouts of the hub.

    CT is sampled in smaller sizes too; all else of the entries stays as it is.
    """
    patch.setenv("SYNTHCT_HOME", str(folder))
    found = dict(catalogue.entries())
    for name in MODELS:
        kind = name.removeprefix("maisi-")
        patch.setitem(specs.PRESETS, kind, _narrow(kind))
        if found[name].modality == "CT":
            found[name] = found[name].model_copy(update=_SMALL_CT)
    patch.setattr(catalogue, "entries", lambda: found)
    for name in MODELS:
        entry = found[name]
        write_published(folder / name, entry, _networks(entry))


def _narrow(kind: str) -> specs.MaisiSpec:
    wide = specs.preset(kind)
    unet = replace(
        wide.unet,
        num_channels=(8, 16),
        num_res_blocks=1,
        attention_levels=(False, True),
        num_head_channels=(0, 8),
        norm_num_groups=4,
    )
    masks = (4, 8, 8) if wide.embedding_channels else ()
    return replace(wide, autoencoder=_VAE, unet=unet, embedding_channels=masks)


def _networks(entry: Entry) -> dict[str, torch.nn.Module]:
    return random_networks(entry, seed=sum(map(ord, entry.name)))
