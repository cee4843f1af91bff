"""How good the averaged weights are on what they do not train on, from time to time."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from synthct.atomic import replacing
from synthct.training.task import Figures


@dataclass(frozen=True)
class Validation:
    """Figures of one look; `score` is the one that should fall. `picture`: grey values 0 to 1."""

    figures: Figures
    score: float
    picture: npt.NDArray[np.float32] | None = None


@dataclass
class Patience:
    """Counts looks without a new best score."""

    allowed: int
    """0: never runs out."""
    best: float = math.inf
    since: int = 0

    def spent(self, score: float) -> bool:
        """Take note of a score; whether `allowed` looks in a row brought no better one."""
        self.since = 0 if score < self.best else self.since + 1
        self.best = min(self.best, score)
        return bool(self.allowed) and self.since >= self.allowed


def save_picture(path: Path, picture: npt.NDArray[np.float32]) -> None:
    """A grey PNG of (rows, columns) in 0 to 1."""
    grey = np.rint(255 * np.clip(picture, 0, 1)).astype(np.uint8)
    with replacing(path, overwrite=True) as temporary:
        Image.fromarray(grey).save(temporary, format="PNG")
