"""A mask is understood in every layout, or refused with one line that says why."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from synthct.errors import InputError, MaskError
from synthct.volume.reading import read_image, read_labels

AFFINE = np.diag([-2.0, -3.0, 4.0, 1.0])
AFFINE[:3, 3] = 10, 20, -30


def ids() -> np.ndarray:
    array = np.zeros((4, 5, 6), np.uint8)
    array[1:3, 2, 3:] = 7
    array[0, 0, 0] = 1
    return array


def saved(path: Path, array: np.ndarray, change: Callable[[nib.Nifti1Image], None] | None = None):
    image = nib.Nifti1Image(array, AFFINE)
    if change:
        change(image)
    nib.save(image, path)
    return path


def patched(path: Path, offset: int, value: bytes) -> Path:
    """The file at `path` (not gzipped) with header bytes overwritten."""
    content = bytearray(path.read_bytes())
    content[offset : offset + len(value)] = value
    path.write_bytes(content)
    return path


def test_a_plain_mask(tmp_path):
    read = read_labels(saved(tmp_path / "m.nii.gz", ids()))
    assert read.layout == "nifti"
    assert read.labels.array.dtype == np.uint8
    assert np.array_equal(read.labels.array, ids())
    assert np.allclose(read.labels.geometry.affine, AFFINE)
    assert read.labels.ids() == (1, 7)
    assert read.labels.counts() == {1: 1, 7: 6}


@pytest.mark.parametrize("dtype", [np.int16, np.uint16, np.int32, np.float32, np.float64, np.int8])
def test_any_dtype_becomes_the_smallest(tmp_path, dtype):
    read = read_labels(saved(tmp_path / "m.nii", ids().astype(dtype)))
    assert read.labels.array.dtype == np.uint8
    assert np.array_equal(read.labels.array, ids())


def test_ids_over_255_need_two_bytes(tmp_path):
    read = read_labels(saved(tmp_path / "m.nii", ids().astype(np.int32) * 500))
    assert read.labels.array.dtype == np.uint16
    assert read.labels.ids() == (500, 3500)


def test_floats_that_are_whole_to_a_thousandth_pass(tmp_path):
    wobble = ids() + np.linspace(-9e-4, 9e-4, ids().size).reshape(ids().shape)
    read = read_labels(saved(tmp_path / "m.nii", wobble.astype(np.float64)))
    assert np.array_equal(read.labels.array, ids())


def test_trailing_axes_of_one_are_squeezed_and_no_others(tmp_path):
    read = read_labels(saved(tmp_path / "m.nii", ids()[:, :, 3:4, None, None]))
    assert read.labels.array.shape == (4, 5, 1)


def nan(array: np.ndarray) -> np.ndarray:
    array = array.astype(np.float32)
    array[0, 0, 1] = np.nan
    return array


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((4, 5, 6), np.uint8), "empty"),
        (ids() * 0.5, "fractional"),
        (ids().astype(np.int16) - 1, "negative"),
        (nan(ids()), "NaN"),
        (np.where(ids() == 7, np.inf, 0.0), "NaN or infinite"),
        (ids().astype(np.int32) * 10_000, "65535"),
        (ids().astype(np.complex64), "complex"),
        (np.zeros((4, 5, 6), [("R", "u1"), ("G", "u1"), ("B", "u1")]), "RGB"),
        (np.stack([ids(), ids()], -1), "3D"),
        (ids()[:, :, 0], "3D"),
    ],
    ids=["empty", "half", "minus", "nan", "inf", "large", "complex", "rgb", "4d", "2d"],
)
def test_voxels_that_are_no_mask_are_refused(tmp_path, array, words):
    path = saved(tmp_path / "m.nii", array)
    with pytest.raises(MaskError, match=words) as caught:
        read_labels(path)
    assert caught.value.exit_code == 3
    assert "\n" not in caught.value.message


def codes(image: nib.Nifti1Image) -> None:
    image.set_sform(None, code=0)
    image.set_qform(None, code=0)


def flat(image: nib.Nifti1Image) -> None:
    image.header["srow_z"] = image.header["srow_y"]


def lost(image: nib.Nifti1Image) -> None:
    image.header["srow_x"] = [np.nan, 0, 0, 0]


@pytest.mark.parametrize(
    ("change", "words"), [(codes, "neither"), (flat, "singular"), (lost, "not finite")]
)
def test_a_mask_without_a_place_is_refused(tmp_path, change, words):
    def late(image):
        image.set_sform(AFFINE, code=1)
        image.set_qform(AFFINE, code=1)
        change(image)
        image._affine = None  # nibabel would write its own affine over the header's

    with pytest.raises(MaskError, match=words):
        read_labels(saved(tmp_path / "m.nii", ids(), late))


@pytest.mark.parametrize("size", [0.0, np.nan, np.inf, 0.04, 51.0, 1e9])
def test_a_voxel_size_that_cannot_be_is_refused_though_nibabel_repairs_it(tmp_path, size):
    path = saved(tmp_path / "m.nii", ids())
    patched(path, 80, np.float32(size).tobytes())  # pixdim[1]
    with pytest.raises(MaskError, match="voxel size"):
        read_labels(path)


def test_metres_that_are_millimetres_are_refused(tmp_path):
    path = saved(tmp_path / "m.nii", ids(), lambda i: i.header.set_xyzt_units("meter"))
    with pytest.raises(MaskError, match="voxel size"):
        read_labels(path)


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.99])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_truncated_file_is_refused(tmp_path, keep, suffix):
    array = np.random.default_rng(0).integers(0, 99, (20, 20, 20)).astype(np.uint8)
    path = saved(tmp_path / f"m{suffix}", array)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(MaskError, match=r"truncated|damaged"):
        read_labels(path)


def test_a_gzip_cut_in_its_last_bytes_is_refused(tmp_path):
    path = saved(tmp_path / "m.nii.gz", ids())
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(MaskError, match="truncated"):
        read_labels(path)


@pytest.mark.parametrize("name", ["m.nii", "m.nii.gz", "m.nrrd", "m.mha"])
@pytest.mark.parametrize(
    "content",
    [b"", b"hello", b"x" * 1000, gzip.compress(b"hi there")],
    ids=["empty", "short", "long", "gzip"],  # gzip writes the time: an id has to be the same always
)
def test_what_is_no_image_is_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(MaskError) as caught:
        read_labels(tmp_path / name)
    assert str(tmp_path / name) in caught.value.message


@pytest.mark.parametrize("name", ["m.nii.gz", "m.nrrd", "folder"])
def test_what_is_missing_is_refused(tmp_path, name):
    with pytest.raises(MaskError, match="no such file"):
        read_labels(tmp_path / name)


def test_a_file_of_unknown_kind_is_refused_with_those_accepted(tmp_path):
    (tmp_path / "m.png").write_bytes(b"x")
    with pytest.raises(MaskError, match=r"accepted: \.nii"):
        read_labels(tmp_path / "m.png")


def write_itk(path: Path, array: np.ndarray, affine: np.ndarray, compress: bool = True) -> Path:
    import SimpleITK

    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(array.T))
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    flip = np.diag([-1.0, -1.0, 1.0])
    image.SetSpacing(spacing.tolist())
    image.SetDirection((flip @ affine[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin((flip @ affine[:3, 3]).tolist())
    SimpleITK.WriteImage(image, str(path), compress)
    return path


@pytest.mark.parametrize(("suffix", "layout"), [("nrrd", "nrrd"), ("mha", "mha"), ("mhd", "mha")])
@pytest.mark.parametrize("affine", [AFFINE, AFFINE[:, [2, 0, 1, 3]], np.diag([1.0, 2, 3, 1])])
def test_nrrd_and_mha_hold_the_same_patient_as_nifti(tmp_path, suffix, layout, affine):
    read = read_labels(write_itk(tmp_path / f"m.{suffix}", ids(), affine))
    assert read.layout == layout
    assert np.array_equal(read.labels.array, ids())
    assert np.allclose(read.labels.geometry.affine, affine, atol=1e-6)


def test_an_oblique_nrrd_keeps_its_place(tmp_path):
    turn = np.eye(4)
    turn[:2, :2] = [[0.8, -0.6], [0.6, 0.8]]
    read = read_labels(write_itk(tmp_path / "m.nrrd", ids(), turn @ AFFINE))
    assert np.allclose(read.labels.geometry.affine, turn @ AFFINE, atol=1e-6)


def test_a_truncated_mha_is_refused(tmp_path):
    noise = np.random.default_rng(0).integers(0, 99, (20, 20, 20)).astype(np.uint8)
    path = write_itk(tmp_path / "m.mha", noise, AFFINE)
    path.write_bytes(path.read_bytes()[:-900])
    with pytest.raises(MaskError, match="truncated"):
        read_labels(path)


def test_an_itk_voxel_size_that_cannot_be_is_refused(tmp_path):
    path = write_itk(tmp_path / "m.nrrd", ids(), np.diag([99.0, 1, 1, 1]))
    with pytest.raises(MaskError, match="voxel size"):
        read_labels(path)


def organs(folder: Path) -> dict[str, np.ndarray]:
    spleen, liver, colon = (np.zeros((4, 5, 6), np.uint8) for _ in range(3))
    spleen[0], liver[2] = 1, 1
    for name, array in (("spleen", spleen), ("liver", liver), ("colon", colon)):
        saved(folder / f"{name}.nii.gz", array)
    return {"spleen": spleen, "liver": liver, "colon": colon}


def test_a_folder_of_organs(tmp_path):
    drawn = organs(tmp_path)
    (tmp_path / "statistics.json").write_text("{}", encoding="utf-8")
    read = read_labels(tmp_path)
    assert read.layout == "folder"
    assert read.labels.names == {1: "colon", 2: "liver", 3: "spleen"}
    assert np.array_equal(read.labels.array == 3, drawn["spleen"] > 0)
    assert np.array_equal(read.labels.array == 2, drawn["liver"] > 0)
    assert read.labels.ids() == (2, 3)
    assert read.notes == ()


def test_organs_that_overlap_are_said_and_the_later_wins(tmp_path):
    organs(tmp_path)
    saved(tmp_path / "tumour.nii.gz", np.ones((4, 5, 6), np.uint8))
    read = read_labels(tmp_path)
    assert read.labels.ids() == (4,)
    assert any("tumour" in note and "60" in note for note in read.notes)


def test_organs_on_two_grids_are_refused(tmp_path):
    organs(tmp_path)
    saved(tmp_path / "z.nii.gz", np.ones((4, 5, 7), np.uint8))
    with pytest.raises(MaskError, match="grid"):
        read_labels(tmp_path)


def test_a_label_map_among_organs_is_refused(tmp_path):
    organs(tmp_path)
    saved(tmp_path / "z.nii.gz", ids())
    with pytest.raises(MaskError, match="several ids"):
        read_labels(tmp_path)


def test_two_files_of_one_organ_are_refused(tmp_path):
    organs(tmp_path)
    saved(tmp_path / "liver.nii", np.ones((4, 5, 6), np.uint8))
    with pytest.raises(MaskError, match="more than one file for liver"):
        read_labels(tmp_path)


def test_folders_without_a_voxel_are_refused(tmp_path):
    with pytest.raises(MaskError, match="no NIfTI file"):
        read_labels(tmp_path)
    saved(tmp_path / "liver.nii.gz", np.zeros((4, 5, 6), np.uint8))
    with pytest.raises(MaskError, match="empty"):
        read_labels(tmp_path)


def test_names_in_the_header_come_along(tmp_path):
    xml = (
        b"<CaretExtension><VolumeInformation><LabelTable>"
        b'<Label Key="7"><![CDATA[pancreas]]></Label>'
        b"</LabelTable></VolumeInformation></CaretExtension>"
    )
    extension = nib.nifti1.Nifti1Extension(0, xml)
    path = saved(tmp_path / "m.nii.gz", ids(), lambda i: i.header.extensions.append(extension))
    assert read_labels(path).labels.names == {7: "pancreas"}


_TABLE = (
    b'<?xml version="1.0" encoding="UTF-8"?><CaretExtension><LabelTable>'
    b'<Label Key="7">pancreas</Label></LabelTable></CaretExtension>'
)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (_TABLE[:70], "not well-formed XML"),
        (_TABLE[:60], "not well-formed XML"),
        (b"<CaretExtension><VolumeInformation/></CaretExtension>", "empty"),
        (b"<CaretExtension><LabelTable/></CaretExtension>", "empty"),
        (_TABLE.replace(b"pancreas", b"pancr\xe9as"), "not well-formed XML"),
        (_TABLE.replace(b"UTF-8", b"KOI-99"), "encoding"),
        (_TABLE.replace(b"pancreas", b"x" * (5 << 20)), "at most"),
    ],
    ids=["cut", "cut early", "no table", "no labels", "wrong bytes", "no such encoding", "huge"],
)
def test_names_that_cannot_be_read_are_said(tmp_path, content, reason):
    extension = nib.nifti1.Nifti1Extension(0, content)
    path = saved(tmp_path / "m.nii.gz", ids(), lambda i: i.header.extensions.append(extension))
    read = read_labels(path)
    assert read.labels.names == {}
    assert len(read.notes) == 1
    assert read.notes[0].startswith("label names in the header were not read")
    assert reason in read.notes[0]


def test_another_extension_is_no_matter(tmp_path):
    extension = nib.nifti1.Nifti1Extension(6, b"a comment")
    path = saved(tmp_path / "m.nii.gz", ids(), lambda i: i.header.extensions.append(extension))
    assert read_labels(path).notes == ()


@pytest.mark.parametrize("offset", [1e9, -1.0, float("nan"), float("inf")])
def test_voxels_that_begin_nowhere_are_refused_unread(tmp_path, offset):
    path = saved(tmp_path / "m.nii", ids())
    content = bytearray(path.read_bytes())
    content[108:112] = struct.pack("<f", offset)
    path.write_bytes(content)
    with pytest.raises(MaskError, match="voxels at byte"):
        read_labels(path)


def test_an_image_is_float_and_keeps_its_nan(tmp_path):
    volume = read_image(saved(tmp_path / "ct.nii.gz", nan(ids())))
    assert volume.array.dtype == np.float32
    assert np.isnan(volume.array).sum() == 1
    with pytest.raises(InputError, match="no such file"):
        read_image(tmp_path / "none.nii")
    with pytest.raises(InputError, match="a folder"):
        read_image(tmp_path)


def test_real_masks_are_read(shared_data):
    read = read_labels(shared_data / "ct" / "ts-example" / "labels.nii.gz")
    assert read.labels.array.shape == (122, 101, 112)
    assert read.labels.geometry.orientation == "RAS"
    assert len(read.labels.ids()) > 50


@pytest.mark.parametrize(
    ("suffix", "field"),
    [
        (".nrrd", b"space: "),
        (".nrrd", b"space directions: "),
        (".mha", b"ElementSpacing = "),
        (".mha", b"TransformMatrix = "),
    ],
)
def test_an_itk_header_without_a_place_is_refused(tmp_path, suffix, field):
    import SimpleITK

    path = tmp_path / f"mask{suffix}"
    image = SimpleITK.GetImageFromArray(np.ones((4, 5, 6), np.uint8))
    SimpleITK.WriteImage(image, str(path), False)
    assert read_labels(path).labels.geometry.shape == (6, 5, 4)
    lines = path.read_bytes().split(b"\n")
    kept = [line for line in lines if not line.startswith((field, b"space origin"))]
    assert len(kept) < len(lines)
    path.write_bytes(b"\n".join(kept))
    with pytest.raises(MaskError, match=r"no place|not an image"):
        read_labels(path)


def test_a_damaged_mha_says_nothing_on_the_terminal_itself(tmp_path, capfd):
    path = tmp_path / "mask.mha"
    path.write_bytes(b"ObjectType = Image\nNDims = 3\n")
    with pytest.raises(MaskError, match="not an image"):
        read_labels(path)
    assert capfd.readouterr().err == ""
