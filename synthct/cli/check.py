"""`synthct check --mask seg.nii.gz`: the dry run of `generate`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import typer

from synthct.cli.console import JsonOption, QuietOption, VerboseOption, edge, emit
from synthct.cli.mask import grid_lines, mask_text
from synthct.cli.words import (
    BodyChoice,
    BodyMaskOption,
    BodyOption,
    CtOption,
    DeviceOption,
    ForceOption,
    GridChoice,
    GridOption,
    LabelsOption,
    MaskOption,
    MaxMemoryOption,
    ModelOption,
    RegionOption,
    SizeOption,
    SpacingOption,
    UnknownIds,
    UnknownOption,
    WeightsOption,
)


@edge
def check(
    mask: MaskOption = None,
    spacing: SpacingOption = None,
    grid: GridOption = GridChoice.asked,
    region: RegionOption = None,
    size: SizeOption = None,
    labels: LabelsOption = "auto",
    unknown: UnknownOption = UnknownIds.error,
    body: BodyOption = BodyChoice.auto,
    body_mask: BodyMaskOption = None,
    ct: CtOption = None,
    model: ModelOption = "maisi-mini-ct",
    weights: WeightsOption = None,
    device: DeviceOption = "auto",
    max_memory: MaxMemoryOption = None,
    force: ForceOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Say what `generate` would do; no network is loaded.

    Example: synthct check --mask seg.nii.gz --spacing 1.5 1.5 2

    The exit code is the one that `generate` would end with before it samples: 3 for a mask or a
    grid that it refuses, 5 for too little memory, 6 for weights.
    """
    from synthct.workflows.check import check as run
    from synthct.workflows.request import memory_bytes

    report = run(
        mask,
        spacing_mm=spacing,
        grid=grid.value,
        region=tuple(name.value for name in region or ()),
        size=size,
        labels=labels,
        unknown=unknown.value,
        body=body.value,
        body_mask=body_mask,
        ct=ct,
        model=model,
        weights=weights,
        device=device,
        max_memory_bytes=None if max_memory is None else memory_bytes(max_memory),
        force=force,
    )
    emit(report.as_dict(), as_json, lambda found: _text(found, verbose), quiet=quiet)


def register(app: typer.Typer) -> None:
    app.command("check")(check)


def _text(found: Mapping[str, Any], verbose: bool) -> str:
    model, grid, memory = found["model"], found["grid"], found["memory"]
    parts = ["MASK", mask_text(found["mask"], full=verbose)] if found["mask"] else []
    parts += ["ASKED FOR", *grid_lines(grid["asked"])]
    parts += ["THE NETWORK'S OWN GRID", *grid_lines(grid["inner"])]
    parts += [f"note         {note}" for note in grid["notes"]]
    parts += [
        "MODEL",
        f"name         {model['name']} ({model['licence']}), {model['steps']} steps",
        f"regions      {', '.join(found['regions']) or 'none'}",
        f"view         {_triple(model['fov_min_mm'])} to {_triple(model['fov_max_mm'])} mm (RAS)",
        f"spacing      {_spacings(model['spacing_range_mm'])} mm (RAS)",
        f"weights      {found['weights']['folder']}",
        f"memory       about {memory['peak_bytes'] / 2**30:.1f} GiB (estimate)",
    ]
    return "\n".join(parts)


def _triple(millimetres: list[float]) -> str:
    return " x ".join(f"{mm:g}" for mm in millimetres)


def _spacings(ranges: list[list[float]]) -> str:
    return " x ".join(f"{low:g}-{high:g}" for low, high in ranges)
