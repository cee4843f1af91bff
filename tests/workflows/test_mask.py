"""A mask is understood or refused, and says the same things after any detour."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from synthct.errors import MaskError, UsageError
from synthct.geometry import Geometry
from synthct.labels.scheme import load_scheme
from synthct.volume.nifti import write_labels, write_volume
from synthct.volume.reading import read_labels
from synthct.volume.volume import LabelVolume, Volume
from synthct.workflows import mask as masks
from synthct.workflows.mask import understand

LIVER, SPLEEN = 5, 1  # TotalSegmentator's ids; MAISI's are 1 and 3
GEOMETRY = Geometry.from_spacing((32, 28, 20), (4.0, 4.0, 5.0))
NAMES = {LIVER: "liver", SPLEEN: "spleen"}


@pytest.fixture
def labels() -> LabelVolume:
    """A liver on the right and a spleen on the left (RAS), ids of TotalSegmentator."""
    array = np.zeros(GEOMETRY.shape, np.uint8)
    array[18:26, 10:18, 6:14] = LIVER
    array[7:11, 9:14, 7:12] = SPLEEN
    return LabelVolume(array, GEOMETRY, "", NAMES)


@pytest.fixture
def named(labels: LabelVolume, tmp_path: Path) -> Path:
    path = tmp_path / "named.nii.gz"
    write_labels(path, labels, NAMES)
    return path


@pytest.fixture
def nameless(labels: LabelVolume, tmp_path: Path) -> Path:
    path = tmp_path / "nameless.nii.gz"
    write_labels(path, labels, {})
    return path


@pytest.fixture
def ct(labels: LabelVolume, tmp_path: Path) -> Path:
    """A cylinder of water around the organs, on a finer grid than the mask's."""
    geometry = GEOMETRY.with_spacing((2.0, 2.0, 5.0))
    i, j, _ = np.indices(geometry.shape)
    inside = ((i - 33) / 24) ** 2 + ((j - 27) / 20) ** 2 < 1
    path = tmp_path / "ct.nii.gz"
    write_volume(path, Volume(np.where(inside, 20, -1000), geometry))
    return path


def test_names_decide_and_organs_arrive_where_they_were(named: Path, labels: LabelVolume) -> None:
    understood = understand(named)
    assert understood.scheme.name == "totalsegmentator"
    assert np.array_equal(understood.labels.array == 1, labels.array == LIVER)
    assert np.array_equal(understood.labels.array == 3, labels.array == SPLEEN)
    assert understood.body_source == "labels"
    assert understood.regions == ("abdomen",)
    assert (understood.labels.array == 200).sum() > 0


def test_without_names_it_is_refused_and_the_flag_is_named(nameless: Path) -> None:
    with pytest.raises(MaskError) as refused:
        understand(nameless)
    assert "--labels" in refused.value.hint
    assert understand(nameless, labels="totalsegmentator").scheme.name == "totalsegmentator"


def test_no_body_on_request(named: Path) -> None:
    understood = understand(named, body="none")
    assert set(understood.labels.ids()) == {1, 3}
    assert understood.body_source == "none"


def test_the_body_of_a_ct_on_another_grid(named: Path, ct: Path) -> None:
    understood = understand(named, ct=ct)
    assert understood.body_source == "ct"
    assert any("resampled" in note for note in understood.notes)
    inside = (understood.labels.array > 0).sum() * GEOMETRY.voxel_mm3
    cylinder = np.pi * 48 * 40 * 100  # semi-axes and length in mm
    assert inside == pytest.approx(cylinder, rel=0.15)
    assert understood.labels.array[0].max() == 0


def test_a_body_mask_fills_around_the_organs_only(
    named: Path, labels: LabelVolume, tmp_path: Path
) -> None:
    body = tmp_path / "body.nii.gz"
    inside = np.zeros(GEOMETRY.shape, np.uint8)
    inside[4:28, 6:22, 2:18] = 1
    write_labels(body, LabelVolume(inside, GEOMETRY), {})
    understood = understand(named, body_mask=body)
    assert understood.body_source == "body-mask"
    assert np.array_equal(understood.labels.array > 0, inside > 0)
    assert np.array_equal(understood.labels.array == 1, labels.array == LIVER)


