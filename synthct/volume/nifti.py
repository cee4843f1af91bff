"""The only file that opens or writes NIfTI.

The header is read as it stands on disk: nibabel repairs some of it silently (a pixdim of 0
becomes 1), and a wrong voxel size is worse than a refusal.
"""

from __future__ import annotations

import gzip
import math
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import IOBase
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import numpy.typing as npt
from nibabel.arrayproxy import ArrayProxy
from nibabel.nifti1 import Nifti1Extension, Nifti1Header
from nibabel.nifti2 import Nifti2Header
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError

from synthct.atomic import replacing
from synthct.errors import InputError, OutputError, QualityError, UsageError
from synthct.geometry import FloatArray, Geometry
from synthct.volume.affines import AFFINE_HINT, check_affine, check_spacing, in_words
from synthct.volume.label_names import (
    NAMES_NOT_READ,
    LabelTableError,
    format_label_table,
    is_label_table,
    parse_label_table,
)
from synthct.volume.volume import LabelVolume, Volume

AFFINE_TOLERANCE = 1e-3
GZIP_LEVEL = 1  # 58 million int16 voxels in seconds; level 6 takes four times as long
DESCRIP_BYTES = 79
_VERSIONS = ((Nifti1Header, 344, b"n+1\x00"), (Nifti2Header, 4, b"n+2\x00"))
_MOST_DEFLATE = 1040  # no deflate stream shrinks its content further than this
_MOST_BEFORE_VOXELS = 64 << 20  # header extensions of real files are kilobytes
_SLAB_BYTES = 32 << 20
_UNITS_MM = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}
_UNIT_NAMES = {1: "metres", 3: "micrometres"}


@dataclass(frozen=True, eq=False)
class NiftiFile:
    """What a NIfTI file holds: `array` (i, j, k), its place, its label names, its description.

    `notes` are one-line remarks for the user (the sform and the qform disagree, …).
    """

    array: npt.NDArray[Any]
    geometry: Geometry
    names: Mapping[int, str]
    description: str
    notes: tuple[str, ...]


def is_nifti_name(path: Path) -> bool:
    return path.name.lower().endswith((".nii", ".nii.gz"))


def require_nifti_name(path: Path) -> None:
    """What is written here is NIfTI, by its name too.

    Raises:
        UsageError: the name is not .nii or .nii.gz.
    """
    if not is_nifti_name(path):
        raise UsageError(f"{path.name}: not a NIfTI name", "end it in .nii.gz or .nii")


