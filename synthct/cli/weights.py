"""`synthct weights`: list, show, where. What fetches or reads files: `weights_files.py`."""

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
    from synthct.cli import weights_files  # noqa: F401  (its commands join the group)

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
            f"{model['steps']} steps, guidance {_guidance(model)}; licence {model['licence']}"
            + (", non-commercial" if model["noncommercial"] else ""),
        ]
    return "\n".join(lines)


def _guidance(model: Mapping[str, Any]) -> str:
    scale = model["guidance"]
    return f"{scale:g} of the {model['guides']}" if scale else "none"


def _render_show(result: Mapping[str, Any]) -> str:
    conditions = [name.replace("_", " ") for name, known in result["conditions"].items() if known]
    rows = {
        "task": f"{result['task']}, {result['modality']}, {result['body_part']}",
        "source": f"{result['source']} ({'here' if result['present'] else 'not here'})",
        "revision": _revisions(result),
        "folder": result["folder"],
        "files": ", ".join(_file_names(result)),
        "licence": result["licence"] + (", non-commercial" if result["noncommercial"] else ""),
        "spacing": _per_axis(result["spacing_range_mm"], "mm"),
        "shape": _shape(result),
        "field of view": _bounds(result["fov_min_mm"], result["fov_max_mm"], "mm"),
        "sampler": f"{result['sampler']}, {result['default_steps']} steps, "
        f"guidance {result['default_guidance']:g} (on {result['guides']})",
        "conditions": ", ".join(conditions) or "none",
        "regions": ", ".join(result["regions"]) or "none",
        "contrasts": _codes(result["contrasts"]),
        "skull-stripped": _codes(result["skull_stripped"]),
        "card": result["card"] or "none",
    }
    lines = [f"{label + ':':<16}{text}" for label, text in rows.items()]
    table = [f"  {_view(row)}" for row in result["fields_of_view"]]
    views = ["published fields of view:", *table] if table else []
    return "\n".join([f"{result['name']}: {result['title']}", *lines, *views])


def _revisions(result: Mapping[str, Any]) -> str:
    if not result["hub"]:
        return "none"
    pinned = [f"{repo} at {commit[:12]}" for repo, commit in result["revisions"].items()]
    return ", ".join(pinned) or "none recorded yet: the first pull pins one"


def _file_names(result: Mapping[str, Any]) -> list[str]:
    published = [f"{file['repo']}/{file['path']}" for file in result["hub"].values()]
    return published or [name for name in result["files"].values() if name]


def _shape(result: Mapping[str, Any]) -> str:
    sizes = result["sizes"]
    if sizes is None:
        bounds = _bounds(result["shape_min"], result["shape_max"], "voxels")
        return f"{bounds}, multiples of {result['grid_multiple']}"
    sides, slices = (", ".join(str(n) for n in sizes[axis]) for axis in ("in_plane", "slices"))
    return f"{{{sides}}} in plane{', square' if sizes['square'] else ''}; {{{slices}}} slices"


def _codes(codes: Mapping[str, int]) -> str:
    return ", ".join(f"{name} ({code})" for name, code in codes.items()) or "none"


def _view(row: Mapping[str, Any]) -> str:
    """One row of the published table in words."""
    words = [row["region"], row["contrast"], row["plane"]]
    text = " ".join(word for word in words if word)
    text += f": {' x '.join(f'{v:g}' for v in row['mm'])} mm"
    if row["size"] and row["spacing_mm"]:
        size = " x ".join(str(n) for n in row["size"])
        text += f" ({size} at {' x '.join(f'{v:g}' for v in row['spacing_mm'])})"
    if row["share_percent"]:
        text += f", {row['share_percent']:g} % of the training"
    if row["images"]:
        text += f", {row['images']} images in training"
    return text if row["guaranteed"] else f"{text}, few scans: not guaranteed"


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
