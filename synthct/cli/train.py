"""`synthct train`: from prepared scans to weights."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from synthct.cli.console import JsonOption, QuietOption, VerboseOption, edge, emit
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
        str, typer.Option("--recipe", metavar="NAME", help="mini (embedded default) or tiny.")
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
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Train one stage of MAISI on prepared scans.

    Example: synthct train maisi-vae --data data/ -o run/ --recipe mini

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
            progress=progress,
        )
    emit(
        trained.as_dict(),
        as_json,
        lambda found: "\n".join(found["files"].values()),
        quiet=quiet,
    )


def register(app: typer.Typer) -> None:
    app.command("train")(train)


def _settings(pairs: list[str]) -> dict[str, str]:
    wrong = [pair for pair in pairs if "=" not in pair]
    if wrong:
        raise UsageError(f"--set {wrong[0]}: KEY=VALUE expected")
    return dict(pair.split("=", 1) for pair in pairs)
