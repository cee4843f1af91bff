"""The command `synthct`: parse, call one workflow, print."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

import synthct
from synthct.cli import (
    check,
    console,
    evaluate,
    generate,
    inspect,
    mask,
    plan,
    prepare,
    qc,
    reconstruction,
    selftest,
    train,
    weights,
)
from synthct.cli.arguments import spread_lists

app = typer.Typer(
    name="synthct",
    help="Synthetic CT from a segmentation mask.\n\n"
    "Example: synthct generate --mask seg.nii.gz --spacing 1.5 1.5 2 -o out/",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_COMMANDS = (generate, check, plan, qc, mask, weights, inspect, prepare, train, reconstruction)
for _command in (*_COMMANDS, evaluate, selftest):
    _command.register(app)


def _print_version(asked: bool) -> None:
    if asked:
        print(f"synthct {synthct.__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    pass


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code (INTERFACE: exit codes and streams)."""
    args = list(sys.argv[1:] if argv is None else argv)
    try:
        result = typer.main.get_command(app).main(
            args=spread_lists(args), prog_name="synthct", standalone_mode=False
        )
    except Exception as error:
        return console.report(
            error, as_json="--json" in args, verbose="-v" in args or "--verbose" in args
        )
    except KeyboardInterrupt as error:
        return console.report(error, as_json="--json" in args)
    return result if isinstance(result, int) else console.DONE
