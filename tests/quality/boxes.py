"""A patient of boxes: a body in air, a few organs in it, each at its usual HU."""

from __future__ import annotations

import numpy as np

from synthct.geometry import Geometry
from synthct.volume.volume import LabelVolume, Volume

SHAPE = (40, 36, 30)
SPACING_MM = (3.0, 3.0, 4.0)
BODY = 200
USUAL_HU = {
    1: 55,  # liver
    3: 48,  # spleen
    4: -9,  # pancreas, fatty
    12: -60,  # stomach, gas and food
    15: 8,  # bladder
    22: 33,  # brain
    28: -840,
    29: -820,
    30: -850,
    31: -830,
    32: -800,  # right lower lobe
    35: 180,  # L3
    98: 35,  # gluteus maximus
}
AIR_HU, FAT_HU, NOISE_HU = -1000, -90, 12


def patient(seed: int = 0, **changed_hu: float) -> tuple[Volume, LabelVolume]:
    """Volume and labels; `id_35=0` puts label 35 at 0 HU."""
    geometry = Geometry.from_spacing(SHAPE, SPACING_MM)
    labels = np.zeros(SHAPE, dtype=np.uint8)
    labels[4:36, 4:32, :] = BODY
    hu_of = USUAL_HU | {int(name.removeprefix("id_")): hu for name, hu in changed_hu.items()}
    for number, id_ in enumerate(USUAL_HU):
        i, k = 6 + 7 * (number % 4), 2 + 7 * (number // 4)
        labels[i : i + 5, 10:18, k : k + 5] = id_
    hu = np.full(SHAPE, float(AIR_HU))
    hu[labels == BODY] = FAT_HU
    for id_, value in hu_of.items():
        hu[labels == id_] = value
    hu += np.random.default_rng(seed).normal(0, NOISE_HU, SHAPE)
    hu[labels == 0] = AIR_HU
    return (
        Volume(hu.astype(np.float32), geometry),
        LabelVolume(labels, geometry, scheme="maisi"),
    )
