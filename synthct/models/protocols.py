"""What a model family can offer. Workflows know families only through these."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from synthct.geometry import Geometry
from synthct.models.settings import Sampling
from synthct.volume.volume import LabelVolume, Volume

Stage = Callable[[str, int, int], None]
"""Called as work goes on: name of the stage, units done, units in all."""


class Generator(Protocol):
    """Makes a volume that follows a label map, or one of a field of view without a map."""

    def generate(
        self,
        place: LabelVolume | Geometry,
        sampling: Sampling,
        regions: tuple[str, ...],
        stage: Stage,
    ) -> Volume:
        """A volume in scanner units on the grid of `place` (RAS), from the networks alone."""
        ...
