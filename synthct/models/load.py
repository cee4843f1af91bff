"""A name → a ready model. A further family is one more branch here and a catalogue entry."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from synthct.checkpoints import catalogue, store
from synthct.checkpoints.catalogue import Entry
from synthct.checkpoints.load import load_into, read_metadata
from synthct.errors import UsageError
from synthct.models.headers import SCALE_FACTOR, SKIP, scale_factor, skips
from synthct.models.maisi.autoencoder import MaisiAutoencoder
from synthct.models.maisi.generator import MaisiGenerator
from synthct.models.maisi.mask_generator import MaskGenerator
from synthct.models.maisi.networks import build_autoencoder, build_controlnet, build_unet
from synthct.models.maisi.spec import preset
from synthct.models.networks import networks_of
from synthct.models.protocols import Generator
from synthct.models.settings import split_devices

__all__ = [
    "SCALE_FACTOR",
    "SKIP",
    "available_devices",
    "load_autoencoder",
    "load_generator",
    "load_mask_generator",
    "pick_device",
    "pick_devices",
    "skips",
]


def load_generator(name: str, weights: Path | None, device: torch.device) -> Generator:
    """The generator `name`, its weights verified.

    Raises:
        UsageError: no such model, or a family that generates nothing.
        WeightsError: the files are missing, damaged or unsafe.
    """
    entry = catalogue.entry(name)
    if entry.task == "mask-generator":
        raise UsageError(f"{name} makes masks, not volumes", "name it where masks are wished for")
    if entry.family == "maisi":
        return _maisi(entry, weights, device)
    raise UsageError(f"{name} belongs to the family {entry.family}, which generates nothing yet")


def load_mask_generator(entry: Entry, weights: Path | None, device: torch.device) -> MaskGenerator:
    """The networks that make masks from organ sizes.

    Raises:
        WeightsError: the files are missing, damaged or unsafe.
    """
    found = store.verify(entry, weights)
    build = networks_of(entry)
    vae, unet = (
        load_into(build[role], found.files[role], within=found.within(role)).to(device)
        for role in ("vae", "unet")
    )
    factor = scale_factor(
        read_metadata(found.files["unet"], within=found.within("unet")), found.files["unet"]
    )
    return MaskGenerator(vae, unet, factor, device)  # type: ignore[arg-type]


def load_autoencoder(name: str, weights: Path | None, device: torch.device) -> MaisiAutoencoder:
    """The image autoencoder of `name` alone; its U-Net need not be there.

    Raises:
        UsageError: no such model, or none that codes images.
        WeightsError: the file is missing, damaged or unsafe.
    """
    entry = catalogue.entry(name)
    if entry.family != "maisi" or entry.task == "mask-generator":
        raise UsageError(f"{name} has no autoencoder of images", "see `synthct weights list`")
    found = store.verify(entry, weights, roles=("vae",))
    spec = preset(str(entry.network["spec"])).autoencoder
    network = load_into(
        lambda: build_autoencoder(spec), found.files["vae"], within=found.within("vae")
    )
    return MaisiAutoencoder(spec, network.to(device), found.sha256()["vae"])


def pick_device(name: str) -> torch.device:
    """`auto` → the best one present; a named one that is absent is an error.

    Raises:
        UsageError: the device is not there; what is there is listed.
    """
    present = available_devices()
    if name == "auto":
        return torch.device(present[-1])
    if name not in present and not (name == "cuda" and "cuda:0" in present):
        raise UsageError(f"no device {name!r} here", f"present: auto, {', '.join(present)}")
    return torch.device(name)


def pick_devices(name: str) -> tuple[torch.device, ...]:
    """Every device of a list such as `cuda:0,cuda:1`; of one name the one.

    Raises:
        UsageError: as `pick_device`, or the devices do not go together.
    """
    return tuple(pick_device(part) for part in split_devices(name))


def available_devices() -> list[str]:
    """From the slowest to the fastest kind."""
    found = ["cpu"]
    if torch.backends.mps.is_available():
        found.append("mps")
    found += [f"cuda:{n}" for n in reversed(range(torch.cuda.device_count()))]
    return found


def _maisi(entry: Entry, weights: Path | None, device: torch.device) -> MaisiGenerator:
    found = store.verify(entry, weights)
    files, unet = found.files, found.files["unet"]
    stated = read_metadata(unet, within=found.within("unet"))
    spec = replace(preset(str(entry.network["spec"])), skip=skips(stated))
    controlnet = None
    if "controlnet" in files:
        controlnet = load_into(
            lambda: build_controlnet(spec),
            files["controlnet"],
            within=found.within("controlnet"),
            copied_from=unet,
        ).to(device)
    return MaisiGenerator(
        spec,
        load_into(
            lambda: build_autoencoder(spec.autoencoder), files["vae"], within=found.within("vae")
        ).to(device),
        load_into(lambda: build_unet(spec), unet, within=found.within("unet")).to(device),
        controlnet,
        scale_factor(stated, unet),
        device,
        modality=entry.modality,
    )
