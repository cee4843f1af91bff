"""`synthct weights verify`: checksums, and every key and shape against the networks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from synthct.checkpoints import store
from synthct.checkpoints.catalogue import Entry
from synthct.checkpoints.container import SAFETENSORS, open_container
from synthct.checkpoints.load import checked_path
from synthct.checkpoints.naming import Shapes, fit
from synthct.models.headers import read_header, refuse_disguised
from synthct.models.networks import shapes_of
from synthct.workflows import weights as light


def verify(names: Sequence[str] = (), weights: Path | None = None) -> dict[str, Any]:
    """Hold files against their checksums and the networks they are for.

    Raises:
        UsageError: the catalogue has no such model.
        MissingWeights: a file is not there.
        DamagedWeights: another checksum than recorded, another network's keys, or unreadable.
        UnsafeWeights: a file wants to run code, unfolds, or leads out of its folder.
    """
    result = light.verify(names, weights)
    for entry in light.named(names, weights):
        counts = _tensors(entry, store.locate(entry, weights))
        for check in result["models"][entry.name]:
            check["tensors"] = counts[check["role"]]
    return result


def _tensors(entry: Entry, found: store.Weights) -> dict[str, int]:
    """Role → how many tensors the file gives to its network, once all of them fit."""
    refuse_disguised(found)
    unet = _shapes(found, "unet")
    return {role: _matched(found, role, wanted, unet) for role, wanted in shapes_of(entry).items()}


def _matched(found: store.Weights, role: str, wanted: Shapes, unet: Shapes) -> int:
    path = found.files[role]
    copied_from = unet if role == "controlnet" and path.suffix != SAFETENSORS else None
    how = fit(wanted, _shapes(found, role), path, copied_from)
    return len(how.source)


def _shapes(found: store.Weights, role: str) -> Shapes:
    path = checked_path(found.files[role], found.within(role))
    if path.suffix == SAFETENSORS:
        return read_header(path)[0]
    return open_container(path).shapes()
