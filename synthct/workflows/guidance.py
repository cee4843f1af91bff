"""How much each condition is strengthened: lesions, modality and mask by a scale each. No torch."""

from __future__ import annotations

from typing import NamedTuple

from synthct.checkpoints.catalogue import Entry
from synthct.diffusion.scales import NONE, within, worth_running
from synthct.errors import UsageError
from synthct.models.maisi.footprint import Cost
from synthct.workflows.request import Request

KIND = {"lesions": "tumor", "modality": "modality", "mask": "mask"}
"""What an entry says that it guides → the option's name."""


class Scales(NamedTuple):
    """0 and 1 strengthen nothing."""

    tumor: float
    modality: float
    mask: float = 0.0

    @classmethod
    def of(cls, guided: str, scale: float) -> Scales:
        """One scale, of what `Entry.guides` names."""
        return cls(**{"tumor": 0.0, "modality": 0.0, KIND[guided]: scale})


def cost_of(asked: Scales, lesions: bool = True, masked: bool = True) -> Cost:
    """What `models.maisi.guidance.branches` comes to.

    `masked`: whether there is a mask, `lesions`: whether it shows any.

    >>> cost_of(Scales(tumor=3.0, modality=2.0))
    Cost(branches=3, masks=2, modalities=2, blind=0)
    >>> cost_of(Scales(tumor=3.0, modality=0.0, mask=1.5))
    Cost(branches=3, masks=2, modalities=1, blind=1)
    """
    mask = asked.mask * masked
    tumor = within(asked.tumor, mask) * lesions
    groups = worth_running([("mask", mask), ("modality", asked.modality), ("tumor", tumor)])
    left = frozenset[str]().union(*(names for _, names in groups))
    seen = [left] + [left := left - names for _, names in groups]
    steered = [names for names in seen if "mask" not in names]
    return Cost(
        len(seen),
        len({"tumor" in names for names in steered}),
        len({"modality" in names for names in seen}),
        len(seen) - len(steered),
    )


def scales(request: Request, entry: Entry) -> Scales:
    """Those asked for; `--guidance` and the model's own are of what `entry.guides` names.

    Raises:
        UsageError: a scale of something that the model is not told, or the same one twice.
    """
    _require(request, entry)
    asked = {
        "tumor": request.tumor_guidance,
        "modality": request.modality_guidance,
        "mask": request.mask_guidance,
    }
    own = KIND[entry.guides]
    asked[own] = _one(request.guidance, asked[own], own, entry)
    return Scales(asked["tumor"] or 0.0, asked["modality"] or 0.0, asked["mask"] or 0.0)


def _one(plain: float | None, own: float | None, name: str, entry: Entry) -> float:
    if plain is not None and own is not None and plain != own:
        raise UsageError(
            f"--guidance {plain:g} and --{name}-guidance {own:g}: for {entry.name} they are one",
            "give one of them",
        )
    asked = own if plain is None else plain
    return entry.default_guidance if asked is None else asked


def _require(request: Request, entry: Entry) -> None:
    no_mask = entry.task == "image-only" or request.mask is None
    if request.tumor_guidance and no_mask:
        why = "it takes no mask" if entry.task == "image-only" else "without a mask there are none"
        raise UsageError(f"--tumor-guidance strengthens the mask's lesions; {why}")
    pushed = request.mask_guidance is not None and request.mask_guidance not in NONE
    if pushed and no_mask and not entry.draws_mask:
        raise UsageError(
            f"--mask-guidance strengthens the mask, and {entry.name} follows none here",
            "leave it out, or give a --mask to a model that takes one",
        )
    if request.modality_guidance and not entry.conditions.modality_class:
        raise UsageError(
            f"--modality-guidance: {entry.name} is told no modality",
            "--tumor-guidance strengthens the lesions of the mask",
        )
