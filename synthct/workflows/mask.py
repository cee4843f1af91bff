"""Understand a mask: read it, find its scheme, say it in MAISI labels, complete the body.

`info`, `convert`, `body` and `phantom` are the commands `synthct mask …`; `understand` is what
`generate` and `check` begin with. No torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from synthct.errors import MaskError, UsageError
from synthct.geometry import Geometry
from synthct.labels.body import body_from_ct, touches_body, with_body
from synthct.labels.detect import AUTO
from synthct.labels.envelope import body_from_labels
from synthct.labels.groups import BODY, regions_present
from synthct.labels.remap import RemapReport, Unknown, remap, unmap
from synthct.labels.scheme import Scheme, load_scheme, maisi_name
from synthct.volume.nifti import write_labels
from synthct.volume.reading import read_image, read_labels
from synthct.volume.resample import resample_labels
from synthct.volume.volume import LabelVolume
from synthct.workflows.detection import detect_scheme
from synthct.workflows.inputs import mask_file
from synthct.workflows.phantom import write_phantom as phantom

if TYPE_CHECKING:
    from nibabel.spatialimages import SpatialImage

__all__ = ["UnderstoodMask", "Written", "body", "convert", "info", "phantom", "understand"]

MAISI = "maisi"
Body = Literal["auto", "none"]
BodySource = Literal["mask", "labels", "body-mask", "ct", "none"]
PathLike = Path | str
MaskLike: TypeAlias = "PathLike | LabelVolume | SpatialImage"
"""A file or folder, labels in memory, or a nibabel image."""


@dataclass(frozen=True, eq=False)
class UnderstoodMask:
    """A mask, and how it was understood.

    Attributes:
        labels: (i, j, k) uint8 MAISI ids, 200 the body envelope, on the grid of the mask.
        original: the ids as they came.
        scheme: the scheme that they follow, and the `reason` for deciding so.
        report: what became of each id.
        layout: `nifti`, `nrrd`, `mha`, `folder`, or `array` where no file was read.
        body_source: where the envelope comes from.
        notes: one-line remarks for the user.
    """

    labels: LabelVolume
    original: LabelVolume
    scheme: Scheme
    reason: str
    report: RemapReport
    layout: str
    body_source: BodySource
    notes: tuple[str, ...]

    @property
    def regions(self) -> tuple[str, ...]:
        """Of head, chest, abdomen, pelvis: those that the labels show."""
        return regions_present(self.labels.counts())

    def as_dict(self) -> dict[str, object]:
        return {
            "layout": self.layout,
            "scheme": self.scheme.name,
            "scheme_title": self.scheme.title,
            "reason": self.reason,
            "geometry": describe(self.labels.geometry),
            "regions": list(self.regions),
            "body": self.body_source,
            "structures": _structures(self.labels),
            "labels": self.report.as_dict(),
            "notes": list(self.notes),
        }


@dataclass(frozen=True, eq=False)
class Written:
    """A label map that was written, and what it holds."""

    path: Path
    scheme: str
    labels: LabelVolume
    lost: tuple[tuple[int, str], ...]
    """(MAISI id, name) of what the target scheme has no label for."""
    understood: UnderstoodMask

    def as_dict(self) -> dict[str, object]:
        return {
            "output": str(self.path),
            "to": self.scheme,
            "ids": list(self.labels.ids()),
            "lost": [{"maisi_id": label, "name": name} for label, name in self.lost],
            "mask": self.understood.as_dict(),
        }


def understand(
    mask: MaskLike,
    *,
    labels: str = AUTO,
    body: Body = "auto",
    body_mask: PathLike | None = None,
    ct: PathLike | None = None,
    unknown: Unknown = "error",
) -> UnderstoodMask:
    """Read `mask` and say it in MAISI labels with a body around them.

    Args:
        labels: scheme of the ids: `auto`, a built-in name, or a file that defines one.
        body: `auto` completes the envelope from the labels where the mask brings none; `none`
            leaves it out.
        body_mask: a mask of the body (every voxel above 0), on any grid.
        ct: a CT of the same patient, from which the envelope is taken.
        unknown: ids that the scheme does not know: `error`, `body` or `drop`.

    Raises:
        MaskError: no mask, an unknown or ambiguous scheme, unknown ids, a body elsewhere, a body
            and nothing in it.
        UsageError: options that exclude one another, an unknown scheme.
    """
    understood = _understand(mask, labels, body, body_mask, ct, unknown)
    if not set(understood.labels.ids()) - {BODY}:
        raise MaskError(
            "the mask holds a body (label 200) and no organ in it; at least one is needed",
            "add organ labels, or pass this file as --body-mask to a mask that has them",
        )
    return understood


def _understand(
    mask: MaskLike,
    labels: str,
    body: Body,
    body_mask: PathLike | None,
    ct: PathLike | None,
    unknown: Unknown,
) -> UnderstoodMask:
    """`understand`, also for a map of the body alone, which the mask tools take."""
    if (body_mask is not None) + (ct is not None) + (body == "none") > 1:
        raise UsageError("--body none, --body-mask and --ct exclude one another", "give one")
    original, layout, notes = _read(mask)
    hint = original.scheme if labels == AUTO and original.scheme else labels
    found = detect_scheme(original, notes, hint)
    array, report = remap(original.array, found.scheme, unknown)
    raw = LabelVolume(array, original.geometry, MAISI)
    complete, source, more = _complete(raw, report, body, body_mask, ct)
    return UnderstoodMask(
        labels=complete,
        original=original,
        scheme=found.scheme,
        reason=found.reason,
        report=report,
        layout=layout,
        body_source=source,
        notes=(*notes, *more),
    )


def info(mask: MaskLike, *, labels: str = AUTO, unknown: Unknown = "error") -> UnderstoodMask:
    """What a mask holds, as it came: no body is added."""
    understood = _understand(mask, labels, "none", None, None, unknown)
    if understood.report.has_envelope:
        return replace(understood, body_source="mask")
    return understood


def convert(
    mask: MaskLike,
    output: PathLike,
    *,
    to: str = MAISI,
    labels: str = AUTO,
    body: Body = "auto",
    body_mask: PathLike | None = None,
    ct: PathLike | None = None,
    unknown: Unknown = "error",
    overwrite: bool = False,
) -> Written:
    """Write `mask` in the labels of another scheme, names in the header. See `understand`."""
    target = load_scheme(to)
    kept = target.inverse()
    if BODY not in kept and body_mask is None and ct is None:
        body = "none"  # nobody would see it
    understood = _understand(mask, labels, body, body_mask, ct, unknown)
    lost = tuple(
        (label, maisi_name(label)) for label in understood.labels.ids() if label not in kept
    )
    array = unmap(understood.labels.array, target)
    if not array.any():
        raise MaskError(
            f"nothing is left: {target.name} has none of the mask's {len(lost)} structures",
            "choose another --to",
        )
    converted = LabelVolume(array, understood.labels.geometry, target.name, target.labels)
    path = Path(output)
    names = {label: target.labels[label] for label in converted.ids()}
    write_labels(path, converted, names, overwrite=overwrite)
    return Written(path, target.name, converted, lost, understood)


def body(
    mask: MaskLike,
    output: PathLike,
    *,
    labels: str = AUTO,
    body_mask: PathLike | None = None,
    ct: PathLike | None = None,
    unknown: Unknown = "error",
    overwrite: bool = False,
) -> Written:
    """Write the body envelope of `mask` alone: 200 in the patient, 0 around it."""
    understood = _understand(mask, labels, "auto", body_mask, ct, unknown)
    inside = np.where(understood.labels.array > 0, np.uint8(BODY), np.uint8(0))
    envelope = LabelVolume(inside, understood.labels.geometry, MAISI, {BODY: maisi_name(BODY)})
    path = Path(output)
    write_labels(path, envelope, envelope.names, overwrite=overwrite)
    return Written(path, MAISI, envelope, (), understood)


def describe(geometry: Geometry) -> dict[str, object]:
    """A grid in words and mm, JSON-able."""
    return {
        "shape": list(geometry.shape),
        "spacing_mm": [round(s, 6) for s in geometry.spacing_mm],
        "extent_mm": [round(e, 3) for e in geometry.extent_mm],
        "orientation": geometry.orientation,
        "axes": list(geometry.axis_names),
    }


def _read(mask: MaskLike) -> tuple[LabelVolume, str, tuple[str, ...]]:
    if isinstance(mask, LabelVolume):
        return mask, "array", ()
    with mask_file(mask) as path:
        if path is None:
            raise UsageError("no mask was given", "pass a path or a nibabel image")
        read = read_labels(path)
    return read.labels, read.layout, read.notes


def _complete(
    raw: LabelVolume,
    report: RemapReport,
    body: Body,
    body_mask: PathLike | None,
    ct: PathLike | None,
) -> tuple[LabelVolume, BodySource, tuple[str, ...]]:
    """Add the envelope (200) to MAISI labels; where it came from, and what to tell the user."""
    superior = raw.geometry.to_ras()[0][2]
    if report.has_envelope and set(raw.ids()) - {BODY}:
        touches_body(raw.array)
    if body_mask is not None:
        envelope, notes = _from_mask(Path(body_mask), raw.geometry)
        return _around(raw, envelope, Path(body_mask)), "body-mask", notes
    if ct is not None:
        scan = read_image(Path(ct))
        inside = body_from_ct(scan.array, scan.geometry.spacing_mm, scan.geometry.to_ras()[0][2])
        placed = LabelVolume(inside.astype(np.uint8), scan.geometry)
        envelope, notes = _on_grid(placed, raw.geometry, Path(ct))
        return _around(raw, envelope, Path(ct)), "ct", notes
    if report.has_envelope:
        return raw, "mask", ()
    if body == "none":
        return raw, "none", ()
    from_labels = body_from_labels(raw.array, raw.geometry.spacing_mm, superior)
    note = (
        "the mask has no body envelope: completed from the labels (--body, --ct for a better one)"
    )
    return raw.with_array(with_body(raw.array, from_labels)), "labels", (note,)


def _from_mask(path: Path, geometry: Geometry) -> tuple[npt.NDArray[np.bool_], tuple[str, ...]]:
    read = read_labels(path)
    inside = (read.labels.array > 0).astype(np.uint8)
    envelope, notes = _on_grid(LabelVolume(inside, read.labels.geometry), geometry, path)
    return envelope, (*read.notes, *notes)


def _on_grid(
    envelope: LabelVolume, geometry: Geometry, path: Path
) -> tuple[npt.NDArray[np.bool_], tuple[str, ...]]:
    if envelope.geometry.same_as(geometry, tolerance_mm=1e-2):
        return envelope.array > 0, ()
    moved, _ = resample_labels(envelope, geometry)
    return moved.array > 0, (f"{path.name}: another grid than the mask's, resampled",)


def _around(raw: LabelVolume, envelope: npt.NDArray[np.bool_], path: Path) -> LabelVolume:
    labelled = raw.array > 0
    if not (envelope & labelled).any():
        raise MaskError(
            f"{path}: the body in it touches none of the mask's labels",
            "are both of the same patient, in the same space?",
        )
    return raw.with_array(with_body(raw.array, envelope))


def _structures(labels: LabelVolume) -> list[Mapping[str, object]]:
    millilitres = labels.geometry.voxel_mm3 / 1000
    return [
        {
            "maisi_id": label,
            "name": maisi_name(label),
            "voxels": count,
            "ml": round(count * millilitres, 3),
        }
        for label, count in labels.counts().items()
    ]
