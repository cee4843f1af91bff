"""How much each condition is strengthened: lesions and modality by a scale each. No torch."""

from __future__ import annotations

from typing import NamedTuple

from synthct.checkpoints.catalogue import Entry
from synthct.errors import UsageError
from synthct.models.maisi.footprint import Cost
from synthct.workflows.request import Request


class Scales(NamedTuple):
    """0 and 1 strengthen nothing."""

    tumor: float
    modality: float


def cost_of(asked: Scales, lesions: bool = True) -> Cost:
    """What `models.maisi.guidance.branches` comes to; `lesions`: whether the mask shows any.

    >>> cost_of(Scales(tumor=3.0, modality=2.0))
    Cost(branches=3, masks=2, modalities=2)
    """
    tumor = lesions and asked.tumor not in (0, 1)
    modality = asked.modality not in (0, 1)
    together = tumor and modality and asked.tumor == asked.modality
    return Cost(1 + tumor + modality - together, 1 + tumor, 1 + modality)


def scales(request: Request, entry: Entry) -> Scales:
    """Those asked for; `--guidance` and the model's own are of what `entry.guides` names.

    Raises:
        UsageError: a scale of something that the model is not told, or the same one twice.
    """
    tumor, modality, plain = request.tumor_guidance, request.modality_guidance, request.guidance
    _require(request, entry, tumor, modality)
    if entry.guides == "modality":
        modality = _one(plain, modality, "modality", entry)
    else:
        tumor = _one(plain, tumor, "tumor", entry)
    return Scales(tumor or 0.0, modality or 0.0)


def _one(plain: float | None, own: float | None, name: str, entry: Entry) -> float:
    if plain is not None and own is not None and plain != own:
        raise UsageError(
            f"--guidance {plain:g} and --{name}-guidance {own:g}: for {entry.name} they are one",
            "give one of them",
        )
    asked = own if plain is None else plain
    return entry.default_guidance if asked is None else asked


def _require(request: Request, entry: Entry, tumor: float | None, modality: float | None) -> None:
    if tumor and (entry.task == "image-only" or request.mask is None):
        why = "it takes no mask" if entry.task == "image-only" else "without a mask there are none"
        raise UsageError(f"--tumor-guidance strengthens the mask's lesions; {why}")
    if modality and not entry.conditions.modality_class:
        raise UsageError(
            f"--modality-guidance: {entry.name} is told no modality",
            "--tumor-guidance strengthens the lesions of the mask",
        )