def read_nifti(path: Path | str) -> NiftiFile:
    """Read a 3D NIfTI-1 or -2 file; trailing axes of length 1 are dropped.

    The array keeps its dtype on disk, or is float32 where the header scales the values.

    Raises:
        InputError: missing, truncated, not NIfTI, not 3D, complex or RGB, a pixdim or affine
            that says nothing sensible.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file", "check the path")
    with _refusing_damage(path), _open(path) as stream:
        header = _raw_header(path, stream)
        shape = _shape(path, header)
        _check_dtype(path, header)
        geometry, notes = _geometry(path, header, shape)
        _check_size(path, header)
        array = _values(stream, header).reshape(shape, order="F")
        _drain(stream)
        names, more = _label_names(header)
        description = bytes(header["descrip"].tobytes()).rstrip(b"\x00").decode("latin-1")
    return NiftiFile(array, geometry, names, description, (*notes, *more))


@contextmanager
def _refusing_damage(path: Path) -> Iterator[None]:
    try:
        yield
    except (EOFError, zlib.error, OSError) as error:
        if isinstance(error, PermissionError):
            raise InputError(f"{path}: not readable (permission denied)") from error
        hint = "copy or export it again"
        raise InputError(f"{path}: truncated or damaged ({error})", hint) from error
    except (HeaderDataError, WrapStructError, ValueError) as error:
        raise InputError(f"{path}: the NIfTI header is damaged ({error})") from error


def _is_zipped(path: Path) -> bool:
    with open(path, "rb") as probe:
        return probe.read(2) == b"\x1f\x8b"


def _open(path: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(path, "rb")) if _is_zipped(path) else open(path, "rb")


def _raw_header(path: Path, stream: BinaryIO) -> Nifti1Header:
    """The header with its extensions, as it stands on disk: nothing checked, nothing repaired."""
    block = stream.read(Nifti1Header.sizeof_hdr)
    stream.seek(0)
    for kind, magic_at, magic in _VERSIONS:
        size = kind.sizeof_hdr
        if block[:4] in (size.to_bytes(4, "little"), size.to_bytes(4, "big")):
            if len(block) < Nifti1Header.sizeof_hdr:
                raise EOFError("it ends inside the header")
            if block[magic_at : magic_at + 4] == magic:
                read = cast(Callable[..., Nifti1Header], kind)
                _check_offset(path, read(stream.read(size), check=False))
                stream.seek(0)
                with warnings.catch_warnings():  # of extensions padded in another way
                    warnings.simplefilter("ignore")
                    return cast(Nifti1Header, kind.from_fileobj(stream, check=False))
    if not block:
        raise InputError(f"{path}: the file is empty", "pass a NIfTI file")
    raise InputError(f"{path}: not a NIfTI image", "pass .nii, .nii.gz, .nrrd or .mha")


def _check_offset(path: Path, header: Nifti1Header) -> None:
    """Refuse to read gigabytes of header extensions, which a small gzip file can unfold to."""
    offset = float(header["vox_offset"])
    if not 0 <= offset <= _MOST_BEFORE_VOXELS:
        raise InputError(
            f"{path}: the NIfTI header is damaged (voxels at byte {offset:g}; "
            f"0 to {_MOST_BEFORE_VOXELS} accepted)",
            "copy or export it again",
        )


def _shape(path: Path, header: Nifti1Header) -> tuple[int, int, int]:
    shape = tuple(int(n) for n in header.get_data_shape())
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) != 3 or min(shape) < 1:
        raise InputError(f"{path}: an image of shape {shape}; 3D needed", "pass one 3D volume")
    return shape[0], shape[1], shape[2]


def _check_dtype(path: Path, header: Nifti1Header) -> None:
    try:
        dtype = header.get_data_dtype()
    except KeyError as error:
        raise InputError(f"{path}: the NIfTI header is damaged (data type {error})") from error
    if dtype.kind not in "iuf":
        kind = "complex" if dtype.kind == "c" else "RGB or another compound"
        raise InputError(f"{path}: {kind} voxels; one real number per voxel needed")


def _geometry(
    path: Path, header: Nifti1Header, shape: tuple[int, int, int]
) -> tuple[Geometry, tuple[str, ...]]:
    code = int(header["xyzt_units"]) & 7
    scale = _UNITS_MM.get(code, 1.0)
    pixdim = np.asarray(header["pixdim"][1:4], dtype=np.float64) * scale
    check_spacing(path, pixdim, "pixdim")
    affine, notes = _affine(path, header)
    affine[:3] *= scale
    check_affine(path, affine)
    if scale != 1.0:
        notes.append(f"the header gives {_UNIT_NAMES[code]}: converted to mm")
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.allclose(spacing, np.abs(pixdim), rtol=1e-3, atol=AFFINE_TOLERANCE):
        notes.append(
            f"pixdim {in_words(pixdim)} differs from the affine's {in_words(spacing)}: affine used"
        )
    return Geometry(shape, affine), tuple(notes)


def _affine(path: Path, header: Nifti1Header) -> tuple[FloatArray, list[str]]:
    has_sform, has_qform = int(header["sform_code"]) > 0, int(header["qform_code"]) > 0
    if not has_sform and not has_qform:
        raise InputError(f"{path}: neither an sform nor a qform (both codes are 0)", AFFINE_HINT)
    if not has_sform:
        return _qform(header), []
    sform = np.array(header.get_sform(), dtype=np.float64)
    if not has_qform:
        return sform, []
    try:
        gap = float(np.abs(_qform(header) - sform).max())
    except (HeaderDataError, ValueError):
        gap = float("nan")
    if not math.isfinite(gap):
        return sform, ["the qform is not valid: sform used"]
    if not gap <= AFFINE_TOLERANCE:
        return sform, [f"the sform and the qform disagree by up to {gap:.4g}: sform used"]
    return sform, []


def _qform(header: Nifti1Header) -> FloatArray:
    """The qform (4, 4), with the readings that the standard allows: qfac 0 means 1."""
    header = header.copy()
    pixdim = header["pixdim"]
    pixdim[0] = pixdim[0] or 1.0
    pixdim[1:4] = np.abs(pixdim[1:4])
    return np.array(header.get_qform(), dtype=np.float64)


def _check_size(path: Path, header: Nifti1Header) -> None:
    """Refuse a header that promises more voxels than its file can hold, before allocating them."""
    voxels = math.prod(int(n) for n in header.get_data_shape())
    held = path.stat().st_size * (_MOST_DEFLATE if _is_zipped(path) else 1)
    if voxels * header.get_data_dtype().itemsize > held:
        raise EOFError(f"it is too small for its {voxels} voxels")


def _values(stream: BinaryIO, header: Nifti1Header) -> npt.NDArray[Any]:
    stored = ArrayProxy(cast(IOBase, stream), header, mmap=False)
    if (stored.slope, stored.inter) == (1.0, 0.0):
        return np.asarray(stored.get_unscaled())
    return np.asarray(stored, dtype=np.float32)


def _drain(stream: BinaryIO) -> None:
    """Read on to the end: only there does gzip compare its checksum."""
    while stream.read(1 << 20):
        pass


def _label_names(header: Nifti1Header) -> tuple[dict[int, str], tuple[str, ...]]:
    """The names of the first label table, or a note about why there are none in it."""
    for extension in header.extensions:
        content = extension.get_content()
        content = content.encode() if isinstance(content, str) else content
        if not isinstance(content, bytes) or not is_label_table(content):
            continue
        try:
            names = parse_label_table(content)
        except LabelTableError as error:
            return {}, (f"{NAMES_NOT_READ}: {error}",)
        return names, () if names else (f"{NAMES_NOT_READ}: the label table there is empty",)
    return {}, ()


def write_volume(
    path: Path | str, volume: Volume, *, description: str = "", overwrite: bool = False
) -> None:
    """Write an image as int16 (rounded, saturated), sform = qform, code 1; see `write_labels`.

    Raises:
        UsageError: the name is not .nii or .nii.gz, or exists and `overwrite` is false.
        OutputError: the folder cannot be written, or the disk is full.
        QualityError: a voxel is NaN or infinite.
    """
    header = _new_header(volume.geometry, np.dtype("<i2"), description)
    _write(Path(path), volume.array, header, overwrite)


def write_labels(
    path: Path | str,
    labels: LabelVolume,
    names: Mapping[int, str],
    *,
    description: str = "",
    overwrite: bool = False,
) -> None:
    """Write a label map as uint8 (uint16 where an id needs it), names in a header extension.

    A qform cannot express shear: a sheared affine is written as sform only. The gzip stream
    carries no time and no name, so equal voxels give equal files.
    """
    largest = int(labels.array.max(initial=0))
    if largest > np.iinfo(np.uint16).max or labels.array.min(initial=0) < 0:
        raise OutputError(f"label ids up to {largest} cannot be stored; 0 to 65535 can")
    dtype = np.dtype("u1") if largest <= np.iinfo(np.uint8).max else np.dtype("<u2")
    header = _new_header(labels.geometry, dtype, description)
    if names:
        header.extensions.append(Nifti1Extension(0, format_label_table(names)))
    _write(Path(path), labels.array, header, overwrite)


def _new_header(geometry: Geometry, dtype: np.dtype[Any], description: str) -> Nifti1Header:
    header = Nifti1Header(endianness="<")
    header.set_data_dtype(dtype)
    header.set_data_shape(geometry.shape)
    header.set_zooms(geometry.spacing_mm)
    header.set_xyzt_units("mm")
    header.set_slope_inter(1, 0)
    header.set_qform(geometry.affine, code=1)
    header.set_sform(geometry.affine, code=1)
    if not np.allclose(header.get_qform(), geometry.affine, rtol=0, atol=AFFINE_TOLERANCE):
        header.set_qform(None, code=0)
        header.set_zooms(geometry.spacing_mm)
    header["descrip"] = description.encode("ascii", "replace")[:DESCRIP_BYTES]
    return header


def _write(path: Path, array: npt.NDArray[Any], header: Nifti1Header, overwrite: bool) -> None:
    require_nifti_name(path)
    with replacing(path, overwrite=overwrite) as temporary, open(temporary, "wb") as file:
        if not path.name.lower().endswith(".gz"):
            _write_stream(file, array, header)
            return
        with gzip.GzipFile("", "wb", GZIP_LEVEL, file, mtime=0) as zipped:
            _write_stream(cast(BinaryIO, zipped), array, header)


def _write_stream(stream: BinaryIO, array: npt.NDArray[Any], header: Nifti1Header) -> None:
    dtype = header.get_data_dtype()
    header.set_data_offset(Nifti1Header.single_vox_offset + header.extensions.get_sizeondisk())
    header.write_to(stream)
    for slab in _slabs(array):
        stream.write(_as_stored(slab, dtype).tobytes(order="F"))


def _slabs(array: npt.NDArray[Any]) -> Iterator[npt.NDArray[Any]]:
    step = max(1, _SLAB_BYTES // max(1, 4 * array.shape[0] * array.shape[1]))
    for k in range(0, array.shape[2], step):
        yield array[:, :, k : k + step]


def _as_stored(slab: npt.NDArray[Any], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    limits = np.iinfo(dtype)
    if slab.dtype.kind == "f":
        if not np.isfinite(slab).all():
            raise QualityError("the volume holds NaN or infinite voxels and cannot be stored")
        slab = np.rint(slab)
    stored: npt.NDArray[Any] = np.clip(slab, limits.min, limits.max).astype(dtype)
    return stored
