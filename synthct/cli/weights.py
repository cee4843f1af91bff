"""`synthct weights`: list, show, verify, where."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from synthct.cli.console import JsonOption, QuietOption, VerboseOption, edge, emit

weights = typer.Typer(
    name="weights",
    help="Which models there are, and where their weights lie.\n\nExample: synthct weights list",
    no_args_is_help=True,
)

FolderOption = Annotated[
    Path | None,
    typer.Option("--weights", metavar="DIR", help="Folder of weights to use instead."),
]
ModelArgument = Annotated[str, typer.Argument(metavar="MODEL", help="Name in the catalogue.")]
_DEFAULT_MODEL = "maisi-mini-ct"


def register(app: typer.Typer) -> None:
    app.add_typer(weights)


@weights.command("list", help="Every model of the catalogue.\n\nExample: synthct weights list")
@edge
def list_command(
    as_json: JsonOption = False, quiet: QuietOption = False, verbose: VerboseOption = False
) -> None:
    from synthct.workflows.weights import list_models

    emit(list_models(), as_json, _render_list, quiet=quiet)


@weights.command(
    "show", help="All that is known of one model.\n\nExample: synthct weights show maisi-mini-ct"
)
@edge
def show_command(
    model: ModelArgument = _DEFAULT_MODEL,
    folder: FolderOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    from synthct.workflows.weights import show

    emit(show(model, folder), as_json, _render_show, quiet=quiet)


@weights.command(
    "verify",
    help="Hold the files against their checksums.\n\nExample: synthct weights verify",
)
@edge
def verify_command(
    models: Annotated[
        list[str] | None,
        typer.Argument(metavar="[MODEL]...", help="Default: every model that is here."),
    ] = None,
    folder: FolderOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    from synthct.workflows.weights import verify

    emit(verify(models or (), folder), as_json, _render_verify, quiet=quiet)


@weights.command(
    "where", help="The folder of a model's files.\n\nExample: synthct weights where maisi-mini-ct"
)
@edge
def where_command(
    model: Annotated[
        str | None, typer.Argument(metavar="[MODEL]", help="Default: every model.")
    ] = None,
    folder: FolderOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    from synthct.workflows.weights import where

    render = _render_where if model is None else _render_folder
    emit(where(model, folder), as_json, render, quiet=quiet)


def _render_list(result: Mapping[str, Any]) -> str:
    lines = []
    for model in result["models"]:
        default = " (default)" if model["name"] == result["default"] else ""
        here = "here" if model["present"] else "not here"
        lines += [
            f"{model['name']}{default}: {model['title']}",
            f"  {model['modality']}, {model['body_part']}; {model['source']}, {here}; "
            f"licence {model['licence']}",
        ]
    return "\n".join(lines)


def _render_show(result: Mapping[str, Any]) -> str:
    conditions = [name.replace("_", " ") for name, known in result["conditions"].items() if known]
    rows = {
        "task": f"{result['task']}, {result['modality']}, {result['body_part']}",
        "source": f"{result['source']} ({'here' if result['present'] else 'not here'})",
        "folder": result["folder"],
        "files": ", ".join(name for name in result["files"].values() if name),
        "licence": result["licence"] + (", non-commercial" if result["noncommercial"] else ""),
        "spacing": _per_axis(result["spacing_range_mm"], "mm"),
        "shape": _bounds(result["shape_min"], result["shape_max"], "voxels")
        + f", multiples of {result['grid_multiple']}",
        "field of view": _bounds(result["fov_min_mm"], result["fov_max_mm"], "mm"),
        "sampler": f"{result['sampler']}, {result['default_steps']} steps, "
        f"guidance {result['default_guidance']:g}",
        "conditions": ", ".join(conditions) or "none",
        "regions": ", ".join(result["regions"]) or "none",
        "card": result["card"] or "none",
    }
    lines = [f"{label + ':':<15}{text}" for label, text in rows.items()]
    return "\n".join([f"{result['name']}: {result['title']}", *lines])


def _render_verify(result: Mapping[str, Any]) -> str:
    notes = {"ok": "as recorded", "unlisted": "readable; no checksum is recorded"}
    lines = []
    for name, checks in result["models"].items():
        lines.append(name)
        for check in checks:
            size = f"{check['size_bytes'] / 2**20:.1f} MiB"
            lines.append(f"  {Path(check['path']).name} ({size}): {notes[check['status']]}")
    return "\n".join(lines)


def _render_folder(result: Mapping[str, Any]) -> str:
    return "\n".join(result["models"].values())


def _render_where(result: Mapping[str, Any]) -> str:
    lines = [f"{name}: {folder}" for name, folder in result["models"].items()]
    return "\n".join([*lines, f"cache: {result['cache']}"])


def _per_axis(ranges: list[list[float]], unit: str) -> str:
    return " x ".join(f"{low:g}-{high:g}" for low, high in ranges) + f" {unit} (R, A, S)"


def _bounds(low: list[float], high: list[float], unit: str) -> str:
    least, most = (" x ".join(f"{v:g}" for v in values) for values in (low, high))
    return f"{least} to {most} {unit}"
