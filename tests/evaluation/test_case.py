"""A case's mask is read by the scheme that was chosen for it, and what is kept knows by which."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from synthct.errors import MaskError
from synthct.evaluation.cache import FeatureCache
from synthct.evaluation.case import Case, scheme_for
from synthct.geometry import Geometry
from synthct.volume.nifti import write_labels, write_volume
from synthct.volume.volume import LabelVolume, Volume

GRID = Geometry.from_spacing((8, 8, 8), (4.0, 4.0, 4.0))


@pytest.fixture
def raw(tmp_path: Path) -> tuple[Path, Path]:
    """A mask without names: 5 is the liver of TotalSegmentator, and the right kidney of MAISI."""
    labels = np.zeros(GRID.shape, np.uint8)
    labels[2:6, 2:6, 2:6] = 5
    write_volume(tmp_path / "a_ct.nii.gz", Volume(np.zeros(GRID.shape, np.float32), GRID))
    write_labels(tmp_path / "a_dseg.nii.gz", LabelVolume(labels, GRID, scheme="raw"), {})
    return tmp_path / "a_ct.nii.gz", tmp_path / "a_dseg.nii.gz"


def test_schemes_by_role() -> None:
    assert scheme_for("real", "maisi") == scheme_for("training", "maisi") == "maisi"
    assert scheme_for("real", {"real": "totalsegmentator"}) == "totalsegmentator"
    assert scheme_for("synthetic", {"real": "totalsegmentator"}) == "auto"


def test_ids_are_read_by_the_scheme_of_the_case(raw: tuple[Path, Path]) -> None:
    for scheme, expected in (("totalsegmentator", 1), ("maisi", 5)):
        case = Case("a", *raw, scheme=scheme)
        assert set(np.unique(case.label_map().array)) == {0, expected}
        assert case.as_dict()["scheme"] == scheme


def test_a_mask_that_nobody_can_read_is_named(raw: tuple[Path, Path]) -> None:
    with pytest.raises(MaskError, match=r"a_dseg\.nii\.gz: the mask came without names"):
        Case("a", *raw).label_map()


def test_what_is_kept_is_not_taken_for_another_scheme(
    raw: tuple[Path, Path], tmp_path: Path
) -> None:
    cache = FeatureCache(tmp_path / "cache")

    def kept(scheme: str, unknown: str = "error") -> list[int]:
        case = Case("a", *raw, scheme=scheme, unknown=unknown)  # type: ignore[arg-type]
        made = cache.arrays(case, "ids", {}, lambda: {"ids": np.unique(case.label_map().array)})
        return [int(label) for label in made["ids"]]

    assert kept("maisi") == [0, 5]
    assert kept("totalsegmentator") == [0, 1]
    bare = Case("b", raw[0])
    assert cache.path(bare, "x", {}) == cache.path(Case("b", raw[0], scheme="maisi"), "x", {})


def test_a_scheme_file_that_changed_is_another_scheme(
    raw: tuple[Path, Path], tmp_path: Path
) -> None:
    file, cache = tmp_path / "own.json", FeatureCache(tmp_path / "cache")
    paths = []
    for organ in ("liver", "spleen"):
        file.write_text(f'{{"5": "{organ}"}}', encoding="utf-8")
        paths.append(cache.path(Case("a", *raw, scheme=str(file)), "ids", {}))
    assert paths[0] != paths[1]
    told = Case("a", *raw, scheme=str(file)).as_dict()
    assert told["scheme"] == "own.json" and len(str(told["scheme_sha256"])) == 64
