"""The augmentations of the paper, with MONAI's transforms: each with a chance of its own.

Flips and changes of resolution are made where crops are cut (`vae_task`, `data.random_crop`); the
autoencoder is asked for what it was shown, so that what is changed here is changed in both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from monai.transforms import (
    GibbsNoise,
    RandAdjustContrast,
    RandBiasField,
    RandHistogramShift,
    RandRotate,
    RandScaleIntensity,
    RandShiftIntensity,
    RandSimulateLowResolution,
)

ANGLE = np.pi / 12
FACTOR, OFFSET = 0.1, 0.05
"""Intensities in network units: times 0.9 to 1.1, plus −0.05 to 0.05."""
GIBBS = (0.3, 0.7)
GAMMA = (0.7, 1.5)
BIAS = (0.0, 0.3)
ZOOM = (0.5, 1.0)

Change = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Augment:
    """The chance of each change. None by default: small models have no capacity for it."""

    rotate: float = 0.0
    intensity: float = 0.0
    """Scale and shift, each."""
    low_resolution: float = 0.0
    """Sampled down and up again."""
    bias_field: float = 0.0
    gibbs: float = 0.0
    contrast: float = 0.0
    histogram: float = 0.0

    def __call__(
        self, image: torch.Tensor, rng: np.random.Generator, modality: str
    ) -> torch.Tensor:
        """(1, 1, X, Y, Z) in network units, changed; the last four changes are for MR alone.

        CT stays in [0, 1], MR at 0 and above.
        """
        out = image[0]
        for chance, make in self._changes(modality):
            if rng.random() < chance:
                out = torch.as_tensor(make(rng)(out))
        high = 1.0 if modality == "CT" else None
        return out.clamp(0.0, high).to(torch.float32)[None]

    def _changes(
        self, modality: str
    ) -> list[tuple[float, Callable[[np.random.Generator], Change]]]:
        both: list[tuple[float, Callable[[np.random.Generator], Change]]] = [
            (self.rotate, _rotation),
            (self.intensity, _seeded(RandScaleIntensity, factors=FACTOR)),
            (self.intensity, _seeded(RandShiftIntensity, offsets=OFFSET)),
            (self.low_resolution, _seeded(RandSimulateLowResolution, zoom_range=ZOOM)),
        ]
        if modality == "CT":
            return both
        return [
            *both,
            (self.bias_field, _seeded(RandBiasField, coeff_range=BIAS)),
            (self.gibbs, _gibbs),
            (self.contrast, _seeded(RandAdjustContrast, gamma=GAMMA)),
            (self.histogram, _seeded(RandHistogramShift, num_control_points=(5, 10))),
        ]


def _seeded(transform: Any, **words: Any) -> Callable[[np.random.Generator], Change]:
    """A MONAI transform that is sure to act, with its random state drawn from `rng`."""

    def make(rng: np.random.Generator) -> Change:
        made = transform(prob=1.0, **words)
        made.set_random_state(seed=int(rng.integers(2**31)))
        change: Change = made
        return change

    return make


def _gibbs(rng: np.random.Generator) -> Change:
    noise = GibbsNoise(alpha=float(rng.uniform(*GIBBS)))
    return lambda image: torch.as_tensor(noise(image))


def _rotation(rng: np.random.Generator) -> Change:
    """About all axes, the volume's size kept, its border repeated outside."""
    return _seeded(
        RandRotate,
        range_x=ANGLE,
        range_y=ANGLE,
        range_z=ANGLE,
        keep_size=True,
        padding_mode="border",
    )(rng)
