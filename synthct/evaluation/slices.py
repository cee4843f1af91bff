"""A volume as slices of three planes, all of one size: what a 2D feature network is shown."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from synthct.evaluation.case import Case
from synthct.volume.intensity import HU_MAX, HU_MIN, hu_to_unit
from synthct.volume.resample import resample_image

Float32 = npt.NDArray[np.float32]

PLANES = ("axial", "coronal", "sagittal")
_AXIS = {"axial": 2, "coronal": 1, "sagittal": 0}
MR_HIGH_PERCENTILE = 99.5


@dataclass(frozen=True)
class Slicing:
    """Which slices, on which grid.

    Attributes:
        spacing_mm: volumes are resampled to this, isotropic.
        side: slices are padded with air and cropped at the centre to side x side pixels.
        share: of the slices of a plane, those in the middle.
        padded: the volume is padded and cropped to side³ first, so that the share is one of `side`
            planes, empty ones included, as in MAISI's script; else it is one of the volume's own.
    """

    spacing_mm: float = 2.0
    side: int = 256
    share: float = 0.4
    padded: bool = False

    def span(self, length: int) -> range:
        """The slices taken of an axis of `length` voxels; negative ones lie in the padding.

        >>> Slicing(share=0.4).span(100)
        range(30, 70)
        >>> Slicing(side=512, padded=True).span(100)
        range(-53, 152)
        """
        planes = self.side if self.padded else length
        start = int((1 - self.share) / 2 * planes)
        stop = max(start + 1, int((1 + self.share) / 2 * planes))
        shift = _start(length, self.side) if self.padded else 0
        return range(start + shift, stop + shift)

    def in_words(self) -> str:
        middle = "all" if self.share >= 1 else f"the middle {self.share:g}"
        whose = f"{self.side} padded planes" if self.padded else "the volume's planes"
        return f"{middle} of {whose}, padded and cropped to {self.side} x {self.side}"

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, eq=False)
class SlicedCase:
    """A case in the networks' range: `unit` (i, j, k) RAS, 0 to 1, and the window it shows."""

    unit: Float32
    window: tuple[float, float]
    slicing: Slicing

    def count(self, plane: str) -> int:
        return len(self.slicing.span(self.unit.shape[_AXIS[plane]]))

    def batches(self, plane: str, size: int) -> Iterator[Float32]:
        """Stacks (at most `size`, side, side) of one plane, in order."""
        axis = _AXIS[plane]
        wanted = self.slicing.span(self.unit.shape[axis])
        for first in range(0, len(wanted), size):
            chosen = wanted[first : first + size]
            yield np.stack([self._slice(axis, at) for at in chosen])

    def extremes(self, plane: str) -> tuple[float, float]:
        """Lowest and highest value among the slices of a plane."""
        found = [(float(b.min()), float(b.max())) for b in self.batches(plane, 16)]
        return min(low for low, _ in found), max(high for _, high in found)

    def _slice(self, axis: int, at: int) -> Float32:
        if not 0 <= at < self.unit.shape[axis]:
            return np.zeros((self.slicing.side,) * 2, dtype=np.float32)
        return fitted(np.take(self.unit, at, axis=axis), self.slicing.side)


def sliced(case: Case, slicing: Slicing) -> SlicedCase:
    """Read a case: CT −1000..1000 HU as 0..1, MR 0..its 99.5th percentile as 0..1, resampled.

    Raises:
        InputError: it cannot be read.
    """
    volume = case.volume()
    grid = volume.geometry.with_spacing((slicing.spacing_mm,) * 3)
    array = resample_image(volume, grid).array
    if case.modality == "CT":
        return SlicedCase(hu_to_unit(array), (HU_MIN, HU_MAX), slicing)
    high = max(float(np.percentile(volume.array, MR_HIGH_PERCENTILE)), 1e-6)
    unit = np.clip(array / np.float32(high), 0, 1, dtype=np.float32)
    return SlicedCase(unit, (0.0, high), slicing)


def fitted(array: npt.NDArray[Any], side: int) -> Float32:
    """Padded with 0 and cropped at the centre to `side` along every axis.

    >>> fitted(np.ones((1, 3)), 2).tolist()
    [[1.0, 1.0], [0.0, 0.0]]
    """
    out = np.zeros((side,) * array.ndim, dtype=np.float32)
    source, target = [], []
    for n in array.shape:
        start = _start(n, side)
        lower, upper = max(start, 0), min(start + side, n)
        source.append(slice(lower, upper))
        target.append(slice(lower - start, upper - start))
    out[tuple(target)] = array[tuple(source)]
    return out


def _start(length: int, side: int) -> int:
    """Voxel of the array at which the fitted one begins; negative where it is padded."""
    return length // 2 - side // 2 if length > side else -((side - length) // 2)
