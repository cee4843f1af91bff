"""NIfTI in and out: the same voxels at the same place, equal bytes for equal voxels."""

from __future__ import annotations

import gzip

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthct.errors import InputError, OutputError, QualityError, UsageError
from synthct.geometry import Geometry
from synthct.volume.nifti import read_nifti, write_labels, write_volume
from synthct.volume.volume import LabelVolume, Volume

settings.register_profile("busy machine", deadline=None)
settings.load_profile("busy machine")

OBLIQUE = np.array(
    [[-1.9, 0.3, 0.1, 90.0], [0.28, 1.45, -0.6, -120.5], [0.2, 0.5, 2.4, 33.3], [0, 0, 0, 1]]
)


def orthogonal(affine: np.ndarray) -> np.ndarray:
    u, _, v = np.linalg.svd(affine[:3, :3])
    out = affine.copy()
    out[:3, :3] = u @ v * [0.8, 0.9, 2.5]
    return out


@given(
    values=st.lists(st.floats(-1500, 3000, width=32), min_size=24, max_size=24),
    spacing=st.tuples(*[st.floats(0.3, 8.0)] * 3),
    suffix=st.sampled_from([".nii", ".nii.gz"]),
)
def test_a_volume_comes_back_to_the_nearest_hu(tmp_path_factory, values, spacing, suffix):
    path = tmp_path_factory.mktemp("n") / f"ct{suffix}"
    array = np.asarray(values, np.float32).reshape(2, 3, 4)
    geometry = Geometry.from_spacing((2, 3, 4), spacing)
    write_volume(path, Volume(array, geometry), description="SYNTHETIC test")
    back = read_nifti(path)
    assert back.array.dtype == np.int16
    assert np.array_equal(back.array, np.rint(array))
    assert back.geometry.same_as(geometry, tolerance_mm=1e-4)
    assert back.description == "SYNTHETIC test"
    assert back.notes == ()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int64, bool])
def test_labels_come_back_with_their_names(tmp_path, dtype):
    array = np.arange(24).reshape(2, 3, 4).astype(dtype)
    labels = LabelVolume(array, Geometry((2, 3, 4), orthogonal(OBLIQUE)))
    write_labels(tmp_path / "l.nii.gz", labels, {1: "liver", 3: "a <b> & c"})
    back = read_nifti(tmp_path / "l.nii.gz")
    assert back.array.dtype == np.uint8
    assert np.array_equal(back.array, array)
    assert back.names == {1: "liver", 3: "a <b> & c"}
    assert back.geometry.same_as(labels.geometry, tolerance_mm=1e-4)


def test_ids_over_255_take_two_bytes_and_over_65535_none(tmp_path):
    geometry = Geometry.from_spacing((1, 1, 2), (1, 1, 1))
    write_labels(tmp_path / "a.nii", LabelVolume(np.array([[[0, 65535]]]), geometry), {})
    assert read_nifti(tmp_path / "a.nii").array.dtype == np.uint16
    for bad in (65536, -1):
        with pytest.raises(OutputError, match="65535"):
            write_labels(tmp_path / "b.nii", LabelVolume(np.array([[[0, bad]]]), geometry), {})


def test_sform_and_qform_are_equal_and_nibabel_agrees(tmp_path):
    geometry = Geometry((2, 3, 4), orthogonal(OBLIQUE))
    write_volume(tmp_path / "a.nii.gz", Volume(np.zeros((2, 3, 4)), geometry))
    image = nib.load(tmp_path / "a.nii.gz")
    sform, code = image.get_sform(coded=True)
    qform, qcode = image.get_qform(coded=True)
    assert (code, qcode) == (1, 1)
    assert np.allclose(sform, qform, atol=1e-4)
    assert np.allclose(image.header.get_zooms(), geometry.spacing_mm)
    assert image.header.get_xyzt_units()[0] == "mm"


def test_shear_is_written_as_an_sform_alone(tmp_path):
    geometry = Geometry((2, 3, 4), OBLIQUE)
    write_volume(tmp_path / "a.nii", Volume(np.zeros((2, 3, 4)), geometry))
    assert nib.load(tmp_path / "a.nii").get_qform(coded=True)[1] == 0
    back = read_nifti(tmp_path / "a.nii")
    assert back.geometry.same_as(geometry, tolerance_mm=1e-4)
    assert back.notes == ()


def test_simpleitk_sees_the_same_place(tmp_path):
    import SimpleITK

    geometry = Geometry((4, 3, 2), orthogonal(OBLIQUE))
    array = np.arange(24, dtype=np.int16).reshape(4, 3, 2)
    write_volume(tmp_path / "a.nii.gz", Volume(array, geometry))
    image = SimpleITK.ReadImage(str(tmp_path / "a.nii.gz"))
    x, y, z = image.TransformIndexToPhysicalPoint((3, 2, 1))
    assert np.allclose([-x, -y, z], (geometry.affine @ [3, 2, 1, 1])[:3], atol=1e-3)
    assert image.GetPixel(3, 2, 1) == array[3, 2, 1]


