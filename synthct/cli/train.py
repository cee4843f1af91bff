"""`synthct train`: from prepared scans to weights."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from synthct.cli.console import (
    DONE,
    INTERRUPTED,
    JsonOption,
    QuietOption,
    VerboseOption,
    edge,
    emit,
)
from synthct.cli.words import DeviceOption
from synthct.errors import UsageError


class TaskName(str, Enum):
    """The three stages of MAISI, in their order."""

    vae = "maisi-vae"
    diffusion = "maisi-diffusion"
    controlnet = "maisi-controlnet"


@edge
def train(
    task: Annotated[TaskName, typer.Argument(help="Stage to train.")],
    data: Annotated[
        Path, typer.Option("--data", metavar="DIR", help="What `synthct prepare` made.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Checkpoints and weights.")
    ],
    recipe: Annotated[
        str,
        typer.Option(
            "--recipe",
            metavar="NAME",
            help="small, mini-mr, medium, published, or another of docs/training.md.",
        ),
    ] = "mini",
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a setting of the recipe."),
    ] = None,
    start: Annotated[
        Path | None,
        typer.Option("--from", metavar="DIR", help="Weights of the stages before; default: -o."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the checkpoint in the output folder.")
    ] = False,
    as_json: JsonOption = False,
    device: DeviceOption = "auto",
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> int:
    """Train one stage of MAISI on prepared scans.

    Example: synthct train maisi-vae --data data/ -o run/ --recipe mini

    Several processes: torchrun --nproc-per-node 2 -m synthct train … (gradients are averaged).

    The stages follow one another: maisi-vae, maisi-diffusion, maisi-controlnet; with the same -o
    each finds the weights of the one before. `generate --weights run/` uses them.
    """
    from synthct.workflows.progress import progress_on_stderr
    from synthct.workflows.train import train as run

    with progress_on_stderr(quiet) as progress:
        trained = run(
            task.value,
            data_folder=data,
            output=output,
            recipe_name=recipe,
            settings=_settings(settings or []),
            start=start,
            resume=resume,
            device=device,
            progress=progress,
        )
    if trained.leads:  # one document, however many processes there are
        emit(trained.as_dict(), as_json, _text, quiet=quiet)
    return INTERRUPTED if trained.stopped else DONE


def _text(found: Mapping[str, Any]) -> str:
    if found["stopped"]:
        return f"stopped at step {found['steps']}, saved; --resume goes on from there"
    return "\n".join(found["files"].values())


def register(app: typer.Typer) -> None:
    app.command("train")(train)


def _settings(pairs: list[str]) -> dict[str, str]:
    wrong = [pair for pair in pairs if "=" not in pair]
    if wrong:
        raise UsageError(f"--set {wrong[0]}: KEY=VALUE expected")
    return dict(pair.split("=", 1) for pair in pairs)
