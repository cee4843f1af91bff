"""NRRD, MHA and MHD through SimpleITK, which thinks in LPS: x and y change sign on the way to RAS.

SimpleITK is imported on first use; it takes a good part of a second.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from synthct.errors import InputError
from synthct.geometry import FloatArray, Geometry
from synthct.volume.affines import check_affine, check_spacing

LAYOUTS = {".nrrd": "nrrd", ".nhdr": "nrrd", ".mha": "mha", ".mhd": "mha"}
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])


def read_itk(path: Path) -> tuple[npt.NDArray[Any], Geometry]:
    """Array (i, j, k) and its geometry. Trailing axes of length 1 are dropped.

    Raises:
        InputError: missing, truncated, not an image, not 3D, several numbers per voxel, or a
            spacing or direction that says nothing sensible.
    """
    import SimpleITK

    if not path.is_file():
        raise InputError(f"{path}: no such file", "check the path")
    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
        _check_header(path, reader)
        image = reader.Execute()
    except RuntimeError as error:
        hint = "copy or export it again"
        raise InputError(f"{path}: truncated, damaged or not an image", hint) from error
    array = SimpleITK.GetArrayFromImage(image).T
    shape = (array.shape[0], array.shape[1], array.shape[2])
    return np.ascontiguousarray(array.reshape(shape)), Geometry(shape, _affine(path, reader))


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
    affine[:3, :3] = _LPS_TO_RAS @ direction * spacing
    affine[:3, 3] = _LPS_TO_RAS @ np.asarray(reader.GetOrigin()[:3])
    check_affine(path, affine)
    return affine
