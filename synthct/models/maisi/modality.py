"""The networks' codes of modality and contrast, as published (facts of NV-Generate-CTMR)."""

from __future__ import annotations

UNKNOWN = 0
CT = 1
CONTRASTS = {"t1": 9, "t2": 10, "flair": 11, "mra": 16, "swi": 20}
SKULL_STRIPPED = {"t1": 29, "t2": 30, "flair": 31, "swi": 32, "mra": 33}
BRAIN_MR = 8
"""MR of the brain without a named contrast."""


def modality_class(modality: str, contrast: str = "", *, skull_stripped: bool = False) -> int:
    """The code of a training scan."""
    if modality == "CT":
        return CT
    return (SKULL_STRIPPED if skull_stripped else CONTRASTS).get(contrast, BRAIN_MR)
