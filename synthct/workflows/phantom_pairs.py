"""Phantoms that `prepare` adds to the pairs: another person, region and spacing for each number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from synthct.geometry import Spacing
from synthct.labels.groups import regions_present
from synthct.labels.remap import ids_present
from synthct.labels.render import render_hu
from synthct.phantom import make_phantom_with_tissues
from synthct.phantom.regions import REGIONS

SHARES = {"chest-abdomen": 14, "chest": 10, "abdomen": 10, "pelvis": 7, "head": 7}
SPACING_MM = (2.5, 4.0)
FIRST_SEED = 1000
LESION_SHARE = 0.35
_PREFIX = "phantom-"


@dataclass(frozen=True, eq=False)
class PhantomPair:
    """`arrays` (i, j, k) as they are stored: one rendering, and the tissues, so that training can
    draw others."""

    arrays: dict[str, npt.NDArray[Any]]
    spacing_mm: Spacing
    shown: tuple[str, ...]
    region: str
    person: int
    lesions: bool

    @property
    def meta(self) -> dict[str, object]:
        return {"kind": "phantom", "regions": list(self.shown), "region": self.region,
                "seed": self.person, "lesions": self.lesions}  # fmt: skip


def phantom_name(number: int) -> str:
    return f"{_PREFIX}{number:03d}"


def phantom_number(case: str) -> int:
    """The inverse of `phantom_name`."""
    return int(case.removeprefix(_PREFIX))


def draw_phantom(seed: int, number: int) -> PhantomPair:
    """The phantom of this number in a dataset of this seed."""
    rng = np.random.default_rng([seed, number])
    regions = [r for r in REGIONS if r in SHARES]
    shares = np.array([SHARES[r] for r in regions], float)
    region = regions[int(rng.choice(len(regions), p=shares / shares.sum()))]
    plane, along = (round(float(rng.uniform(*SPACING_MM)), 2) for _ in range(2))
    spacing = (plane, plane, along)
    person = FIRST_SEED + seed * 10_000 + number
    lesions = bool(rng.random() < LESION_SHARE)
    volume, tissues = make_phantom_with_tissues(region, spacing, person, lesions=lesions)
    labels = volume.array.astype(np.uint8)
    image = np.rint(render_hu(labels, tissues, spacing, rng)).astype(np.int16)
    arrays: dict[str, npt.NDArray[Any]] = {
        "image": image,
        "labels": labels,
        "tissues": tissues,
        "known": np.ones(labels.shape, np.uint8),
    }
    shown = tuple(regions_present(ids_present(labels)))
    return PhantomPair(arrays, spacing, shown, region, person, lesions)
