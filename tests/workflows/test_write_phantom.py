"""A phantom on disk: ids, names, place; nothing overwritten unasked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from synthct.errors import UsageError
from synthct.labels.detect import detect
from synthct.volume.nifti import read_nifti
from synthct.workflows.phantom import write_phantom

COARSE = (8.0, 8.0, 8.0)


def test_the_file_holds_the_map_its_names_and_its_place(tmp_path: Path) -> None:
    written = write_phantom(tmp_path / "a.nii.gz", region="abdomen", spacing_mm=COARSE, seed=5)
    back = read_nifti(written.output)
    np.testing.assert_array_equal(back.array, written.labels.array)
    assert back.geometry.same_as(written.labels.geometry)
    assert set(back.names) == set(written.labels.ids())
    assert back.names[1] == "liver"
    assert back.description.startswith("SYNTHETIC")
    assert detect(written.labels.ids(), back.names).scheme.name == "maisi"


def test_equal_words_make_equal_files(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("a.nii.gz", "b.nii.gz")]
    for file in files:
        write_phantom(file, region="head", spacing_mm=COARSE, seed=1)
    assert files[0].read_bytes() == files[1].read_bytes()


def test_nothing_is_overwritten_unasked(tmp_path: Path) -> None:
    file = tmp_path / "a.nii.gz"
    file.write_text("precious", encoding="utf-8")
    with pytest.raises(UsageError, match="exists"):
        write_phantom(file, region="head", spacing_mm=COARSE)
    assert file.read_text(encoding="utf-8") == "precious"
    write_phantom(file, region="head", spacing_mm=COARSE, overwrite=True)
    assert file.read_bytes()[:2] == b"\x1f\x8b"


def test_another_suffix_is_refused_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="NIfTI"):
        write_phantom(tmp_path / "a.png")
