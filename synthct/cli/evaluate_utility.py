"""`synthct evaluate utility`: is synthetic data of use for training?"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from synthct.cli.console import JsonOption, QuietOption, VerboseOption, edge, emit, say
from synthct.cli.roles import RealLabelsOption, SynthLabelsOption, by_role
from synthct.cli.words import DeviceOption, LabelsOption, OverwriteOption

_RATIOS = [0.5, 1.0, 1.5]


def register(group: typer.Typer) -> None:
    """The command of the group `evaluate`."""
    group.command("utility")(utility)


@edge
def utility(
    real: Annotated[Path, typer.Argument(metavar="REAL_DIR", help="Real volumes with labels.")],
    synthetic: Annotated[
        Path, typer.Argument(metavar="SYNTH_DIR", help="Synthetic volumes with labels.")
    ],
    organs: Annotated[
        str, typer.Option("--organs", metavar="A,B", help="What is segmented, MAISI's names.")
    ],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="DIR", help="utility.json, .csv and .png."),
    ] = None,
    ratio: Annotated[
        list[float] | None,
        typer.Option("--ratio", metavar="R", help="Synthetic per real case; repeatable."),
    ] = None,
    folds: Annotated[int, typer.Option("--folds", metavar="K", min=2, help="By subject.")] = 5,
    subjects: Annotated[
        Path | None,
        typer.Option("--subjects", metavar="FILE", help="Lines of case, tab, subject."),
    ] = None,
    spacing: Annotated[
        float, typer.Option("--spacing", metavar="MM", min=0.5, max=20, help="Grid of the study.")
    ] = 3.0,
    steps: Annotated[
        int, typer.Option("--steps", metavar="N", min=1, help="Of the small network's training.")
    ] = 300,
    patch: Annotated[
        int, typer.Option("--patch", metavar="N", min=32, help="Its crops, a multiple of 16.")
    ] = 48,
    trainer: Annotated[
        str | None,
        typer.Option(
            "--trainer",
            metavar="COMMAND",
            help="Instead of the small network: a command with {train}, {test}, {out}, {seed}.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", metavar="N", min=0)] = 0,
    labels: LabelsOption = "auto",
    real_labels: RealLabelsOption = None,
    synth_labels: SynthLabelsOption = None,
    device: DeviceOption = "auto",
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Train on real, on synthetic, on both; test on held-out real cases; compare by Wilcoxon.

    \b
    Examples:
      synthct evaluate utility real/ out/ --organs liver,spleen -o utility/
      synthct evaluate utility real/ out/ --organs liver --trainer 'nnunet.sh {train} {test} {out}'

    The small network (BasicUNet) compares arms with one another, not with the literature. A trainer
    finds train/images, train/labels and test/images, and writes out/NAME.nii.gz.
    """
    from synthct.evaluation.utility_network import NetworkSettings
    from synthct.models.load import pick_device
    from synthct.workflows.evaluate_utility import evaluate_utility
    from synthct.workflows.progress import progress_on_stderr

    with progress_on_stderr(quiet or as_json) as progress:
        report = evaluate_utility(
            real,
            synthetic,
            organs=[name.strip() for name in organs.split(",") if name.strip()],
            ratios=ratio or _RATIOS,
            folds=folds,
            seed=seed,
            spacing_mm=spacing,
            network=NetworkSettings(steps=steps, patch=patch, device=str(pick_device(device))),
            trainer=trainer,
            subjects=subjects,
            labels=by_role(labels, real_labels, synth_labels),
            output=output,
            overwrite=overwrite,
            progress=progress,
        )
    emit(report.as_dict(), as_json, _render, quiet=quiet)
    for line in report.warnings:
        say(line, quiet=quiet)


def _render(document: Mapping[str, Any]) -> str:
    lines = [f"{'arm':<12} {'n':>3} {'Dice':>6} {'to real':>8} {'p':>8}"]
    for row in document["arms"]:
        p = "" if row["p"] is None else f"{row['p']:.3g}"
        mean, gap = (_shown(row[key]) for key in ("mean", "difference"))
        lines.append(f"{row['arm']:<12} {row['pairs']:>3} {mean:>6} {gap:>8} {p:>8}")
    return "\n".join(lines)


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
