"""Small studies on disk: blobs in air for people, quick to read and to tell apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from synthct.evaluation.cache import FeatureCache
from synthct.evaluation.case import Case, Role
from synthct.evaluation.metric import Study
from synthct.geometry import Geometry
from synthct.volume.nifti import write_labels, write_volume
from synthct.volume.volume import LabelVolume, Volume

SHAPE = (40, 36, 32)
SPACING_MM = 4.0
LIVER, LUNG, BODY = 1, 28, 200


def person(seed: int, *, noise_hu: float = 15.0) -> tuple[np.ndarray, np.ndarray]:
    """HU and MAISI ids of an ellipsoid with a liver and a lung, other sizes for other seeds."""
    rng = np.random.default_rng(seed)
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
    a, b = rng.uniform(0.75, 0.95, 2)
    labels = np.where((x / a) ** 2 + (y / b) ** 2 + (0.4 * z) ** 2 < 1, BODY, 0).astype(np.uint8)
    for organ, centre in ((LIVER, 0.35), (LUNG, -0.35)):
        cx, cy, cz = rng.normal((centre, 0, 0), 0.05)
        r = rng.uniform(0.25, 0.33)
        labels[((x - cx) ** 2 + (y - cy) ** 2 + 0.5 * (z - cz) ** 2) < r**2] = organ
    hu = np.full(SHAPE, -1000.0)
    for label, value in ((BODY, -60.0), (LIVER, 70.0), (LUNG, -800.0)):
        hu[labels == label] = value
    hu[labels > 0] += rng.normal(0, noise_hu, int((labels > 0).sum()))
    return hu.astype(np.float32), labels


def write_case(
    folder: Path, name: str, hu: np.ndarray, labels: np.ndarray | None = None
) -> tuple[Path, Path | None]:
    geometry = Geometry.from_spacing(hu.shape, (SPACING_MM,) * 3)  # type: ignore[arg-type]
    image = folder / f"{name}_ct.nii.gz"
    write_volume(image, Volume(hu, geometry))
    if labels is None:
        return image, None
    mask = folder / f"{name}_dseg.nii.gz"
    ids = LabelVolume(labels, geometry, scheme="maisi")
    write_labels(mask, ids, {LIVER: "liver", LUNG: "left lung upper lobe", BODY: "body"})
    return image, mask


def write_people(folder: Path, seeds: range, role: Role = "real", **how: float) -> tuple[Case, ...]:
    """One case per seed, with labels."""
    cases = []
    for seed in seeds:
        image, labels = write_case(folder, f"p{seed}", *person(seed, **how))
        cases.append(Case(f"p{seed}", image, labels, role, scheme="maisi"))
    return tuple(cases)


def study_of(
    real: tuple[Case, ...], synthetic: tuple[Case, ...], cache: Path | None = None
) -> Study:
    return Study(real, synthetic, cache=FeatureCache(cache))
