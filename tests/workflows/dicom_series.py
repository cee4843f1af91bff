"""DICOM series written with SimpleITK, for the tests that read them."""

from __future__ import annotations

import locale
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk


def write_slices(
    folder: Path,
    slices: Mapping[str, tuple[npt.NDArray[np.int16], Sequence[float]]],
    *,
    spacing_mm: Sequence[float],
    tags: Mapping[str, str],
) -> None:
    """One file a slice: its name → HU (j, i), as DICOM has rows first, and its place (LPS, mm).

    GDCM stores (HU - intercept) / slope where `tags` have these. It leaves the process in the
    locale "C" when it writes: files without a stated encoding would be read as ASCII afterwards.
    """
    folder.mkdir(parents=True, exist_ok=True)
    before = locale.setlocale(locale.LC_CTYPE)
    writer = sitk.ImageFileWriter()
    writer.SetImageIO("GDCMImageIO")
    writer.KeepOriginalImageUIDOn()
    try:
        for number, (name, (hu, place)) in enumerate(slices.items()):
            image = sitk.GetImageFromArray(hu)
            image.SetSpacing(list(spacing_mm[:2]))
            for tag, value in tags.items():
                image.SetMetaData(tag, value)
            image.SetMetaData("0020|0032", "\\".join(f"{value:g}" for value in place))
            image.SetMetaData("0020|0013", str(number))
            image.SetMetaData("0008|0018", f"{tags['0020|000e']}.{number}")
            image.SetMetaData("0018|0050", str(spacing_mm[2]))
            writer.SetFileName(str(folder / name))
            writer.Execute(image)
    finally:
        locale.setlocale(locale.LC_CTYPE, before)