def test_a_body_elsewhere_is_refused(named: Path, tmp_path: Path) -> None:
    far = np.diag([4.0, 4.0, 5.0, 1.0])
    far[:3, 3] = 5000
    path = tmp_path / "far.nii.gz"
    ones = np.ones(GEOMETRY.shape, np.uint8)
    write_labels(path, LabelVolume(ones, Geometry(GEOMETRY.shape, far)), {})
    with pytest.raises(MaskError, match="touches none"):
        understand(named, body_mask=path)


def test_sources_of_the_body_exclude_one_another(named: Path, ct: Path) -> None:
    with pytest.raises(UsageError, match="exclude"):
        understand(named, ct=ct, body_mask=named)
    with pytest.raises(UsageError, match="exclude"):
        understand(named, ct=ct, body="none")


def test_an_array_with_a_scheme_needs_no_flag(labels: LabelVolume) -> None:
    maisi = LabelVolume(labels.array, GEOMETRY, "maisi")
    understood = understand(maisi, body="none")
    assert understood.scheme.name == "maisi"
    assert understood.layout == "array"
    assert understood.labels.ids() == labels.ids()


def test_info_adds_nothing(named: Path) -> None:
    understood = masks.info(named)
    assert 200 not in understood.labels.ids()
    found = understood.as_dict()
    volumes = {s["name"]: s["ml"] for s in found["structures"]}  # type: ignore[attr-defined]
    assert volumes == {"liver": pytest.approx(40.96), "spleen": pytest.approx(8.0)}


def test_to_maisi_and_back_is_where_it_began(
    named: Path, labels: LabelVolume, tmp_path: Path
) -> None:
    there, back = tmp_path / "maisi.nii.gz", tmp_path / "back.nii.gz"
    written = masks.convert(named, there)
    assert written.lost == ()
    assert masks.info(there).body_source == "mask"
    again = masks.convert(there, back, to="totalsegmentator")
    assert [name for _, name in again.lost] == ["body"]
    result = read_labels(back).labels
    assert np.array_equal(result.array, labels.array)
    assert dict(result.names) == NAMES
    assert result.geometry.same_as(GEOMETRY)


def test_what_a_scheme_cannot_say_is_listed(named: Path, tmp_path: Path) -> None:
    lungs_only = tmp_path / "spleen.toml"
    lungs_only.write_text('name = "spleens"\n[labels]\nspleen = 9\n', encoding="utf-8")
    written = masks.convert(named, tmp_path / "s.nii.gz", to=str(lungs_only))
    assert [name for _, name in written.lost] == ["liver"]
    assert written.labels.ids() == (9,)


def test_nothing_left_is_refused(named: Path, tmp_path: Path) -> None:
    with pytest.raises(MaskError, match="nothing is left"):
        masks.convert(named, tmp_path / "n.nii.gz", to="totalsegmentator-lung-nodules")
    assert not (tmp_path / "n.nii.gz").exists()


def test_body_writes_the_envelope_alone(named: Path, tmp_path: Path) -> None:
    written = masks.body(named, tmp_path / "body.nii.gz")
    assert written.labels.ids() == (200,)
    whole = understand(named).labels.array > 0
    assert np.array_equal(read_labels(written.path).labels.array > 0, whole)


def test_nothing_is_overwritten_unasked(named: Path, tmp_path: Path) -> None:
    path = tmp_path / "there.nii.gz"
    path.write_bytes(b"mine")
    with pytest.raises(UsageError, match="exists"):
        masks.convert(named, path)
    assert path.read_bytes() == b"mine"
    masks.convert(named, path, overwrite=True)
    assert read_labels(path).labels.ids()


