"""The Fréchet distance of two Gaussians, d² = |μ₁ − μ₂|² + tr(Σ₁ + Σ₂ − 2 (Σ₁Σ₂)^½).

The trace of the square root is the sum of the singular values of L₁ᵀL₂ for any factors Σ = LLᵀ
(the eigenvalues of Σ₁Σ₂ are their squares), so no root of a matrix is taken, nothing becomes
complex, and covariances without full rank are as good as any.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Gaussian:
    """`mean` (d,) and a `factor` (d, r) of the covariance, Σ = factor · factorᵀ."""

    mean: Floats
    factor: Floats

    @classmethod
    def of_moments(cls, mean: npt.NDArray[np.floating], covariance: npt.ArrayLike) -> Gaussian:
        """From a mean (d,) and a covariance (d, d)."""
        values, vectors = np.linalg.eigh(np.asarray(covariance, dtype=np.float64))
        return cls(np.asarray(mean, dtype=np.float64), vectors * np.sqrt(values.clip(0)))

    @classmethod
    def of_samples(cls, samples: npt.NDArray[np.floating]) -> Gaussian:
        """From rows (n, d), n at least 2; the covariance divides by n − 1.

        Raises:
            ValueError: fewer than two rows.
        """
        if len(samples) < 2:
            raise ValueError(f"{len(samples)} rows have no covariance; 2 are needed")
        rows = np.asarray(samples, dtype=np.float64)
        mean = rows.mean(axis=0)
        centred = (rows - mean) / np.sqrt(len(rows) - 1)
        if len(rows) <= rows.shape[1]:
            return cls(mean, np.ascontiguousarray(centred.T))
        return cls.of_moments(mean, centred.T @ centred)

    @property
    def variance(self) -> float:
        """The trace of the covariance."""
        return float(np.square(self.factor).sum())


def frechet_distance(first: Gaussian, second: Gaussian) -> float:
    """The squared Fréchet (2-Wasserstein) distance, as FID reports it; never below 0."""
    shift = float(np.square(first.mean - second.mean).sum())
    overlap = float(np.linalg.svd(first.factor.T @ second.factor, compute_uv=False).sum())
    return max(0.0, shift + first.variance + second.variance - 2 * overlap)
