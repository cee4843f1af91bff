"""What `benchmarks/quality.py` says of heads: pictures without a face, a fair classifier."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from benchmarks.head_planes import DEPTHS_MM, brain_planes
from benchmarks.slice_classifier import tell_apart
from synthct.evaluation.case import Case
from synthct.geometry import Geometry
from synthct.volume.nifti import write_volume
from synthct.volume.volume import Volume

SHAPE, SPACING_MM = (64, 72, 80), 3.0


def head(seed: int, *, vertex: int = 70, blur: float = 0.0) -> np.ndarray:
    """A ball of mottled tissue on a neck; brightness tells how deep below `vertex` a plane is."""
    rng = np.random.default_rng(seed)
    x, y, z = np.indices(SHAPE)
    radius = 26 + rng.uniform(-2, 2)
    inside = (x - 32) ** 2 + (y - 36) ** 2 + (z - vertex + radius) ** 2 < radius**2
    inside |= (x - 32) ** 2 + (y - 36) ** 2 + 0 * z < 100
    inside &= z <= vertex
    texture = ndimage.gaussian_filter(rng.normal(0, 1, SHAPE), 1.0)
    array = inside * (600 + 400 * texture / texture.std() * 0.5).clip(200, 1000)
    return (ndimage.gaussian_filter(array, blur) if blur else array).astype(np.float32)


def cases(folder: Path, seeds: range, **how: float) -> list[Case]:
    made = []
    for seed in seeds:
        path = folder / f"{seed}_{how.get('blur', 0):g}_T1w.nii.gz"
        geometry = Geometry.from_spacing(SHAPE, (SPACING_MM,) * 3)
        write_volume(path, Volume(head(seed, **how), geometry, "MR"))  # type: ignore[arg-type]
        made.append(Case(path.name, path, modality="MR"))
    return made


def test_planes_lie_in_the_brain_above_the_eyes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (case,) = cases(tmp_path, range(1))
    array = np.zeros(SHAPE, np.float32) + 0.5
    array[:, :, 71:] = 0
    array[:, :, :70] = np.linspace(0.3, 1.0, 70)  # every plane has a brightness of its own
    volume = case.volume().with_array(array)
    monkeypatch.setattr(Case, "volume", lambda self: volume)
    shown = brain_planes(case)
    assert shown is not None and shown.shape == (128, 3 * 128)
    depths = [(70 - np.abs(array[0, 0, :70] * 255 - shown[64, 64 + 128 * n]).argmin()) * SPACING_MM
              for n in range(3)]  # fmt: skip
    assert depths == pytest.approx(DEPTHS_MM, abs=1.5 * SPACING_MM)
    assert max(DEPTHS_MM) < 65  # the roofs of the orbits lie some 80 mm below the vertex


def test_a_head_whose_vertex_is_cut_off_is_not_shown(tmp_path: Path) -> None:
    (case,) = cases(tmp_path, range(1), vertex=SHAPE[2] - 1)
    assert brain_planes(case) is None


def test_the_classifier_tells_blur_and_does_not_tell_like_from_like(tmp_path: Path) -> None:
    real, like = cases(tmp_path, range(8)), cases(tmp_path, range(10, 18))
    blurred = cases(tmp_path, range(20, 28), blur=2.0)
    told, same = (tell_apart(real, others, steps=60) for others in (blurred, like))
    assert told.slices > 0.8 and told.cases > 0.8
    assert 0.2 < same.slices < 0.8
    assert told.case_count == 16
