"""`synthct generate`: a mask → a synthetic scan, its label, QC, preview and record."""

from __future__ import annotations

import sys
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from synthct.cli.case_options import CaseOptions, takes_case_options
from synthct.cli.console import JsonOption, QuietOption, VerboseOption, edge, emit
from synthct.cli.words import OverwriteOption
from synthct.errors import UsageError


class SamplerChoice(str, Enum):
    rflow = "rflow"
    ancestral = "ancestral"
    heun = "heun"
    midpoint = "midpoint"
    adams = "adams"
    ddpm = "ddpm"
    ddim = "ddim"
    dpm = "dpm++"


class TimeSteps(str, Enum):
    exact = "exact"
    reference = "reference"


class LabelOutChoice(str, Enum):
    model = "model"
    input = "input"


@edge
@takes_case_options
def generate(
    case: CaseOptions,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Folder for the results.")
    ] = Path("out"),
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the first sample.")] = 0,
    samples: Annotated[
        int, typer.Option("--samples", min=1, help="How many; seeds seed, seed+1, …")
    ] = 1,
    retries: Annotated[
        int, typer.Option("--retries", min=0, help="Further tries for a case that fails QC.")
    ] = 2,
    label_out: Annotated[
        LabelOutChoice,
        typer.Option("--label-out", help="Ids of the label file: MAISI's, or those that came in."),
    ] = LabelOutChoice.model,
    steps: Annotated[
        int | None, typer.Option("--steps", min=1, help="Sampling steps; default: the model's.")
    ] = None,
    sampler: Annotated[
        SamplerChoice | None,
        typer.Option(
            "--sampler",
            help="Default: the model's. For rectified flow: rflow, ancestral (noise drawn anew), "
            "and in fewer steps heun, midpoint (two predictions a step) and adams (one); for DDPM: "
            "ddpm, and in fewer steps ddim and dpm++.",
        ),
    ] = None,
    time_steps: Annotated[
        TimeSteps,
        typer.Option("--time-steps", help="Exact, or truncated as in the reference (parity)."),
    ] = TimeSteps.exact,
    compile_network: Annotated[
        bool, typer.Option("--compile", help="Let torch.compile fuse the network (minutes, once).")
    ] = False,
    norms: Annotated[
        Path | None, typer.Option("--norms", metavar="FILE", help="QC ranges from `qc fit`.")
    ] = None,
    overwrite: OverwriteOption = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Do only what an earlier run left undone.")
    ] = False,
    demo: Annotated[
        bool, typer.Option("--demo", help="Use a phantom made on the spot as the mask.")
    ] = False,
    anatomy: Annotated[
        list[str] | None,
        typer.Option(
            "--anatomy",
            metavar="WORD...",
            help="Without --mask: structures that a generated or chosen mask has to show.",
        ),
    ] = None,
    organ_size: Annotated[
        list[str] | None,
        typer.Option(
            "--organ-size", metavar="NAME=SIZE...", help="Of the generated mask, 0 to 1; -1: none."
        ),
    ] = None,
    mask_dir: Annotated[
        Path | None,
        typer.Option(
            "--mask-dir",
            metavar="DIR",
            help="Choose masks from this folder (or the published zip), by --anatomy, --region "
            "and --spacing.",
        ),
    ] = None,
    mask_weights: Annotated[
        Path | None,
        typer.Option("--mask-weights", metavar="DIR", help="The mask generator's weights."),
    ] = None,
    mask_steps: Annotated[
        int | None,
        typer.Option(
            "--mask-steps",
            min=1,
            help="Of the mask generator; fewer than its own are walked by dpm++.",
        ),
    ] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> int:
    """Make a synthetic CT that follows a mask.

    Example: synthct generate --mask seg.nii.gz --spacing 1.5 1.5 2 -o out/

    Exit code 0: done, and QC passed. 4: QC failed (the best try is in out/rejected/).
    """
    from synthct.cli.generate_text import report_text
    from synthct.workflows.generate import generate as run
    from synthct.workflows.generate import unsuccessful
    from synthct.workflows.progress import progress_on_stderr

    words: dict[str, Any] = {
        **case.words(),
        "output": output,
        "seed": seed,
        "samples": samples,
        "retries": retries,
        "steps": steps,
        "sampler": None if sampler is None else sampler.value,
        "time_steps": time_steps.value,
        "compile": compile_network,
        "label_out": label_out.value,
        "norms": norms,
        "overwrite": overwrite,
        "resume": resume,
    }
    wished = bool(anatomy or organ_size or mask_dir or mask_weights)
    if wished and (demo or case.mask is not None):
        raise UsageError(
            "--anatomy, --organ-size, --mask-dir and --mask-weights find a mask: "
            "--mask and --demo bring one",
            "give one of them",
        )
    with progress_on_stderr(quiet) as progress:
        if wished:
            from synthct.workflows.wishes import Wish, generate_wished

            wish = Wish(
                tuple(anatomy or ()), tuple(organ_size or ()), mask_dir, mask_weights, mask_steps
            )
            report = generate_wished(wish, progress=progress, **words)
        elif demo:
            from synthct.workflows.demo import generate_demo

            report = generate_demo(progress=progress, **words)
        else:
            report = run(case.mask, progress=progress, **words)
    found = report.as_dict()
    error = unsuccessful(report)
    if error is not None:
        found["error"] = error.as_dict()
        print(f"error: {error.message}\nhint: {error.hint}", file=sys.stderr)
    emit(
        found,
        as_json,
        lambda result: report_text(result, output, verbose),
        quiet=quiet and error is None,
    )
    return report.exit_code


def register(app: typer.Typer) -> None:
    app.command("generate")(generate)
