"""Scanner units ↔ the networks' range, as MAISI has it.

CT: HU from -1000 to 1000 ↔ 0 to 1. MR has no unit of its own: 0 and up ↔ 0 to 1000 and up.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

HU_MIN = -1000.0
HU_MAX = 1000.0
AIR_HU = -1000.0
MR_SCALE = 1000.0
MR_PERCENTILES = (0.0, 99.5)

Float32 = npt.NDArray[np.float32]


def hu_to_unit(hu: npt.NDArray[Any]) -> Float32:
    """HU of any shape → [0, 1] float32, clipped at both ends."""
    unit = np.asarray(hu, dtype=np.float32) - np.float32(HU_MIN)
    unit /= np.float32(HU_MAX - HU_MIN)
    return np.clip(unit, 0.0, 1.0, out=unit)


def unit_to_hu(unit: npt.NDArray[Any]) -> Float32:
    """A decoder's output of any shape → HU float32; values outside [0, 1] are clipped first."""
    hu = np.clip(np.asarray(unit, dtype=np.float32), 0.0, 1.0)
    hu *= np.float32(HU_MAX - HU_MIN)
    hu += np.float32(HU_MIN)
    return hu


def percentile_units(image: npt.NDArray[Any]) -> Float32:
    """MR of any shape and scale → network units: the 0th percentile 0, the 99.5th 1.

    Not clipped above, as in the published preparation: the few brightest voxels exceed 1. An image
    of one value is 0 everywhere.
    """
    finite = np.nan_to_num(np.asarray(image, dtype=np.float32), posinf=0.0, neginf=0.0)
    low, high = np.percentile(finite, MR_PERCENTILES)
    if high <= low:
        return np.zeros(finite.shape, np.float32)
    scaled: Float32 = ((finite - low) / (high - low)).astype(np.float32)
    return scaled


def mr_to_unit(stored: npt.NDArray[Any]) -> Float32:
    """Stored MR of any shape (`MR_SCALE` at the 99.5th percentile) → network units, from 0 up."""
    return np.clip(np.asarray(stored, dtype=np.float32), 0.0, None) / np.float32(MR_SCALE)


def unit_to_mr(unit: npt.NDArray[Any]) -> Float32:
    """A decoder's output of any shape → MR intensity float32; below 0 is clipped, above 1 not."""
    return np.clip(np.asarray(unit, dtype=np.float32), 0.0, None) * np.float32(MR_SCALE)