def test_a_real_mask_goes_round(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "ct" / "ts-example" / "labels.nii.gz"
    masks.convert(source, tmp_path / "m.nii.gz", labels="totalsegmentator", body="none")
    masks.convert(tmp_path / "m.nii.gz", tmp_path / "t.nii.gz", to="totalsegmentator")
    result = read_labels(tmp_path / "t.nii.gz").labels
    assert np.array_equal(result.array, read_labels(source).labels.array)
    known = load_scheme("totalsegmentator").labels
    assert all(known[label] == name for label, name in result.names.items())


def _maisi(tmp_path: Path, labels: LabelVolume | None, body: tuple[slice, ...]) -> Path:
    """A MAISI map with a body of its own at `body`, with or without a liver and a spleen."""
    array = np.zeros(GEOMETRY.shape, np.uint8)
    array[body] = 200
    if labels is not None:
        array[labels.array == LIVER] = 1
        array[labels.array == SPLEEN] = 3
    path = tmp_path / "maisi.nii.gz"
    write_labels(path, LabelVolume(array, GEOMETRY), {1: "liver", 3: "spleen", 200: "body"})
    return path


def test_a_body_added_to_few_ids_without_names_needs_the_scheme(
    labels: LabelVolume, tmp_path: Path
) -> None:
    named = _maisi(tmp_path, labels, np.s_[4:28, 6:22, 2:18])
    plain = nib.load(named)
    path = tmp_path / "plain.nii.gz"
    nib.save(nib.Nifti1Image(np.asarray(plain.dataobj), plain.affine), path)
    with pytest.raises(MaskError) as refused:
        understand(path)
    assert refused.value.exit_code == 3 and "--labels maisi|totalsegmentator" in refused.value.hint
    assert understand(path, labels="maisi").body_source == "mask"


def test_a_body_in_the_mask_that_touches_nothing_is_refused(
    labels: LabelVolume, tmp_path: Path
) -> None:
    far = _maisi(tmp_path, labels, np.s_[27:31, 20:27, 15:19])
    for tool in (understand, masks.info):
        with pytest.raises(MaskError, match="touches no labelled organ"):
            tool(far)
    with pytest.raises(MaskError, match="touches no labelled organ"):
        masks.convert(far, tmp_path / "out.nii.gz")
    assert not (tmp_path / "out.nii.gz").exists()


def test_a_body_in_the_mask_around_the_organs_passes(labels: LabelVolume, tmp_path: Path) -> None:
    around = _maisi(tmp_path, labels, np.s_[4:28, 6:22, 2:18])
    assert understand(around).body_source == "mask"


def test_a_body_alone_is_for_the_mask_tools_only(tmp_path: Path) -> None:
    alone = _maisi(tmp_path, None, np.s_[4:28, 6:22, 2:18])
    assert masks.info(alone).labels.ids() == (200,)
    with pytest.raises(MaskError, match="no organ in it"):
        understand(alone)


def test_a_refusal_says_that_the_names_could_not_be_read(named: Path, tmp_path: Path) -> None:
    content = gzip.decompress(named.read_bytes())
    broken = tmp_path / "broken.nii.gz"
    broken.write_bytes(gzip.compress(content.replace(b"</LabelTable>", b"</LabelTabel>")))
    with pytest.raises(MaskError, match="label names in the header were not read") as caught:
        understand(broken)
    assert "--labels" in caught.value.hint
    understood = understand(broken, labels="totalsegmentator")
    assert any("not read" in note for note in understood.notes)


def test_the_tools_take_nibabel_images_too(named: Path, tmp_path: Path) -> None:
    image = nib.load(named)
    assert masks.info(image).as_dict() == masks.info(named).as_dict()
    written = masks.convert(image, tmp_path / "maisi.nii.gz")
    assert written.path.is_file()
    with pytest.raises(UsageError, match="no mask was given"):
        masks.info(None)  # type: ignore[arg-type]
