"""`synthct plan --size 512 512 768 --max-memory 16G`: what a size would take."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Annotated, Any

import typer

from synthct.cli.console import JsonOption, QuietOption, VerboseOption, edge, emit
from synthct.cli.words import DevicesOption, MaxMemoryOption, ModelOption


class StageChoice(str, Enum):
    """The part of a run that is planned."""

    all = "all"
    sample = "sample"
    decode = "decode"


class DtypeChoice(str, Enum):
    """Numbers that feature maps are held in."""

    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"


@edge
def plan(
    size: Annotated[
        tuple[int, int, int],
        typer.Option("--size", metavar="I J K", help="Voxels of the network's grid."),
    ],
    model: ModelOption = "maisi-mini-ct",
    max_memory: MaxMemoryOption = None,
    stage: Annotated[
        StageChoice, typer.Option("--stage", help="The whole run, or a part of it.")
    ] = StageChoice.all,
    device: DevicesOption = "auto",
    dtype: Annotated[
        DtypeChoice,
        typer.Option("--dtype", help="Hold maps in this; auto: bfloat16 where fast or needed."),
    ] = DtypeChoice.auto,
    steps: Annotated[
        int | None, typer.Option("--steps", metavar="N", help="Default: the model's.")
    ] = None,
    guidance: Annotated[
        float | None,
        typer.Option("--guidance", metavar="S", help="Of what the model guides; 0 and 1: none."),
    ] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Plan memory and work for a size, stage by stage; no weights are needed.

    Example: synthct plan --model maisi-ct-rflow --size 512 512 768 --max-memory 16G

    Exit code 5 when the budget is too small; with --json, error.minimum is the smallest that works,
    in bytes. --json: model, size, fed (voxels with padding), latent, steps, memory {device,
    devices, allowed_bytes, resident_bytes, peak_bytes, minimum_bytes, work_macs, streamed, choice,
    stages [name, precision, peak_bytes, minimum_bytes, work_macs, choice, schedule]}, time
    {seconds, macs_per_second, rate (measured or assumed), stages}.
    """
    from synthct.workflows.plan import plan as run
    from synthct.workflows.request import memory_bytes

    report = run(
        size=size,
        model=model,
        max_memory_bytes=None if max_memory is None else memory_bytes(max_memory),
        stage=stage.value,
        device=device,
        dtype=dtype.value,
        steps=steps,
        guidance=guidance,
    )
    emit(report.as_dict(), as_json, _text, quiet=quiet)


def register(app: typer.Typer) -> None:
    app.command("plan")(plan)


def _text(found: Mapping[str, Any]) -> str:
    memory = found["memory"]
    lines = [
        f"model        {found['model']}, {found['steps']} steps on {_device(memory)}",
        f"voxels       {_triple(found['fed'])}, latent {_triple(found['latent'])}",
    ]
    for stage in memory["stages"]:
        work = f", {stage['work_macs'] / 1e12:.1f} T multiply-adds" if stage["work_macs"] else ""
        lines += [
            f"{stage['name'].upper()}",
            f"  peak {stage['peak_bytes'] / 2**30:.2f} GiB in {stage['precision']}{work}; "
            f"at least {stage['minimum_bytes'] / 2**30:.2f} GiB",
            *(f"  {line}" for line in stage["schedule"]),
        ]
    lines += [
        f"peak         {memory['peak_bytes'] / 2**30:.2f} GiB, of which "
        f"{memory['resident_bytes'] / 2**30:.2f} GiB stay throughout",
        f"smallest     {memory['minimum_bytes'] / 2**30:.2f} GiB",
        f"chosen       {memory['choice']}",
        f"time         {_time(found['time'])}",
    ]
    return "\n".join(lines)


def _device(memory: Mapping[str, Any]) -> str:
    kind, count = memory["device"], memory["devices"]
    return kind if count == 1 else f"{kind}, decoding on {count}; bytes are those of each"


def _time(found: Mapping[str, Any]) -> str:
    """Said to be an estimate, and from what."""
    from synthct.workflows.estimate import duration

    rate, amount = found["macs_per_second"], duration(found["seconds"])
    parts = ", ".join(f"{name} {share:.1f} s" for name, share in found["stages"].items() if share)
    source = "of a matrix product here and now" if found["rate"] == "measured" else "assumed"
    return (
        f"from {amount} up, an estimate: multiply-adds alone, at {rate / 1e9:.0f} G a second "
        f"({source}); {parts}"
    )


def _triple(voxels: list[int]) -> str:
    return " x ".join(str(n) for n in voxels)
