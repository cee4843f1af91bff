"""DICOM series through SimpleITK (GDCM): found, told apart, read with slope and intercept.

GDCM sorts a folder into series, finer than the series UID where slices differ in size or direction,
and turns stored values into HU with the file's rescale slope and intercept. What is no volume of
patient anatomy (localizers, a few slices, gaps between slices) is listed with the reason.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from synthct.errors import InputError
from synthct.geometry import Geometry
from synthct.volume.affines import check_affine, check_spacing
from synthct.volume.itk import LPS_TO_RAS, without_chatter
from synthct.volume.volume import Volume

LEAST_SLICES = 8
GAP_SHARE = 0.1
"""Slice distances may differ by this share of their median."""
MODALITIES = ("CT", "MR")
_TAGS = {
    "modality": "0008|0060",
    "image_type": "0008|0008",
    "patient": "0010|0020",
    "number": "0020|0011",
    "description": "0008|103e",
    "protocol": "0018|1030",
    "position": "0020|0032",
    "orientation": "0020|0037",
}
_CONTRASTS = ("flair", "swi", "t1", "t2", "pd")


@dataclass(frozen=True)
class Series:
    """One series of a folder.

    Attributes:
        uid: GDCM's name of it.
        files: its slices in order.
        modality: `CT`, `MR`, or what else the file says.
        subject: a name made from a hash of the patient's ID, the same for all his series; empty
            where there is no ID.
        number: of the series in its study; 0 where the file has none.
        contrast: of MR, where the description names one.
        reason: why it is no volume to train on; empty where it is.
    """

    uid: str
    files: tuple[Path, ...]
    modality: str
    subject: str
    number: int
    contrast: str = ""
    reason: str = ""


def series_in(folder: Path) -> tuple[Series, ...]:
    """The DICOM series whose files lie in `folder` itself, in order of their numbers."""
    import SimpleITK

    with without_chatter():
        uids = SimpleITK.ImageSeriesReader.GetGDCMSeriesIDs(str(folder))
        found = [_series(folder, uid) for uid in uids]
    return tuple(sorted(found, key=lambda s: (s.number, s.uid)))


def read_series(series: Series) -> Volume:
    """The volume of a series: HU for CT, the scanner's own units for MR; float32.

    Raises:
        InputError: the series is none to train on, or cannot be read.
    """
    import SimpleITK

    if series.reason:
        raise InputError(f"{series.files[0].parent}: series {series.number}: {series.reason}")
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames([str(path) for path in series.files])
    try:
        with without_chatter():
            image = reader.Execute()
    except RuntimeError as error:
        raise InputError(
            f"{series.files[0].parent}: series {series.number} cannot be read",
            "export it again, uncompressed",
        ) from error
    return _volume(image, series)


def _volume(image: Any, series: Series) -> Volume:
    import SimpleITK

    if image.GetNumberOfComponentsPerPixel() != 1:
        raise InputError(f"{series.files[0].parent}: series {series.number} is in colour")
    array = np.ascontiguousarray(SimpleITK.GetArrayFromImage(image).T, dtype=np.float32)
    spacing = np.asarray(image.GetSpacing(), dtype=np.float64)
    check_spacing(series.files[0].parent, spacing, "the series")
    affine = np.eye(4)
    affine[:3, :3] = LPS_TO_RAS @ np.asarray(image.GetDirection()).reshape(3, 3) * spacing
    affine[:3, 3] = LPS_TO_RAS @ np.asarray(image.GetOrigin())
    check_affine(series.files[0].parent, affine)
    shape = (array.shape[0], array.shape[1], array.shape[2])
    return Volume(array, Geometry(shape, affine), series.modality)


def _series(folder: Path, uid: str) -> Series:
    import SimpleITK

    names = SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), uid)
    files = tuple(Path(name) for name in names)
    told = _tags(files[0])
    unreadable = "" if told else f"{files[0].name} cannot be read"
    told = told or dict.fromkeys(_TAGS, "")
    modality = told["modality"] or "unknown"
    return Series(
        uid=uid,
        files=files,
        modality=modality,
        subject=_subject(told["patient"]),
        number=_number(told["number"]),
        contrast=_contrast(told) if modality == "MR" else "",
        reason=unreadable or _reason(told, files),
    )


def _tags(path: Path) -> dict[str, str] | None:
    """The header of one slice, a tag that is not there empty; None where it cannot be read."""
    import SimpleITK

    reader = SimpleITK.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError:
        return None
    return {
        name: reader.GetMetaData(tag).strip() if reader.HasMetaDataKey(tag) else ""
        for name, tag in _TAGS.items()
    }


def _reason(told: dict[str, str], files: tuple[Path, ...]) -> str:
    if told["modality"] not in MODALITIES:
        return f"modality {told['modality'] or 'not stated'}; accepted: {', '.join(MODALITIES)}"
    if "LOCALIZER" in told["image_type"].upper():
        return "a localizer"
    if len(files) < LEAST_SLICES:
        return f"{len(files)} slices; at least {LEAST_SLICES} needed"
    return _uneven(files)


def _uneven(files: tuple[Path, ...]) -> str:
    """Of distances between neighbouring slices along their common normal."""
    places = []
    for path in files:
        told = _tags(path)
        if told is None:
            return f"{path.name} cannot be read"
        try:
            direction = np.array([float(v) for v in told["orientation"].split("\\")]).reshape(2, 3)
            position = np.array([float(v) for v in told["position"].split("\\")])
        except ValueError:
            return "slices without a place in the patient"
        places.append(float(np.cross(*direction) @ position))
    distances = np.diff(np.array(places))
    usual = float(np.median(distances))
    if abs(usual) < 1e-3:
        return "several slices at one place"
    if np.abs(distances - usual).max() > GAP_SHARE * abs(usual):
        return f"slices at uneven distances ({distances.min():.3g} to {distances.max():.3g} mm)"
    return ""


def _subject(patient: str) -> str:
    """No patient's ID goes into a manifest."""
    return f"patient-{hashlib.sha256(patient.encode()).hexdigest()[:10]}" if patient else ""


def _contrast(told: dict[str, str]) -> str:
    words = f"{told['description']} {told['protocol']}".lower()
    return next((name for name in _CONTRASTS if name in words), "")


def _number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        return 0
