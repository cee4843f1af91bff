"""NRRD, MHA and MHD through SimpleITK, which thinks in LPS: x and y change sign on the way to RAS.

SimpleITK is imported on first use; it takes a good part of a second.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from synthct.errors import InputError
from synthct.geometry import FloatArray, Geometry
from synthct.volume.affines import check_affine, check_spacing

LAYOUTS = {".nrrd": "nrrd", ".nhdr": "nrrd", ".mha": "mha", ".mhd": "mha"}
_PLACED_BY = {
    "nrrd": ((b"space:", b"space dimension:"), (b"space directions:",)),
    "mha": ((b"ElementSpacing", b"ElementSize"), (b"TransformMatrix", b"Orientation", b"Rotation")),
}
"""Header fields without which ITK makes up a place: one of each group is needed."""
_LAST_FIELD = b"ElementDataFile"  # of MHA; NRRD ends its header with an empty line
_MOST_HEADER_LINES = 1000
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])


def read_itk(path: Path) -> tuple[npt.NDArray[Any], Geometry]:
    """Array (i, j, k) and its geometry. Trailing axes of length 1 are dropped.

    Raises:
        InputError: missing, truncated, not an image, not 3D, several numbers per voxel, no place
            in the patient, or a spacing or direction that says nothing sensible.
    """
    import SimpleITK

    if not path.is_file():
        raise InputError(f"{path}: no such file", "check the path")
    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        with without_chatter():
            reader.ReadImageInformation()
            _check_header(path, reader)
            image = reader.Execute()
    except RuntimeError as error:
        hint = "copy or export it again"
        raise InputError(f"{path}: truncated, damaged or not an image", hint) from error
    _check_placed(path)
    array = SimpleITK.GetArrayFromImage(image).T
    shape = (array.shape[0], array.shape[1], array.shape[2])
    return np.ascontiguousarray(array.reshape(shape)), Geometry(shape, _affine(path, reader))


def _duplicate(descriptor: int) -> int | None:
    try:
        return os.dup(descriptor)
    except OSError:  # closed
        return None


@contextmanager
def without_chatter() -> Iterator[None]:
    """MetaIO prints its own complaints to file descriptor 2; the error raised says enough."""
    kept = _duplicate(2)
    if kept is None:
        yield
        return
    if sys.stderr is not None:
        sys.stderr.flush()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _check_placed(path: Path) -> None:
    """ITK gives 1 mm and identity where a header names no spacing or direction: refuse that."""
    layout = LAYOUTS[path.suffix.lower()]
    fields = []
    with open(path, "rb") as file:
        for _ in range(_MOST_HEADER_LINES):
            line = file.readline(1 << 16)
            fields.append(line)
            if not line or line in (b"\n", b"\r\n") or line.startswith(_LAST_FIELD):
                break
    for names in _PLACED_BY[layout]:
        if not any(line.startswith(names) for line in fields):
            wanted = " or ".join(name.decode().rstrip(":") for name in names)
            raise InputError(
                f"{path}: the header has no {wanted}, so no place", "convert it again from DICOM"
            )


def _check_header(path: Path, reader: Any) -> None:
    import SimpleITK

    kind = SimpleITK.GetPixelIDValueAsString(reader.GetPixelID())
    if "complex" in kind or reader.GetNumberOfComponents() != 1:
        raise InputError(f"{path}: voxels of kind '{kind}'; one real number per voxel needed")
    size = reader.GetSize()
    if len(size) < 3 or any(n != 1 for n in size[3:]):
        raise InputError(f"{path}: an image of shape {tuple(size)}; 3D needed")


def _affine(path: Path, reader: Any) -> FloatArray:
    n = reader.GetDimension()
    spacing = np.asarray(reader.GetSpacing()[:3], dtype=np.float64)
    check_spacing(path, spacing, "the header")
    direction = np.asarray(reader.GetDirection(), dtype=np.float64).reshape(n, n)[:3, :3]
    affine = np.eye(4)
    affine[:3, :3] = LPS_TO_RAS @ direction * spacing
    affine[:3, 3] = LPS_TO_RAS @ np.asarray(reader.GetOrigin()[:3])
    check_affine(path, affine)
    return affine