def test_names_are_where_totalsegmentator_s_readers_look(tmp_path):
    import xml.etree.ElementTree as ET

    labels = LabelVolume(np.ones((2, 2, 2), np.uint8), Geometry.from_spacing((2, 2, 2), (1, 1, 1)))
    write_labels(tmp_path / "a.nii.gz", labels, {1: "liver"})
    extension = nib.load(tmp_path / "a.nii.gz").header.extensions[0]
    root = ET.fromstring(extension.get_content())
    label = root.find("VolumeInformation/LabelTable/Label")
    assert extension.get_code() == 0
    assert label is not None
    assert (label.attrib["Key"], label.text) == ("1", "liver")


def test_equal_voxels_give_equal_bytes_under_any_name(tmp_path):
    volume = Volume(np.ones((3, 3, 3)), Geometry.from_spacing((3, 3, 3), (1, 1, 1)))
    write_volume(tmp_path / "a.nii.gz", volume)
    write_volume(tmp_path / "b.nii.gz", volume)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


def test_values_are_rounded_and_saturated(tmp_path):
    array = np.array([[[0.5, 1.5, -1.6, 1e6, -1e6]]])
    write_volume(tmp_path / "a.nii", Volume(array, Geometry.from_spacing((1, 1, 5), (1, 1, 1))))
    assert read_nifti(tmp_path / "a.nii").array.ravel().tolist() == [0, 2, -2, 32767, -32768]


def test_nan_is_not_written(tmp_path):
    volume = Volume(np.array([[[np.nan]]]), Geometry.from_spacing((1, 1, 1), (1, 1, 1)))
    with pytest.raises(QualityError, match="NaN"):
        write_volume(tmp_path / "a.nii.gz", volume)
    assert list(tmp_path.iterdir()) == []


def test_names_and_old_files_are_respected(tmp_path):
    volume = Volume(np.zeros((1, 1, 1)), Geometry.from_spacing((1, 1, 1), (1, 1, 1)))
    with pytest.raises(UsageError, match=r"not a NIfTI name"):
        write_volume(tmp_path / "a.mha", volume)
    write_volume(tmp_path / "a.nii.gz", volume)
    with pytest.raises(UsageError, match="exists already"):
        write_volume(tmp_path / "a.nii.gz", volume)
    write_volume(tmp_path / "a.nii.gz", volume, overwrite=True)


def test_a_long_description_is_cut_to_what_the_header_holds(tmp_path):
    volume = Volume(np.zeros((1, 1, 1)), Geometry.from_spacing((1, 1, 1), (1, 1, 1)))
    write_volume(tmp_path / "a.nii", volume, description="SYNTHETIC " + "x" * 100)
    text = read_nifti(tmp_path / "a.nii").description
    assert len(text) == 79
    assert text.startswith("SYNTHETIC")


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("endian", ["<", ">"])
def test_both_versions_and_byte_orders_are_read(tmp_path, kind, endian):
    array = np.arange(8, dtype=f"{endian}i2").reshape(2, 2, 2)
    header = kind.header_class(endianness=endian)
    header.set_data_dtype(array.dtype)
    nib.save(kind(array, np.diag([2.0, 2, 2, 1]), header), tmp_path / "a.nii.gz")
    assert np.array_equal(read_nifti(tmp_path / "a.nii.gz").array, array)


def test_scaled_values_are_read_in_their_units(tmp_path):
    image = nib.Nifti1Image(np.array([[[0.0, 0.25, 500.0]]]), np.eye(4))
    image.header.set_data_dtype(np.int16)
    nib.save(image, tmp_path / "a.nii")
    file = read_nifti(tmp_path / "a.nii")
    assert file.array.dtype == np.float32
    assert np.allclose(file.array, [[[0, 0.25, 500]]], atol=0.01)


def test_the_sform_wins_and_the_disagreement_is_said(tmp_path):
    image = nib.Nifti1Image(np.ones((2, 2, 2), np.uint8), np.diag([2.0, 2, 2, 1]))
    image.set_sform(np.diag([3.0, 3, 3, 1]), code=1)
    image.set_qform(np.diag([2.0, 2, 2, 1]), code=1)
    nib.save(image, tmp_path / "a.nii")
    file = read_nifti(tmp_path / "a.nii")
    assert file.geometry.spacing_mm == (3, 3, 3)
    assert any("sform" in note and "qform" in note for note in file.notes)


def test_a_qform_alone_is_enough(tmp_path):
    image = nib.Nifti1Image(np.ones((2, 2, 2), np.uint8), None)
    image.set_qform(orthogonal(OBLIQUE), code=1)
    image.set_sform(None, code=0)
    nib.save(image, tmp_path / "a.nii")
    assert np.allclose(
        read_nifti(tmp_path / "a.nii").geometry.affine, orthogonal(OBLIQUE), atol=1e-4
    )


