"""An array and the place it has in the patient, together and frozen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from synthct.errors import InputError
from synthct.geometry import Geometry


@dataclass(frozen=True, eq=False)
class Volume:
    """A scan: `array` (i, j, k) in scanner units (HU for CT) on `geometry`."""

    array: npt.NDArray[Any]
    geometry: Geometry
    modality: str = "CT"

    def __post_init__(self) -> None:
        _check(self.array, self.geometry)

    def with_array(self, array: npt.NDArray[Any]) -> Volume:
        return replace(self, array=array)


@dataclass(frozen=True, eq=False)
class LabelVolume:
    """A label map: integer `array` (i, j, k) on `geometry`, ids of the scheme named `scheme`.

    `names` holds the names that came with the file (id → name), empty where it had none.
    """

    array: npt.NDArray[Any]
    geometry: Geometry
    scheme: str = ""
    names: Mapping[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check(self.array, self.geometry)

    def ids(self) -> tuple[int, ...]:
        """The ids present, 0 left out, ascending."""
        return tuple(self.counts())

    def counts(self) -> dict[int, int]:
        """Voxels per id, 0 left out, ids ascending; slice by slice, so memory stays small."""
        total = np.zeros(1, dtype=np.int64)
        for plane in self.array:
            found = np.bincount(plane.ravel())
            if len(found) > len(total):
                total = np.pad(total, (0, len(found) - len(total)))
            total[: len(found)] += found
        return {int(v): int(total[v]) for v in np.flatnonzero(total) if v != 0}

    def with_array(self, array: npt.NDArray[Any]) -> LabelVolume:
        return replace(self, array=array)


def _check(array: npt.NDArray[Any], geometry: Geometry) -> None:
    if array.ndim != 3 or array.shape != geometry.shape:
        raise InputError(f"array of shape {array.shape} on a grid of shape {geometry.shape}")
