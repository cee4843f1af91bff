from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from synthct.errors import GridError, InputError, UsageError
from synthct.geometry import Geometry
from synthct.volume.prepared import (
    coarse_enough,
    conform,
    is_cut_out,
    save_case,
    without_table,
)
from synthct.volume.volume import Volume


def test_padding_and_nan_become_air_and_axes_ras() -> None:
    array = np.zeros((4, 5, 6), np.float32)
    array[0, 0, 0], array[1, 0, 0], array[3, 0, 0], array[2, 0, 0] = -3024, np.nan, 70, 3071
    geometry = Geometry(array.shape, np.diag([-3.0, 3.0, 3.0, 1.0]))  # LAS
    out = conform(Volume(array, geometry))
    assert out.geometry.orientation == "RAS"
    assert out.array[:, 0, 0].tolist() == [70.0, 1000.0, -1000.0, -1000.0]


def test_only_axes_finer_than_two_mm_are_resampled() -> None:
    volume = Volume(np.full((20, 20, 8), 40.0), Geometry.from_spacing((20, 20, 8), (1, 1, 5)))
    out = conform(volume)
    assert out.geometry.spacing_mm == pytest.approx((2, 2, 5))
    assert out.array.shape == (10, 10, 8)
    assert out.array == pytest.approx(40.0, abs=1e-3)
    assert coarse_enough((1.99, 2.5, 0.6), 2.0) == (1.99, 2.5, 2.0)


def test_oblique_scans_are_refused() -> None:
    def turned(angle: float) -> Volume:
        affine = 3 * np.eye(4)
        affine[:2, :2] = [
            [3 * np.cos(angle), -3 * np.sin(angle)],
            [3 * np.sin(angle), 3 * np.cos(angle)],
        ]
        affine[3, 3] = 1
        return Volume(np.zeros((3, 3, 3)), Geometry((3, 3, 3), affine))

    assert conform(turned(0.3)).array.shape == (3, 3, 3)  # a tilted gantry
    with pytest.raises(GridError, match="oblique"):
        conform(turned(0.6))


def test_the_table_becomes_air_and_skin_stays() -> None:
    hu = np.full((12, 12, 3), -1000.0)
    body = np.zeros(hu.shape, bool)
    body[3:9, 5:10] = True
    hu[body] = 30.4
    hu[2, 5:10] = -500  # partial volume beside the skin
    hu[:, 1] = 150  # the table
    out = without_table(hu, body)
    assert out.dtype == np.int16
    assert (out[:, 1] == -1000).all()
    assert (out[body] == 30).all()
    assert (out[2, 5:10] == -500).all()


def test_crops_are_told_from_whole_scans() -> None:
    body = np.zeros((10, 10, 4), bool)
    body[2:8, 2:8] = True
    assert not is_cut_out(body)
    assert is_cut_out(np.ones((10, 10, 4), bool))


def test_a_case_is_stored_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    arrays = {"image": np.ones((2, 3, 4), np.int16), "labels": np.ones((2, 3, 4), np.uint8)}
    save_case(path, arrays, (2, 2, 3), {"kind": "real"}, overwrite=False)
    with np.load(path, allow_pickle=False) as stored:
        assert set(stored.files) == {"image", "labels", "spacing_mm", "meta"}
        assert stored["spacing_mm"].tolist() == [2, 2, 3]
        assert json.loads(str(stored["meta"])) == {"kind": "real"}
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(UsageError):
        save_case(path, arrays, (2, 2, 3), {}, overwrite=False)


def test_arrays_of_one_case_share_their_shape(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="different shapes"):
        save_case(
            tmp_path / "a.npz",
            {"a": np.ones((1, 2, 3)), "b": np.ones((3, 2, 1))},
            (1, 1, 1),
            {},
            overwrite=False,
        )
    assert not list(tmp_path.iterdir())