def test_micrometres_become_millimetres(tmp_path):
    image = nib.Nifti1Image(np.ones((2, 2, 2), np.uint8), np.diag([2000.0, 2000, 2000, 1]))
    image.header.set_xyzt_units("micron")
    nib.save(image, tmp_path / "a.nii")
    file = read_nifti(tmp_path / "a.nii")
    assert np.allclose(file.geometry.spacing_mm, 2)
    assert any("micrometres" in note for note in file.notes)


def test_hostile_names_are_left_out_with_a_note(tmp_path):
    image = nib.Nifti1Image(np.ones((2, 2, 2), np.uint8), np.eye(4))
    xml = b'<!DOCTYPE a [<!ENTITY b "x">]><LabelTable><Label Key="1">&b;</Label></LabelTable>'
    image.header.extensions.append(nib.nifti1.Nifti1Extension(0, xml))
    nib.save(image, tmp_path / "a.nii.gz")
    file = read_nifti(tmp_path / "a.nii.gz")
    assert file.names == {}
    assert any("names" in note for note in file.notes)


def test_a_flipped_byte_in_the_gzip_stream_is_noticed(tmp_path):
    rng = np.random.default_rng(0)
    volume = Volume(rng.normal(0, 99, (9, 9, 9)), Geometry.from_spacing((9, 9, 9), (1, 1, 1)))
    write_volume(tmp_path / "a.nii.gz", volume)
    content = bytearray((tmp_path / "a.nii.gz").read_bytes())
    content[-6] ^= 1  # in the checksum
    (tmp_path / "a.nii.gz").write_bytes(content)
    with pytest.raises(InputError, match="damaged"):
        read_nifti(tmp_path / "a.nii.gz")


def test_a_gzip_without_its_suffix_is_understood(tmp_path):
    volume = Volume(np.ones((2, 2, 2)), Geometry.from_spacing((2, 2, 2), (1, 1, 1)))
    write_volume(tmp_path / "a.nii", volume)
    (tmp_path / "b.nii").write_bytes(gzip.compress((tmp_path / "a.nii").read_bytes()))
    assert (read_nifti(tmp_path / "b.nii").array == 1).all()


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_header_that_promises_too_much_is_refused_before_memory_is_taken(tmp_path, suffix):
    header = nib.Nifti1Header()
    header.set_data_shape((32767, 32767, 32767))
    header.set_sform(np.eye(4), code=1)
    content = header.binaryblock + bytes(4)
    (tmp_path / f"a{suffix}").write_bytes(gzip.compress(content) if "gz" in suffix else content)
    with pytest.raises(InputError, match="truncated"):
        read_nifti(tmp_path / f"a{suffix}")


def test_a_qfac_of_zero_means_one_and_nothing_is_printed(tmp_path, capfd):
    image = nib.Nifti1Image(np.ones((2, 2, 2), np.uint8), np.diag([2.0, 2, 2, 1]))
    image.set_qform(np.diag([2.0, 2, 2, 1]), code=1)
    image.set_sform(None, code=0)
    nib.save(image, tmp_path / "a.nii")
    content = bytearray((tmp_path / "a.nii").read_bytes())
    content[76:80] = bytes(4)
    (tmp_path / "a.nii").write_bytes(content)
    assert read_nifti(tmp_path / "a.nii").geometry.spacing_mm == (2, 2, 2)
    assert capfd.readouterr() == ("", "")


def test_a_data_type_that_does_not_exist_is_refused(tmp_path):
    path = tmp_path / "odd.nii"
    write_labels(
        path,
        LabelVolume(
            np.ones((4, 4, 4), np.uint8), Geometry.from_spacing((4, 4, 4), (1.0, 1.0, 1.0))
        ),
        {},
    )
    content = bytearray(path.read_bytes())
    content[70:72] = (77).to_bytes(2, "little")
    path.write_bytes(content)
    with pytest.raises(InputError, match="data type 77"):
        read_nifti(path)


def test_a_qform_of_no_numbers_is_not_used(tmp_path):
    image = nib.Nifti1Image(np.ones((2, 2, 2), np.uint8), np.diag([2.0, 2, 2, 1]))
    image.set_qform(np.diag([2.0, 2, 2, 1]), code=1)
    nib.save(image, tmp_path / "a.nii")
    content = bytearray((tmp_path / "a.nii").read_bytes())
    content[256:260] = np.float32(np.nan).tobytes()
    (tmp_path / "a.nii").write_bytes(content)
    assert read_nifti(tmp_path / "a.nii").notes == ("the qform is not valid: sform used",)


def test_a_first_voxel_far_from_any_scanner_is_refused(tmp_path):
    affine = np.diag([2.0, 2, 2, 1])
    affine[1, 3] = 1e30
    nib.save(nib.Nifti1Image(np.ones((2, 2, 2), np.uint8), affine), tmp_path / "a.nii")
    with pytest.raises(InputError, match=r"1e\+30 mm from the origin"):
        read_nifti(tmp_path / "a.nii")
