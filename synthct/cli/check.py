"""`synthct check --mask seg.nii.gz`: the dry run of `generate`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import typer

from synthct.cli.case_options import CaseOptions, takes_case_options
from synthct.cli.console import JsonOption, QuietOption, VerboseOption, edge, emit
from synthct.cli.mask import grid_lines, mask_text


@edge
@takes_case_options
def check(
    case: CaseOptions,
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

    report = run(case.mask, **case.words())
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
        f"memory       {memory['choice']}",
    ]
    return "\n".join(parts)


def _triple(millimetres: list[float]) -> str:
    return " x ".join(f"{mm:g}" for mm in millimetres)


def _spacings(ranges: list[list[float]]) -> str:
    return " x ".join(f"{low:g}-{high:g}" for low, high in ranges)
