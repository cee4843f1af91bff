"""One picture of a volume: three planes, two fixed windows, and the labels beside."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, PngImagePlugin

from synthct.atomic import replacing
from synthct.errors import InputError
from synthct.labels.groups import BODY
from synthct.labels.scheme import maisi_name
from synthct.preview.contours import colour_of, draw_contours
from synthct.preview.figure import LegendItem, Row, compose
from synthct.preview.slices import Slice, three_slices
from synthct.volume.volume import LabelVolume, Volume

Window = tuple[float, float]

SOFT_TISSUE_HU: Window = (-160.0, 240.0)
WIDE_HU: Window = (-1000.0, 400.0)
SYNTHETIC = "SYNTHETIC"
PICTURE_PX = 420  # longest side of one plane


def render(
    volume: Volume,
    labels: LabelVolume | None,
    path: Path | str,
    *,
    window_hu: Window = SOFT_TISSUE_HU,
    wide_hu: Window = WIDE_HU,
    title: str = "",
    mark: str = SYNTHETIC,
    overwrite: bool = False,
) -> None:
    """Write the picture of `render_png` to a file.

    Raises:
        InputError: see `render_png`.
        UsageError: the file exists and `overwrite` is false.
        OutputError: the folder cannot be written, or the disk is full.
    """
    content = render_png(
        volume, labels, window_hu=window_hu, wide_hu=wide_hu, title=title, mark=mark
    )
    with replacing(path, overwrite=overwrite) as temporary:
        temporary.write_bytes(content)


def render_png(
    volume: Volume,
    labels: LabelVolume | None = None,
    *,
    window_hu: Window = SOFT_TISSUE_HU,
    wide_hu: Window = WIDE_HU,
    title: str = "",
    mark: str = SYNTHETIC,
    picture_px: int = PICTURE_PX,
) -> bytes:
    """A PNG: axial, coronal and sagittal in two windows, and once more with label contours.

    Args:
        volume: any orientation; shown in radiological convention, in the patient's proportions.
        labels: on the volume's grid, or None for a picture without contours.
        window_hu: lower and upper HU of the first row and of the contours' row. MR, which has no
            unit, is shown in one window, of its own values.
        wide_hu: those of the second row.
        title: stands at the top.
        mark: stands beside the title, in a colour of its own; empty for a real scan.
        picture_px: longest side of one plane.

    Raises:
        InputError: the labels lie on another grid, or a window is empty.
    """
    _check(volume, labels, window_hu, wide_hu)
    slices = three_slices(volume, labels)
    px_per_mm = picture_px / max(side for s in slices for side in s.extent_mm)
    if volume.modality == "CT":
        rows = [
            _grey_row("Soft-tissue window", slices, window_hu, px_per_mm),
            _grey_row("Wide window", slices, wide_hu, px_per_mm),
        ]
    else:
        window_hu = bright_window(volume)
        rows = [_grey_row("Air to bright end", slices, window_hu, px_per_mm, unit="")]
    legend: list[LegendItem] = []
    if labels is not None:
        rows.append(_label_row(slices, window_hu, px_per_mm))
        legend = _legend(slices, labels)
    figure = compose(
        rows, slices, px_per_mm, legend=legend, title=title, mark=mark, facts=_facts(volume)
    )
    return _encode(figure, mark, title)


def bright_window(volume: Volume) -> Window:
    """From 0 to the 99.5th percentile of the values, for images without a unit."""
    high = float(np.percentile(volume.array[::2, ::2, ::2], 99.5))
    return 0.0, max(high, 1.0)


def _check(volume: Volume, labels: LabelVolume | None, *windows: Window) -> None:
    if labels is not None and not labels.geometry.same_as(volume.geometry):
        raise InputError(
            f"labels of shape {labels.array.shape} do not lie on the image's grid "
            f"of shape {volume.array.shape}",
            "resample the labels first",
        )
    for low, high in windows:
        if not low < high:
            raise InputError(f"a window from {low:g} to {high:g} HU; the lower value comes first")


def _grey_row(
    title: str, slices: Sequence[Slice], window_hu: Window, px_per_mm: float, *, unit: str = " HU"
) -> Row:
    pictures = [Image.fromarray(_grey(s, window_hu, px_per_mm)).convert("RGB") for s in slices]
    return Row(f"{title}  {_range(window_hu, unit)}", tuple(pictures))


def _label_row(slices: Sequence[Slice], window_hu: Window, px_per_mm: float) -> Row:
    pictures = [_contoured(s, window_hu, px_per_mm) for s in slices]
    return Row(f"Labels over soft-tissue window  {_range(window_hu)}", tuple(pictures))


def _contoured(plane: Slice, window_hu: Window, px_per_mm: float) -> Image.Image:
    grey = _grey(plane, window_hu, px_per_mm)
    if plane.labels is None:
        return Image.fromarray(grey).convert("RGB")
    drawn = Image.fromarray(plane.labels.astype(np.int32))
    enlarged = drawn.resize((grey.shape[1], grey.shape[0]), Image.Resampling.NEAREST)
    return Image.fromarray(draw_contours(grey, np.asarray(enlarged)))


def _grey(plane: Slice, window_hu: Window, px_per_mm: float) -> npt.NDArray[np.uint8]:
    """The plane at the figure's scale, `window_hu` spread over 0..255."""
    height, width = (max(1, round(mm * px_per_mm)) for mm in plane.extent_mm)
    low, high = window_hu
    clipped = np.clip(plane.image, low - (high - low), high + (high - low))
    sized = Image.fromarray(clipped).resize((width, height), Image.Resampling.BICUBIC)
    unit = (np.asarray(sized) - low) / (high - low)
    return np.rint(np.clip(unit, 0, 1) * 255).astype(np.uint8)


def _legend(slices: Sequence[Slice], labels: LabelVolume) -> list[LegendItem]:
    """The structures seen in the three planes, largest first, the body's envelope last."""
    seen: dict[int, int] = {}
    for plane in slices:
        if plane.labels is None:
            continue
        for label, count in zip(*np.unique(plane.labels, return_counts=True), strict=True):
            seen[int(label)] = seen.get(int(label), 0) + int(count)
    seen.pop(0, None)
    order = sorted(seen, key=lambda label: (label == BODY, -seen[label]))
    return [LegendItem(_name(label, labels), colour_of(label)) for label in order]


def _name(label: int, labels: LabelVolume) -> str:
    if label in labels.names:
        return labels.names[label].replace("_", " ")
    if labels.scheme == "maisi":
        return maisi_name(label).replace("_", " ")
    return f"label {label}"


def _facts(volume: Volume) -> str:
    shape = " x ".join(str(n) for n in volume.geometry.shape)
    spacing = " x ".join(f"{s:.3g}" for s in volume.geometry.spacing_mm)
    return f"{shape} voxels of {spacing} mm, {volume.geometry.orientation}"


def _range(window_hu: Window, unit: str = " HU") -> str:
    return f"{window_hu[0]:g} to {window_hu[1]:g}{unit}"


def _encode(figure: Image.Image, mark: str, title: str) -> bytes:
    """PNG bytes; the mark also stands in the file's text, where no crop removes it."""
    text = PngImagePlugin.PngInfo()
    text.add_text("Software", "synthct")
    if title:
        text.add_text("Title", title)
    if mark:
        text.add_text("Comment", f"{mark}: not a scan of a patient")
    buffer = io.BytesIO()
    figure.save(buffer, "PNG", pnginfo=text)
    return buffer.getvalue()
