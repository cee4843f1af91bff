"""`synthct weights` where files are fetched, converted or read: pull, import, verify."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from synthct.cli.console import JsonOption, QuietOption, VerboseOption, edge, emit
from synthct.cli.weights import FolderOption, weights
from synthct.workflows.progress import progress_on_stderr

AcceptOption = Annotated[
    bool,
    typer.Option("--accept-license", help="Accept a non-commercial licence; once is enough."),
]


@weights.command(
    "pull",
    help="Fetch the published weights of a model into the Hugging Face cache.\n\n"
    "Example: synthct weights pull maisi-ct-rflow",
)
@edge
def pull_command(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Name in the catalogue.")],
    accept_license: AcceptOption = False,
    revision: Annotated[
        str | None,
        typer.Option(
            "--revision", metavar="COMMIT", help="Instead of the one recorded at the first pull."
        ),
    ] = None,
    data: Annotated[
        bool, typer.Option("--data", help="Also what is large and optional (candidate masks).")
    ] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    from synthct.workflows.weights_pull import pull

    with progress_on_stderr(quiet) as progress:
        result = pull(
            model,
            accept_license=accept_license,
            revision=revision,
            data=data,
            progress=progress,
        )
    emit(result, as_json, _render_pull, quiet=quiet)


@weights.command(
    "import",
    help="Take over files that you have already, in any published layout, as safetensors.\n\n"
    "Example: synthct weights import NV-Generate-CT/models --as maisi-ct-rflow",
)
@edge
def import_command(
    source: Annotated[
        Path, typer.Argument(metavar="DIR|FILE", help="Folder of published files, or one of them.")
    ],
    name: Annotated[
        str, typer.Option("--as", metavar="NAME", help="What to call it: --model NAME.")
    ],
    model: Annotated[
        str | None,
        typer.Option(
            "--model", metavar="MODEL", help="Which model of the catalogue; told from the files."
        ),
    ] = None,
    accept_license: AcceptOption = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier import of that name.")
    ] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    from synthct.checkpoints.naming import MisfitWeights
    from synthct.workflows.weights_import import import_weights

    try:
        with progress_on_stderr(quiet) as progress:
            result = import_weights(
                source,
                name,
                model=model,
                accept_license=accept_license,
                overwrite=overwrite,
                progress=progress,
            )
    except MisfitWeights as error:
        if verbose:
            _list_mismatches(error.mismatches)
        raise
    emit(result, as_json, _render_import, quiet=quiet)


@weights.command(
    "verify",
    help="Hold the files against their checksums, and every key and shape against the networks."
    "\n\nExample: synthct weights verify",
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
    from synthct.workflows.weights_verify import verify

    emit(verify(models or (), folder), as_json, _render_verify, quiet=quiet)


def _list_mismatches(mismatches: Mapping[str, list[str]]) -> None:
    for what, keys in mismatches.items():
        for key in keys:
            print(f"{what}: {key}", file=sys.stderr)


def _render_pull(result: Mapping[str, Any]) -> str:
    notes = {
        "catalogue": "checksum of the catalogue",
        "hub": "checksum of the hub",
        "first use": "checksum recorded, nobody published one",
    }
    files = {**result["files"], **result["data"]}
    lines = [f"{result['model']} is here ({result['licence']})"]
    lines += [
        f"  {key}: {file['path']} ({file['size_bytes'] / 2**20:.1f} MiB) at {file['revision'][:12]}"
        f", {notes[file['trust']]}"
        for key, file in files.items()
    ]
    return "\n".join(lines)


def _render_import(result: Mapping[str, Any]) -> str:
    lines = [f"{result['name']}: {result['model']}, in {result['folder']}"]
    for role, said in result["files"].items():
        more = [
            f"{said[key]} {words}"
            for key, words in (("renamed", "renamed"), ("copied_from_unet", "from the U-Net"))
            if said[key]
        ]
        if said["unused"]:
            more.append(f"{len(said['unused'])} that no network uses left out")
        detail = ", ".join([f"{said['tensors']} tensors", said["layout"], *more])
        lines.append(f"  {role}: {said['file']} ({detail})")
    if result["missing"]:
        lines.append(f"  still missing: {', '.join(result['missing'])}")
    return "\n".join(lines)


def _render_verify(result: Mapping[str, Any]) -> str:
    notes = {"ok": "as recorded", "unlisted": "readable; no checksum is recorded"}
    lines = []
    for name, checks in result["models"].items():
        lines.append(name)
        for check in checks:
            size = f"{check['size_bytes'] / 2**20:.1f} MiB, {check['tensors']} tensors"
            lines.append(f"  {Path(check['path']).name} ({size}): {notes[check['status']]}")
    return "\n".join(lines)
