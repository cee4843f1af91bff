"""Where an array lies in the patient: affine, spacing, orientation. Millimetres, RAS+."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from synthct.errors import GridError

FloatArray = npt.NDArray[np.float64]
Shape = tuple[int, int, int]
Spacing = tuple[float, float, float]

_AXIS_CODES = (("L", "R"), ("P", "A"), ("I", "S"))
_AXIS_NAMES = {
    "R": "left to right",
    "L": "right to left",
    "A": "posterior to anterior",
    "P": "anterior to posterior",
    "S": "inferior to superior",
    "I": "superior to inferior",
}


@dataclass(frozen=True, eq=False)
class Geometry:
    """The place of a voxel grid: `shape` voxels (i, j, k) and a 4×4 `affine` voxel → mm (RAS+)."""

    shape: Shape
    affine: FloatArray

    def __post_init__(self) -> None:
        affine = np.array(self.affine, dtype=np.float64)
        if affine.shape != (4, 4) or not np.isfinite(affine).all():
            raise GridError(f"affine of shape {affine.shape} with finite values needed")
        if abs(np.linalg.det(affine[:3, :3])) < 1e-9:
            raise GridError("the affine is singular", "set a valid sform or qform")
        affine.setflags(write=False)
        object.__setattr__(self, "affine", affine)
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))

    @classmethod
    def from_spacing(cls, shape: Shape, spacing_mm: Spacing) -> Geometry:
        """An RAS grid with its first voxel's centre at the origin."""
        return cls(shape, np.diag([*spacing_mm, 1.0]))

    @property
    def spacing_mm(self) -> Spacing:
        i, j, k = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(i), float(j), float(k)

    @property
    def extent_mm(self) -> Spacing:
        """Field of view along i, j, k: shape × spacing."""
        i, j, k = (n * s for n, s in zip(self.shape, self.spacing_mm, strict=True))
        return i, j, k

    @property
    def voxel_mm3(self) -> float:
        return float(abs(np.linalg.det(self.affine[:3, :3])))

    @property
    def orientation(self) -> str:
        """Nearest axis codes, e.g. `RAS`: the direction in which i, j, k grow."""
        codes = [""] * 3
        for voxel_axis, (patient_axis, sign) in enumerate(self._ornt()):
            codes[voxel_axis] = _AXIS_CODES[patient_axis][int(sign > 0)]
        return "".join(codes)

    @property
    def axis_names(self) -> tuple[str, str, str]:
        """In words, the patient direction of i, j, k."""
        i, j, k = (_AXIS_NAMES[c] for c in self.orientation)
        return i, j, k

    def _ornt(self) -> list[tuple[int, int]]:
        directions = self.affine[:3, :3] / np.asarray(self.spacing_mm)
        left = directions.copy()
        out = [(0, 1)] * 3
        for _ in range(3):  # greedy: the most certain axis first, each used once
            patient, voxel = np.unravel_index(np.argmax(np.abs(left)), (3, 3))
            out[int(voxel)] = (int(patient), 1 if left[patient, voxel] > 0 else -1)
            left[patient, :] = 0
            left[:, voxel] = 0
        return out

    def to_ras(self) -> tuple[tuple[int, int, int], tuple[bool, bool, bool]]:
        """How to see an array of this grid as RAS: transpose by `axes`, then flip where `flips`.

        Returns axes (the voxel axis for R, A, S) and flips (per resulting axis).
        """
        ornt = self._ornt()
        axes = [0, 0, 0]
        flips = [False, False, False]
        for voxel_axis, (patient_axis, sign) in enumerate(ornt):
            axes[patient_axis] = voxel_axis
            flips[patient_axis] = sign < 0
        return (axes[0], axes[1], axes[2]), (flips[0], flips[1], flips[2])

    def as_ras(self) -> Geometry:
        """The geometry of the array after `to_ras`: nearest-axis RAS, nothing resampled."""
        axes, flips = self.to_ras()
        matrix = np.eye(4)
        shape = tuple(self.shape[a] for a in axes)
        for new, old in enumerate(axes):
            matrix[:3, new] = self.affine[:3, old]
        origin = self.affine[:3, 3].copy()
        for new, flip in enumerate(flips):
            if flip:
                origin += matrix[:3, new] * (shape[new] - 1)
                matrix[:3, new] *= -1
        matrix[:3, 3] = origin
        return Geometry((shape[0], shape[1], shape[2]), matrix)

    def with_spacing(self, spacing_mm: Spacing) -> Geometry:
        """The grid that covers this field of view at another spacing.

        Shape per axis = max(1, ceil(n·s_in/s_out − 1e-3)); the outer corner of the first
        voxel stays where it is; the spacing is exactly as asked (INTERFACE, "Grid").
        """
        shape = grid_shape(self.shape, self.spacing_mm, spacing_mm)
        directions = self.affine[:3, :3] / np.asarray(self.spacing_mm)
        corner = self.affine[:3, 3] - self.affine[:3, :3] @ np.full(3, 0.5)
        affine = np.eye(4)
        affine[:3, :3] = directions * np.asarray(spacing_mm, dtype=np.float64)
        affine[:3, 3] = corner + affine[:3, :3] @ np.full(3, 0.5)
        return Geometry(shape, affine)

    def same_as(self, other: Geometry, tolerance_mm: float = 1e-3) -> bool:
        return self.shape == other.shape and bool(
            np.allclose(self.affine, other.affine, rtol=0, atol=tolerance_mm)
        )

    def voxel_map_from(self, target: Geometry) -> FloatArray:
        """4×4: voxel of `target` → voxel of this grid (for resampling)."""
        return np.asarray(np.linalg.inv(self.affine) @ target.affine)


def grid_shape(shape: Shape, spacing_in_mm: Spacing, spacing_out_mm: Spacing) -> Shape:
    i, j, k = (
        max(1, math.ceil(n * a / b - 1e-3))
        for n, a, b in zip(shape, spacing_in_mm, spacing_out_mm, strict=True)
    )
    return i, j, k
