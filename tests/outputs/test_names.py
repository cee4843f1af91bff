"""What files are called, and that a name leads back to its case."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthct.outputs.names import CaseNames, names_of, stem_of


def test_the_names_of_the_contract() -> None:
    names = CaseNames(Path("out"), "seg", 0)
    assert {role: path.as_posix() for role, path in names.by_role().items()} == {
        "image": "out/seg_seed-0_ct.nii.gz",
        "labels": "out/seg_seed-0_dseg.nii.gz",
        "preview": "out/seg_seed-0_preview.png",
        "sidecar": "out/seg_seed-0.json",
    }
    assert list(names.by_role())[-1] == "sidecar"
    assert names.rejected().image == Path("out/rejected/seg_seed-0_ct.nii.gz")
    assert names.rejected().accepted() == names
    assert names.rejected().rejected() == names.rejected()


def test_a_contrast_takes_the_place_of_ct() -> None:
    assert CaseNames(Path("out"), "brain", 3, "T1w").image.name == "brain_seed-3_T1w.nii.gz"


@pytest.mark.parametrize(
    ("mask", "stem"),
    [
        ("a/seg.nii.gz", "seg"),
        ("a/seg.nii", "seg"),
        ("SEG.NII.GZ", "SEG"),
        ("a/seg.nrrd", "seg"),
        ("a/Segmentation.seg.nrrd", "Segmentation"),
        ("a/seg.mha", "seg"),
        ("a/case.1.2.nii.gz", "case.1.2"),
        (None, "maisi-mini-ct"),
    ],
)
def test_the_stem_is_the_mask_without_its_ending(mask: str | None, stem: str) -> None:
    assert stem_of(mask, "maisi-mini-ct") == stem


def test_a_folder_gives_its_own_name(tmp_path: Path) -> None:
    (tmp_path / "s0011.v2").mkdir()
    assert stem_of(tmp_path / "s0011.v2", "model") == "s0011.v2"


stems = st.text("abcXYZ019._- ", min_size=1, max_size=12)


@given(stem=stems, seed=st.integers(0, 2**63), kind=st.sampled_from(["ct", "T1w"]))
def test_an_image_leads_back_to_its_case(stem: str, seed: int, kind: str) -> None:
    names = CaseNames(Path("out"), stem, seed, kind)
    assert names_of(names.image) == names
    for path in (names.labels, names.preview, names.sidecar):
        found = names_of(path)
        assert found is not None
        assert found.sidecar == names.sidecar


@pytest.mark.parametrize("name", ["seg.nii.gz", "run.json", "seg_seed-_ct.nii.gz", "seed-1.json"])
def test_a_name_that_is_not_ours_leads_nowhere(name: str) -> None:
    assert names_of(name) is None
