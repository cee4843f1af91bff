"""The networks of a catalogue entry by role: what to build, and which tensors they hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import nn

from synthct.checkpoints.catalogue import Entry
from synthct.checkpoints.load import wanted_by
from synthct.checkpoints.naming import Shapes
from synthct.errors import UsageError
from synthct.models.maisi import networks as maisi
from synthct.models.maisi.mask_networks import build_mask_autoencoder, build_mask_unet
from synthct.models.maisi.spec import preset

Factories = Mapping[str, Callable[[], nn.Module]]


def networks_of(entry: Entry) -> Factories:
    """Role (`vae`, `unet`, `controlnet`) → a function that builds the network.

    Raises:
        UsageError: a family that is not known here.
    """
    if entry.family != "maisi":
        raise UsageError(f"{entry.name}: no networks are known of the family {entry.family}")
    if entry.task == "mask-generator":
        return {"vae": build_mask_autoencoder, "unet": build_mask_unet}
    spec = preset(str(entry.network["spec"]))
    found: dict[str, Callable[[], nn.Module]] = {
        "vae": lambda: maisi.build_autoencoder(spec.autoencoder),
        "unet": lambda: maisi.build_unet(spec),
    }
    if "controlnet" in entry.files.by_role():
        found["controlnet"] = lambda: maisi.build_controlnet(spec)
    return found


def shapes_of(entry: Entry) -> dict[str, Shapes]:
    """Role → key → shape, from networks that take no memory."""
    with torch.device("meta"):
        return {role: wanted_by(build()) for role, build in networks_of(entry).items()}
