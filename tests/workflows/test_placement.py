"""Where the patient leaves the field of view: the anatomy goes on, and no plane of skin ends it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from synthct.evaluation.artefacts import seams_along
from synthct.geometry import Geometry
from synthct.labels.body import body_from_ct
from synthct.phantom import make_phantom
from synthct.volume.nifti import write_labels
from synthct.volume.reading import read_image
from synthct.volume.volume import LabelVolume
from synthct.workflows.generate import generate
from synthct.workflows.grid import GridPlan
from synthct.workflows.mask import understand
from synthct.workflows.placement import place


def _cylinder() -> LabelVolume:
    """A body that leaves the field of view at both ends of the third axis, 3 mm."""
    ids = np.zeros((12, 12, 9), np.uint8)
    ids[3:9, 3:9] = 200
    ids[5, 5] = 1
    return LabelVolume(ids, Geometry.from_spacing(ids.shape, (3.0, 3.0, 3.0)), "maisi", {})


@pytest.mark.parametrize("more", [0, 5, 30])
def test_the_last_planes_are_repeated_beyond_the_field_of_view(more: int) -> None:
    mask = understand(_cylinder(), labels="maisi", body="none")
    ras = mask.labels.geometry
    fine = ras.with_spacing((2.0, 2.0, 2.0))  # 27 mm are 13.5 planes: 14, one centre outside
    inner = Geometry((*fine.shape[:2], fine.shape[2] + more), fine.affine)
    found = place(mask, GridPlan(ras, inner, ())).inner
    assert isinstance(found, LabelVolume)
    ends = found.array[9, 9]
    assert set(ends[: 14 + min(more, 6)]) == {200} or set(ends[: 14 + min(more, 6)]) == {1}
    assert not ends[22:].any()
    assert not found.array[0].any()  # air goes on as air


def test_a_generated_volume_has_no_seam_where_it_is_cut_off(tmp_path: Path) -> None:
    """87 planes, of which the network pads 9; a seam of 60 HU was there."""
    body = make_phantom("abdomen", (4.0, 4.0, 4.0), seed=2)
    kept = LabelVolume(
        body.array[:, :, 5:42],
        replace(body.geometry, shape=(*body.geometry.shape[:2], 37)),
        body.scheme,
        body.names,
    )
    write_labels(tmp_path / "cut.nii.gz", kept, {})
    done = generate(
        tmp_path / "cut.nii.gz",
        labels="maisi",
        output=tmp_path / "out",
        steps=4,
        retries=0,
        device="cpu",
    )
    (image,) = (tmp_path / "out").rglob("*_ct.nii.gz")
    hu = read_image(image).array
    inside = body_from_ct(hu, (4.0, 4.0, 4.0), 2)
    flagged = [seam for seam in seams_along(hu, inside, (4.0, 4.0, 4.0), 2) if seam.flagged]
    assert done is not None and not flagged
