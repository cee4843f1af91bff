"""Types for the fixtures of these tests."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from synthct.volume.volume import LabelVolume

Made = tuple[LabelVolume, npt.NDArray[np.uint8]]
Make = Callable[..., Made]
