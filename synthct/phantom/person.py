"""Who the phantom is: size, fat, sex, posture, drawn from the seed."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np

from synthct.errors import UsageError


@dataclass(frozen=True)
class Person:
    """The traits of one body. Lengths in mm; scales are shares of the model body."""

    seed: int
    male: bool
    scale: tuple[float, float, float]
    fat_mm: float
    belly_mm: float
    breath_mm: float
    lordosis: float
    kyphosis: float
    scoliosis_mm: float
    arms_raised: bool

    @classmethod
    def from_seed(cls, seed: int, *, arms_raised: bool | None = None) -> Person:
        """Draw every trait; `arms_raised` overrides the posture (a head scan has them down)."""
        if seed < 0:
            raise UsageError(f"seed {seed}; whole numbers from 0 are accepted")
        rng = np.random.default_rng([seed, _word("person")])
        male = bool(rng.random() < 0.5)
        size = 1.01 if male else 0.95
        fat = float(np.clip(rng.gamma(4.0, 3.5), 5.0, 32.0))
        height, width, depth = size * np.array([1.0, 1.02, 1.02]) + rng.normal(0, 0.03, 3)
        raised = bool(rng.random() < 0.85)
        return cls(
            seed=seed,
            male=male,
            scale=(float(width), float(depth), float(height)),
            fat_mm=fat * (1.0 if male else 1.15),
            belly_mm=float(np.clip(1.1 * (fat - 10) + rng.normal(0, 6), -6, 30)),
            breath_mm=float(rng.uniform(-14, 8)),
            lordosis=float(rng.uniform(0.6, 1.4)),
            kyphosis=float(rng.uniform(0.7, 1.25)),
            scoliosis_mm=float(rng.normal(0, 3)),
            arms_raised=raised if arms_raised is None else arms_raised,
        )

    def rng(self, name: str) -> np.random.Generator:
        """A generator for one structure, so that no structure's draw moves another's."""
        return np.random.default_rng([self.seed, _word(name)])

    def factor(self, name: str, spread: float) -> float:
        """A random size factor around 1, within two `spread`s."""
        return float(1 + np.clip(self.rng(name).normal(0, spread), -2 * spread, 2 * spread))

    def entropy(self, name: str) -> tuple[int, int]:
        return self.seed, _word(name)


def _word(name: str) -> int:
    return zlib.crc32(name.encode())
