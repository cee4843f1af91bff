"""What a file may say about its place: refuse an affine or a voxel size that cannot be true."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from synthct.errors import InputError
from synthct.geometry import FloatArray

MIN_SPACING_MM = 0.05
MAX_SPACING_MM = 50.0
MAX_ORIGIN_MM = 1e5
AFFINE_HINT = "set a valid sform or qform, e.g. by converting again from DICOM"
_SMALLEST_DETERMINANT = 1e-4  # of the unit directions; 1 where they are orthogonal


def check_affine(path: Path, affine: FloatArray) -> None:
    """Refuse an affine (4, 4) in mm that places nothing.

    Raises:
        InputError: not finite, singular, of an absurd spacing, or far from any scanner.
    """
    if not np.isfinite(affine).all():
        raise InputError(f"{path}: the affine is not finite", AFFINE_HINT)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    if not spacing.all() or _determinant(affine, spacing) < _SMALLEST_DETERMINANT:
        raise InputError(f"{path}: the affine is singular", AFFINE_HINT)
    check_spacing(path, spacing, "the affine")
    farthest = float(np.abs(affine[:3, 3]).max())
    if farthest > MAX_ORIGIN_MM:
        raise InputError(
            f"{path}: the affine puts the first voxel {farthest:.3g} mm from the origin; "
            f"up to {MAX_ORIGIN_MM:g} accepted",
            AFFINE_HINT,
        )


def _determinant(affine: FloatArray, spacing: FloatArray) -> float:
    return float(abs(np.linalg.det(affine[:3, :3] / spacing)))


def check_spacing(path: Path, spacing_mm: FloatArray, source: str) -> None:
    """Refuse a voxel size (3,) outside 0.05 to 50 mm; the sign does not matter.

    Raises:
        InputError: naming `source`, the part of the header that said so.
    """
    size = np.abs(spacing_mm)
    if not np.all((size > MIN_SPACING_MM) & (size <= MAX_SPACING_MM)):
        limits = f"{MIN_SPACING_MM:g} to {MAX_SPACING_MM:g} mm"
        raise InputError(
            f"{path}: voxel size {in_words(spacing_mm)} mm by {source}; accepted: {limits}",
            "correct the header's voxel size (and its units)",
        )


def in_words(sizes_mm: FloatArray) -> str:
    return "x".join(f"{v:.5g}" for v in sizes_mm)
