"""`synthct mask phantom`: a label map from parametric shapes."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from synthct.cli.console import JsonOption, QuietOption, VerboseOption, edge, emit
from synthct.cli.words import OverwriteOption


class PhantomRegion(str, Enum):
    """What a phantom can show."""

    head = "head"
    chest = "chest"
    abdomen = "abdomen"
    chest_abdomen = "chest-abdomen"
    abdomen_pelvis = "abdomen-pelvis"
    trunk = "chest-abdomen-pelvis"
    pelvis = "pelvis"


@edge
def mask_phantom(
    output: Annotated[
        Path,
        typer.Option("-o", "--output", metavar="FILE", help="Where to write (.nii.gz or .nii)."),
    ],
    region: Annotated[
        PhantomRegion, typer.Option("--region", help="The part of the body.")
    ] = PhantomRegion.chest_abdomen,
    spacing: Annotated[
        tuple[float, float, float],
        typer.Option("--spacing", metavar="I J K", help="Voxel size in mm."),
    ] = (3.0, 3.0, 3.0),
    seed: Annotated[int, typer.Option("--seed", min=0, help="Another seed, another person.")] = 0,
    lesions: Annotated[
        bool, typer.Option("--lesions", help="Add nodules, tumours, cysts, hepatic vessels.")
    ] = False,
    size: Annotated[
        tuple[int, int, int] | None,
        typer.Option("--size", metavar="I J K", help="Voxels; default: what the region needs."),
    ] = None,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Make a label map of a person who does not exist (MAISI ids, body included).

    Example: synthct mask phantom -o seg.nii.gz --region chest-abdomen --spacing 3 3 3 --seed 7
    """
    from synthct.workflows.phantom import write_phantom

    written = write_phantom(
        output,
        region=region.value,
        spacing_mm=spacing,
        seed=seed,
        lesions=lesions,
        size=size,
        overwrite=overwrite,
    )
    emit(written.as_dict(), as_json, lambda made: phantom_text(made, full=verbose), quiet=quiet)


def phantom_text(made: Mapping[str, Any], *, full: bool) -> str:
    """A phantom in lines; `full` lists its structures with their volumes."""
    shape = " x ".join(str(n) for n in made["shape"])
    spacing = " x ".join(f"{s:g}" for s in made["spacing_mm"])
    found: Mapping[str, float] = made["structures"]
    lines = [f"{len(found)} structures, {shape} voxels of {spacing} mm: {made['output']}"]
    if full:
        lines += [f"  {name:<36}{ml:>10.1f} ml" for name, ml in found.items()]
    return "\n".join(lines)


def register(mask_app: typer.Typer) -> None:
    mask_app.command("phantom")(mask_phantom)
