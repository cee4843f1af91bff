"""Scanner units ↔ the networks' range. CT: HU from -1000 to 1000 ↔ 0 to 1, as MAISI has it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

HU_MIN = -1000.0
HU_MAX = 1000.0
AIR_HU = -1000.0

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
