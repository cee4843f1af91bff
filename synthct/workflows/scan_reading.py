"""The scan of a plan, from its files to what is prepared of it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from synthct.geometry import Geometry
from synthct.labels.body import body_from_ct
from synthct.record import fingerprint, sha256_of
from synthct.volume.dicom import read_series
from synthct.volume.prepared import (
    conform,
    is_cut_out,
    require_hu,
    without_table,
)
from synthct.volume.reading import read_image
from synthct.volume.volume import Volume
from synthct.workflows.cases import CasePlan


def read_plan(plan: CasePlan) -> Volume:
    """The scan as it lies on disk, in the units of its scanner."""
    if plan.series is not None:
        return read_series(plan.series)
    return read_image(plan.image, plan.modality)


def read_case(
    scan: Volume, finest_mm: float
) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.bool_], Geometry]:
    """A CT as int16 HU without the table, its body, its grid; a crop keeps all it shows.

    No axis of the grid is finer than `finest_mm`.

    Raises:
        InputError: its values are no HU.
    """
    require_hu(scan.array)
    volume: Volume = conform(scan, finest_mm)
    grid = volume.geometry
    body = body_from_ct(volume.array, grid.spacing_mm, 2)
    if is_cut_out(body):
        return np.rint(volume.array).astype(np.int16), body, grid
    return without_table(volume.array, body), body, grid


def source_sha256(plan: CasePlan) -> str:
    """Of the file, or of the hashes of a series' slices in their order."""
    if plan.series is None:
        return sha256_of(plan.image)
    return fingerprint({"slices": [sha256_of(path) for path in plan.series.files]})
