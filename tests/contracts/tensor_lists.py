"""`synthct/models/maisi/tensors/*.tsv` from the networks: `make tensor-lists` writes them."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

import synthct.models.maisi
from synthct.checkpoints import catalogue
from synthct.models.maisi import networks
from synthct.models.maisi.spec import MaisiSpec, preset
from synthct.models.maisi.tensors import Shapes, format_list

FOLDER = Path(synthct.models.maisi.__file__).parent / "tensors"


def presets() -> list[str]:
    """Those of the models whose weights come with the package."""
    entries = [e for e in catalogue.entries().values() if e.embedded and e.family == "maisi"]
    return sorted({str(entry.network["spec"]) for entry in entries})


def tensors_in_networks(spec: MaisiSpec) -> dict[str, Shapes]:
    """Role → key → shape, of networks built without memory."""
    with torch.device("meta"):
        built: dict[str, nn.Module] = {
            "vae": networks.build_autoencoder(spec.autoencoder),
            "unet": networks.build_unet(spec),
        }
        if spec.controlnet:
            built["controlnet"] = networks.build_controlnet(spec)
    return {
        role: {key: tuple(value.shape) for key, value in network.state_dict().items()}
        for role, network in built.items()
    }


def lists() -> dict[Path, str]:
    """File → its text."""
    return {
        FOLDER / f"{name}.tsv": format_list(preset(name), tensors_in_networks(preset(name)))
        for name in presets()
    }


if __name__ == "__main__":
    for file, text in lists().items():
        file.parent.mkdir(exist_ok=True)
        file.write_text(text, encoding="utf-8")
