"""`synthct mask info|convert|body|phantom`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from synthct.cli import mask_phantom
from synthct.cli.console import JsonOption, QuietOption, VerboseOption, edge, emit, say
from synthct.cli.words import (
    BodyChoice,
    BodyMaskOption,
    BodyOption,
    CtOption,
    LabelsOption,
    OverwriteOption,
    UnknownIds,
    UnknownOption,
)

MaskArgument = Annotated[
    Path, typer.Argument(metavar="MASK", help="NIfTI, NRRD, MHA, or a folder of organ files.")
]
OutputOption = Annotated[
    Path, typer.Option("-o", "--output", metavar="FILE", help="Where to write (.nii.gz or .nii).")
]


@edge
def mask_info(
    mask: MaskArgument,
    labels: LabelsOption = "auto",
    unknown: UnknownOption = UnknownIds.error,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Say what a mask is: its scheme, its grid, its structures.

    Example: synthct mask info seg.nii.gz --labels totalsegmentator
    """
    from synthct.workflows.mask import info

    understood = info(mask, labels=labels, unknown=unknown.value)
    emit(understood.as_dict(), as_json, lambda found: mask_text(found, full=True), quiet=quiet)


@edge
def mask_convert(
    mask: MaskArgument,
    output: OutputOption,
    to: Annotated[
        str, typer.Option("--to", metavar="SCHEME", help="The scheme to write.")
    ] = "maisi",
    labels: LabelsOption = "auto",
    unknown: UnknownOption = UnknownIds.error,
    body: BodyOption = BodyChoice.auto,
    body_mask: BodyMaskOption = None,
    ct: CtOption = None,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Write a mask in the labels of another scheme.

    Example: synthct mask convert seg.nii.gz --labels totalsegmentator --to maisi -o maisi.nii.gz
    """
    from synthct.workflows.mask import convert

    written = convert(
        mask,
        output,
        to=to,
        labels=labels,
        body=body.value,
        body_mask=body_mask,
        ct=ct,
        unknown=unknown.value,
        overwrite=overwrite,
    )
    _show_written(written, as_json, quiet, verbose)


@edge
def mask_body(
    mask: MaskArgument,
    output: OutputOption,
    labels: LabelsOption = "auto",
    unknown: UnknownOption = UnknownIds.error,
    body_mask: BodyMaskOption = None,
    ct: CtOption = None,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Write the body envelope of a mask alone.

    Example: synthct mask body seg.nii.gz --labels totalsegmentator -o body.nii.gz
    """
    from synthct.workflows.mask import body

    written = body(
        mask,
        output,
        labels=labels,
        body_mask=body_mask,
        ct=ct,
        unknown=unknown.value,
        overwrite=overwrite,
    )
    _show_written(written, as_json, quiet, verbose)


def register(app: typer.Typer) -> None:
    group = typer.Typer(
        help="Understand, convert and make masks.\n\nExample: synthct mask info seg.nii.gz",
        rich_markup_mode=None,
    )
    group.command("info")(mask_info)
    group.command("convert")(mask_convert)
    group.command("body")(mask_body)
    mask_phantom.register(group)
    app.add_typer(group, name="mask")


def mask_text(found: Mapping[str, Any], *, full: bool) -> str:
    """A mask (`UnderstoodMask.as_dict`) in lines; `full` lists its structures."""
    lines = [
        f"scheme       {found['scheme']} ({found['reason']})",
        *grid_lines(found["geometry"]),
        f"regions      {', '.join(found['regions']) or 'none told by the labels'}",
        f"body         {_BODY[found['body']]}",
        *_label_lines(found["labels"]),
        *(f"note         {note}" for note in found["notes"]),
    ]
    if full:
        lines.append(f"structures   {len(found['structures'])}")
        lines += [
            f"  {s['maisi_id']:>4}  {s['name']:<34}{s['ml']:>10.1f} ml" for s in found["structures"]
        ]
    return "\n".join(lines)


def grid_lines(geometry: Mapping[str, Any]) -> list[str]:
    """A grid in two lines: numbers, then the patient axis of each voxel axis."""
    shape = " x ".join(str(n) for n in geometry["shape"])
    spacing = " x ".join(f"{s:g}" for s in geometry["spacing_mm"])
    extent = " x ".join(f"{e:g}" for e in geometry["extent_mm"])
    axes = ", ".join(f"{axis}: {name}" for axis, name in zip("ijk", geometry["axes"], strict=True))
    return [
        f"grid         {shape} voxels of {spacing} mm, {extent} mm in all",
        f"axes         {axes} ({geometry['orientation']})",
    ]


_BODY = {
    "mask": "in the mask",
    "labels": "completed from the labels",
    "body-mask": "from --body-mask",
    "ct": "from --ct",
    "none": "none",
}


def _label_lines(labels: Mapping[str, Any]) -> list[str]:
    lines = [f"labels       {len(labels['mapped'])} known"]
    for merged in labels["merged"]:
        ids = ", ".join(str(label) for label in merged["ids"])
        lines.append(f"merged       {ids} into {merged['maisi_name']} ({merged['maisi_id']})")
    for dropped in labels["dropped"]:
        lines.append(f"dropped      {dropped['id']} {dropped['name']}: becomes body")
    if labels["unknown"]:
        lines.append(f"unknown      {', '.join(str(label) for label in labels['unknown'])}")
    return lines


def _show_written(written: Any, as_json: bool, quiet: bool, verbose: bool) -> None:
    result = written.as_dict()
    if not as_json:
        say(mask_text(result["mask"], full=verbose), quiet=quiet)
        for lost in result["lost"]:
            say(f"lost         {lost['name']}: {result['to']} has no such label", quiet=quiet)
    emit(result, as_json, lambda found: str(found["output"]), quiet=quiet)
