"""`synthct selftest decode`: proof on the spot."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Annotated, Any

import typer

from synthct.cli.console import JsonOption, QuietOption, VerboseOption, edge, emit
from synthct.cli.words import DevicesOption

_FAILED = 1

app = typer.Typer(name="selftest", no_args_is_help=True)


class DtypeChoice(str, Enum):
    """Numbers that feature maps are held in."""

    float32 = "float32"
    bfloat16 = "bfloat16"


def register(root: typer.Typer) -> None:
    root.add_typer(app)


@app.callback()
def selftest() -> None:
    """Prove on this machine what can be proven on the spot.

    Example: synthct selftest decode
    """


@app.command("decode")
@edge
def decode(
    device: DevicesOption = "auto",
    dtype: Annotated[
        DtypeChoice, typer.Option("--dtype", help="Hold maps in this while tiling.")
    ] = DtypeChoice.float32,
    halo: Annotated[int | None, typer.Option("--halo", hidden=True)] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> int:
    """Decode slab by slab and at once, and compare: tiled equals whole.

    Example: synthct selftest decode --device cpu

    Sizes that do not divide, slabs one plane thick, every axis, and the smallest plan are among the
    cases. Exit code 1 when one of them is further off than rounding explains. --json: device,
    dtype, passed, cases [network, part, shape, slabs, axis, dtype, error, allowed, passed].
    """
    from synthct.workflows.progress import progress_on_stderr
    from synthct.workflows.selftest import selftest_decode

    with progress_on_stderr(quiet) as progress:
        result = selftest_decode(device, dtype.value, progress=progress, halo_limit=halo)
    emit(result.as_dict(), as_json, _table, quiet=quiet)
    return 0 if result.passed else _FAILED


def _table(result: Mapping[str, Any]) -> str:
    lines = [
        f"{'network':<17}{'part':<9}{'shape':>10}  {'slabs':>8} {'axis':>4}  {'error':>8}  verdict"
    ]
    for case in result["cases"]:
        shape = "x".join(map(str, case["shape"]))
        slabs = "smallest" if case["slabs"] is None else case["slabs"]
        verdict = "pass" if case["passed"] else f"FAIL (over {case['allowed']:.1e})"
        lines.append(
            f"{case['network']:<17}{case['part']:<9}{shape:>10}  {slabs:>8} {case['axis']:>4}  "
            f"{case['error']:>8.1e}  {verdict}"
        )
    verdict = "tiled equals whole" if result["passed"] else "tiled does NOT equal whole"
    return "\n".join([*lines, f"{result['device']}, {result['dtype']}: {verdict}"])
