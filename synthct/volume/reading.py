"""A mask or a scan from disk, whatever it came in: understood, or refused with a reason."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from synthct.errors import InputError, MaskError
from synthct.geometry import Geometry
from synthct.volume.itk import LAYOUTS, read_itk
from synthct.volume.nifti import is_nifti_name, read_nifti
from synthct.volume.volume import LabelVolume, Volume

Layout = Literal["nifti", "nrrd", "mha", "folder"]

MAX_ID = int(np.iinfo(np.uint16).max)
WHOLE_TOLERANCE = 1e-3
_ACCEPTED = ".nii, .nii.gz, .nrrd, .mha, or a folder with one NIfTI file per organ"


@dataclass(frozen=True, eq=False)
class ReadMask:
    """A label map as it stands in the file, the layout it came in, and remarks for the user."""

    labels: LabelVolume
    layout: Layout
    notes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class _Raw:
    array: npt.NDArray[Any]
    geometry: Geometry
    names: Mapping[int, str]
    layout: Layout
    notes: tuple[str, ...]


def read_labels(path: Path | str) -> ReadMask:
    """Read a mask as the smallest unsigned integers that hold its ids.

    Raises:
        MaskError: missing, truncated, not an image, not 3D, complex, NaN or infinite, fractional,
            negative or too large ids, empty, or without a sensible place in the patient.
    """
    path = Path(path)
    with _as_mask_error():
        if path.is_dir():
            return _read_folder(path)
        raw = _read_file(path)
        array = as_ids(path, raw.array)
    if not array.any():
        raise MaskError(f"{path}: the mask is empty (every voxel is 0)", "pass another mask")
    labels = LabelVolume(array, raw.geometry, names=dict(raw.names))
    return ReadMask(labels, raw.layout, raw.notes)


def read_image(path: Path | str, modality: str = "CT") -> Volume:
    """Read a scan as float32 (NIfTI, NRRD, MHA). NaN, common outside the field of view, stays.

    Raises:
        InputError: missing, truncated, not an image, not 3D, complex, or without a place.
    """
    raw = _read_file(Path(path))
    return Volume(raw.array.astype(np.float32, copy=False), raw.geometry, modality)


@contextmanager
def _as_mask_error() -> Iterator[None]:
    try:
        yield
    except MaskError:
        raise
    except InputError as error:
        raise MaskError(error.message, error.hint) from error


def _read_file(path: Path) -> _Raw:
    if path.is_dir():
        raise InputError(f"{path}: a folder; an image file needed", "name one file in it")
    if not path.exists():
        raise InputError(f"{path}: no such file", "check the path")
    if path.suffix.lower() in LAYOUTS:
        array, geometry = read_itk(path)
        layout: Layout = "nrrd" if LAYOUTS[path.suffix.lower()] == "nrrd" else "mha"
        return _Raw(array, geometry, {}, layout, ())
    if not is_nifti_name(path):
        raise InputError(f"{path}: a file of unknown kind; accepted: {_ACCEPTED}")
    file = read_nifti(path)
    return _Raw(file.array, file.geometry, file.names, "nifti", file.notes)


def as_ids(path: Path, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Voxel values as uint8 or uint16 ids; floats that are whole to 1e-3 are accepted.

    Raises:
        MaskError: NaN or infinite, fractional, negative, or larger than 65535.
    """
    low, high = _limits(path, values)
    if low < -WHOLE_TOLERANCE:
        raise MaskError(f"{path}: negative ids, down to {low:g}", "a mask holds ids 0, 1, 2, ...")
    if high > MAX_ID + WHOLE_TOLERANCE:
        raise MaskError(f"{path}: ids up to {high:g}; accepted: 0 to {MAX_ID}", "is it a mask?")
    dtype = np.dtype(np.uint8 if high < 255.5 else np.uint16)
    if values.dtype.kind in "iu":
        return np.ascontiguousarray(values, dtype=dtype)
    ids = np.empty(values.shape, dtype=dtype)
    for plane, rounded in zip(values, ids, strict=True):
        whole = np.rint(plane)
        if float(np.abs(plane - whole).max()) > WHOLE_TOLERANCE:
            worst = plane.flat[int(np.argmax(np.abs(plane - whole)))]
            hint = "resample masks with nearest neighbour; pass a label map, not an image"
            raise MaskError(f"{path}: fractional ids such as {worst:g}; whole ones needed", hint)
        rounded[...] = whole
    return ids


def _limits(path: Path, values: npt.NDArray[Any]) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())  # NaN wins both
    if not np.isfinite([low, high]).all():
        raise MaskError(f"{path}: NaN or infinite voxels; a mask holds ids 0, 1, 2, ...")
    return low, high


def _read_folder(folder: Path) -> ReadMask:
    """One file per organ (TotalSegmentator's layout): ids follow the sorted names, from 1."""
    files = _organ_files(folder)
    merged: npt.NDArray[Any] | None = None
    geometry: Geometry | None = None
    notes: list[str] = []
    names: dict[int, str] = {}
    for label, (name, path) in enumerate(files, start=1):
        raw = _read_file(path)
        if merged is None or geometry is None:
            geometry = raw.geometry
            merged = np.zeros(geometry.shape, np.uint8 if len(files) < 256 else np.uint16)
        _check_same_grid(path, raw.geometry, geometry)
        overlapped = _paint(merged, label, _inside(path, raw.array))
        names[label] = name
        notes.extend(f"{name}: {note}" for note in raw.notes)
        if overlapped:
            notes.append(f"{name} covers {overlapped} voxels of other organs: {name} kept there")
    if merged is None or geometry is None or not merged.any():
        raise MaskError(f"{folder}: every file in the folder is empty", "pass another mask")
    return ReadMask(LabelVolume(merged, geometry, names=names), "folder", tuple(notes))


def _organ_files(folder: Path) -> list[tuple[str, Path]]:
    """(organ, file) sorted by organ; hidden files are left out."""
    found = [
        (path.name[: path.name.lower().index(".nii")], path)
        for path in folder.iterdir()
        if is_nifti_name(path) and not path.name.startswith(".")
    ]
    if not found:
        raise MaskError(f"{folder}: no NIfTI file in the folder", f"accepted: {_ACCEPTED}")
    stems = [name for name, _ in found]
    twice = sorted({name for name in stems if stems.count(name) > 1})
    if twice:
        raise MaskError(f"{folder}: more than one file for {', '.join(twice)}")
    return sorted(found)


def _check_same_grid(path: Path, geometry: Geometry, first: Geometry) -> None:
    if not geometry.same_as(first, tolerance_mm=1e-2):
        raise MaskError(
            f"{path}: its grid {geometry.shape} differs from that of the folder's first file",
            "resample all organs to one grid",
        )


def _inside(path: Path, values: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    ids = as_ids(path, values)
    present = [v for v in (int(ids.min()), int(ids.max())) if v]
    inside: npt.NDArray[np.bool_] = ids != 0
    if present and bool((ids[inside] != present[-1]).any()):
        hint = "a folder mask has one organ per file; pass the single file instead"
        raise MaskError(f"{path}: several ids in one organ's file", hint)
    return inside


def _paint(merged: npt.NDArray[Any], label: int, inside: npt.NDArray[np.bool_]) -> int:
    """Write `label` where `inside`; return how many voxels already belonged to another."""
    overlapped = int(np.count_nonzero(merged[inside]))
    merged[inside] = label
    return overlapped
