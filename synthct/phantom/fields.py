"""Smooth random fields over the patient: uniform cubic B-splines with random coefficients.

A field is a function of millimetres, not of voxels: the same seed gives the same deformation on
every grid. The basis is a partition of unity, so coefficients in [-1, 1] keep it in [-1, 1].
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]

DOMAIN_MM = ((-360.0, 360.0), (-300.0, 360.0), (-420.0, 900.0))
"""Where fields are defined, x y z; beyond it they go on with their border value."""


@dataclass(frozen=True)
class SmoothField:
    """A scalar field with features of about `cell_mm`, drawn from the seed words `entropy`."""

    entropy: tuple[int, ...]
    cell_mm: float

    def on_grid(self, x: Array, y: Array, z: Array) -> Array:
        """Values (len(x), len(y), len(z)) in [-1, 1], spread about 0.2, at axis positions in mm."""
        counts = tuple(self._count(axis) for axis in range(3))
        rng = np.random.default_rng(self.entropy)
        values = rng.uniform(-1.0, 1.0, counts).astype(np.float32)
        bx, by, bz = (self._basis(p, axis, counts[axis]) for axis, p in enumerate((x, y, z)))
        used = np.flatnonzero(bz.any(axis=0))
        values = np.tensordot(bx, values[:, :, used], axes=(1, 0))  # (x, b, c)
        values = np.einsum("jb,xbc->xjc", by, values, optimize=True)
        return np.asarray(values @ bz[:, used].T, dtype=np.float32)

    def _count(self, axis: int) -> int:
        low, high = DOMAIN_MM[axis]
        return math.ceil((high - low) / self.cell_mm) + 4

    def _basis(self, position: Array, axis: int, count: int) -> Array:
        """Weights (n, count): the four cubic B-spline weights of each position."""
        low, high = DOMAIN_MM[axis]
        t = (np.clip(position, low, high) - low) / self.cell_mm
        cell = np.floor(t).astype(np.int64)
        f = t - cell
        weights = (
            (1 - f) ** 3 / 6,
            (3 * f**3 - 6 * f**2 + 4) / 6,
            (-3 * f**3 + 3 * f**2 + 3 * f + 1) / 6,
            f**3 / 6,
        )
        out = np.zeros((len(position), count), dtype=np.float32)
        rows = np.arange(len(position))
        for offset, weight in enumerate(weights):
            out[rows, cell + offset] = weight
        return out
