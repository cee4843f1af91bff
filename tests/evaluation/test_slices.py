from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from monai.transforms import CenterSpatialCrop, SpatialPad

from synthct.evaluation.slices import PLANES, SlicedCase, Slicing, fitted, sliced
from tests.evaluation.studies import write_people


@pytest.mark.parametrize("shape", [(5, 9), (4, 12), (16, 7), (8, 8)])
def test_fitted_is_monais_pad_and_crop(shape: tuple[int, int]) -> None:
    array = np.arange(1.0, 1 + np.prod(shape)).reshape(shape)
    padded = SpatialPad((8, 8), mode="constant", value=0)(array[None])
    expected = CenterSpatialCrop((8, 8))(padded)[0]
    assert np.array_equal(fitted(array, 8), np.asarray(expected))


@pytest.mark.parametrize("length", [20, 33, 64, 80])
@pytest.mark.parametrize("share", [0.4, 1.0])
def test_the_padded_share_is_that_of_the_padded_cube(length: int, share: float) -> None:
    """MAISI's script pads and crops the volume to side³ first, then takes the share."""
    unit = np.random.default_rng(0).random((length, 12, 12), dtype=np.float32)
    slicing = Slicing(side=40, share=share, padded=True)
    cube = fitted(unit, 40)
    start, stop = int((1 - share) / 2 * 40), int((1 + share) / 2 * 40)
    found = np.concatenate(list(SlicedCase(unit, (0, 1), slicing).batches("sagittal", 7)))
    assert np.array_equal(found, cube[start:stop])


def test_planes_and_windows(tmp_path: Path) -> None:
    (case,) = write_people(tmp_path, range(1))
    shown = sliced(case, Slicing(4.0, 48, 0.5))
    assert shown.window == (-1000.0, 1000.0)
    assert [shown.count(plane) for plane in PLANES] == [16, 18, 20]
    liver = shown.unit[case.label_map().array == 1]
    assert np.median(liver) == pytest.approx((70 + 1000) / 2000, abs=0.01)
    assert shown.extremes("axial")[0] == 0.0
