"""Random checkpoints in the layouts in which weights are published, at any width."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from monai.networks.utils import copy_model_state
from torch import Tensor, nn

from synthct.checkpoints import catalogue
from synthct.checkpoints.entry import Entry
from synthct.models.maisi.spec import AutoencoderSpec, MaisiSpec, UNetSpec, preset
from synthct.models.networks import networks_of

SCALE = 0.9141
_VAE = AutoencoderSpec((8, 8), (1, 1), 2, 4)
_RFLOW = UNetSpec((8, 16), 1, (False, True), (0, 8), 4, True, True, False, 16)
_DDPM = UNetSpec((8, 16), 1, (False, True), (0, 8), 4, False, False, True, None)
_LIKE = {"small-rflow": ("ct-rflow", _RFLOW), "small-ddpm": ("ct-ddpm", _DDPM)}


def small_presets() -> dict[str, MaisiSpec]:
    """The published architectures, narrow: every kind of key is there."""
    return {
        name: replace(preset(like), autoencoder=_VAE, unet=unet, embedding_channels=(4, 8))
        for name, (like, unet) in _LIKE.items()
    }


def small_entries() -> dict[str, Entry]:
    """Entries as the catalogue's, of the narrow networks."""
    mini = catalogue.entry()
    changes = {
        key: getattr(mini, key)
        for key in ("spacing_range_mm", "stride", "grid_multiple", "shape_min", "shape_max")
    } | {"fov_min_mm": mini.fov_min_mm, "fov_max_mm": mini.fov_max_mm, "sizes": None}
    return {
        name: catalogue.entry(f"maisi-{like}").model_copy(
            update={**changes, "name": name, "default_steps": 2, "network": {"spec": name}}
        )
        for name, (like, _) in _LIKE.items()
    }


def random_networks(entry: Entry, seed: int = 0) -> dict[str, nn.Module]:
    """Seeded networks in evaluation mode; what starts at zero is random too."""
    torch.manual_seed(seed)
    built = {role: build().eval() for role, build in networks_of(entry).items()}
    with torch.no_grad():
        for network in built.values():
            for parameter in network.parameters():
                if not parameter.any():
                    parameter.normal_(std=0.05)
    if "controlnet" in built:  # as published: a copy of the U-Net's encoder, then trained
        copy_model_state(built["controlnet"], built["unet"].state_dict())
    return built


def write_published(
    folder: Path, entry: Entry, built: Mapping[str, nn.Module], *, older: bool = False
) -> Path:
    """The files as they lie on the hub: VAE plain, U-Net and ControlNet in their containers."""
    folder.mkdir(parents=True, exist_ok=True)
    states = {role: dict(network.state_dict()) for role, network in built.items()}
    if "controlnet" in states:
        states["controlnet"] = without_shared(states["controlnet"], states["unet"])
    if older:
        states = {role: with_older_names(state) for role, state in states.items()}
    contents: dict[str, object] = {
        "vae": states["vae"],
        "unet": {
            "epoch": 7,
            "loss": np.float64(0.25),
            "num_train_timesteps": 1000,
            "scale_factor": torch.tensor(SCALE),
            "unet_state_dict": states["unet"],
        },
    }
    if "controlnet" in states:
        contents["controlnet"] = {
            "epoch": 3,
            "loss": torch.tensor(0.5),
            "controlnet_state_dict": states["controlnet"],
        }
    for role, content in contents.items():
        torch.save(content, folder / entry.hub[role].name)  # type: ignore[index]
    return folder


def without_shared(
    controlnet: Mapping[str, Tensor], unet: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """What a ControlNet's file needs when the U-Net's encoder is copied into it first."""
    return {
        key: value
        for key, value in controlnet.items()
        if key not in unet or unet[key].shape != value.shape or not torch.equal(unet[key], value)
    }


def with_older_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """As MONAI GenerativeModels named them; its attention saved a projection in any case."""
    out: dict[str, Tensor] = {}
    for key, value in state.items():
        old = key.replace(".postconv.", ".conv.")
        if "transformer_blocks" in key:
            old = old.replace(".out_proj.", ".to_out.0.")
        else:
            old = old.replace(".attn.out_proj.", ".proj_attn.").replace(".attn.to_", ".to_")
        out[old] = value
        if ".attn.to_q.weight" in key and f"{_block(key)}.attn.out_proj.weight" not in state:
            projection = f"{old.removesuffix('.to_q.weight')}.proj_attn"
            out[f"{projection}.weight"] = torch.zeros(value.shape[0], value.shape[0])
            out[f"{projection}.bias"] = torch.zeros(value.shape[0])
    return out


def _block(key: str) -> str:
    return key.partition(".attn.")[0]
