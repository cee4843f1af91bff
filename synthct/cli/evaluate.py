"""`synthct evaluate REAL_DIR SYNTH_DIR`, and the group that `reconstruction` belongs to."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from synthct.cli import evaluate_utility, reconstruction
from synthct.cli.console import DONE, JsonOption, QuietOption, VerboseOption, edge, emit, say
from synthct.cli.roles import RealLabelsOption, SynthLabelsOption, by_role
from synthct.cli.words import (
    DeviceOption,
    LabelsOption,
    OverwriteOption,
    UnknownIds,
    UnknownOption,
)

if TYPE_CHECKING:
    from synthct.evaluation.metric import Settings


class ModalityChoice(str, Enum):
    """What the images are."""

    auto = "auto"
    ct = "CT"
    mr = "MR"


def _list(asked: bool) -> None:
    if not asked:
        return
    from synthct.evaluation.registry import METRICS

    width = max(len(metric.name) for metric in METRICS)
    for metric in METRICS:
        unasked = "" if metric.default else " (only when named)"
        print(f"{metric.name:<{width}}  {metric.tells}{unasked}")
    raise typer.Exit


MetricsOption = Annotated[
    str,
    typer.Option(
        "--metrics", metavar="A,B", help="Words of --list, or all; default: those that can run."
    ),
]
OutputOption = Annotated[
    Path | None,
    typer.Option("-o", "--output", metavar="DIR", help="report.json, report.html and cache/."),
]
TrainingOption = Annotated[
    Path | None,
    typer.Option("--training", metavar="DIR", help="What the model was trained on."),
]
FeaturesOption = Annotated[
    str,
    typer.Option(
        "--features",
        metavar="NAME|FILE",
        help="Feature network: mini-slices, or a file: a ResNet-50, TorchScript, ONNX.",
    ),
]
FeatureOption = Annotated[
    list[str] | None,
    typer.Option(
        "--feature-option",
        metavar="KEY=VALUE",
        help="What the network is shown: channels, size, low, high, mean, std, minmax.",
    ),
]
SliceSpacingOption = Annotated[
    float | None,
    typer.Option(
        "--slice-spacing",
        metavar="MM",
        min=0.2,
        max=20,
        help="Grid of the slices; default: the network's (mini-slices 2, others 1).",
    ),
]
SliceShareOption = Annotated[
    float | None,
    typer.Option(
        "--slice-share",
        metavar="SHARE",
        min=0.01,
        max=1.0,
        help="The middle share of the slices of each plane; default 0.4.",
    ),
]
SliceSideOption = Annotated[
    int | None,
    typer.Option(
        "--slice-side",
        metavar="PIXELS",
        min=32,
        max=2048,
        help="Pad and crop to this square; default: the network's (mini-slices 256, others 512).",
    ),
]
PaddedOption = Annotated[
    bool | None,
    typer.Option(
        "--padded/--not-padded",
        help="Take the share of the padded cube, empty slices included, as MAISI's script does "
        "(default: only for networks from a file).",
    ),
]
SegmenterOption = Annotated[
    str | None,
    typer.Option(
        "--segmenter",
        metavar="NAME|PATH",
        help="Re-segments the images: totalsegmentator, monai-bundle, or a path.",
    ),
]
MetricOption = Annotated[
    list[str] | None,
    typer.Option(
        "--option", metavar="METRIC.KEY=VALUE", help="Of one metric, e.g. ms-ssim.side=64."
    ),
]
ResamplesOption = Annotated[
    int | None,
    typer.Option("--resamples", metavar="N", min=0, help="Draws of the bootstrap; 0: none."),
]
BatchOption = Annotated[
    int, typer.Option("--batch", metavar="N", min=1, help="Slices at once through the network.")
]
SeedOption = Annotated[
    int, typer.Option("--seed", metavar="N", min=0, help="Of every random choice.")
]
ModalityOption = Annotated[
    ModalityChoice, typer.Option("--modality", help="auto: by the ends of the files' names.")
]
ListOption = Annotated[
    bool, typer.Option("--list", help="List the metrics.", is_eager=True, callback=_list)
]


PAIR = "folders"
"""The hidden command that runs where the first word is no other command of the group."""


class EvaluateGroup(TyperGroup):
    """A group whose plain use, two folders, needs no word of its own."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ("-h", "--help"):
            args = [PAIR, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    name="evaluate",
    cls=EvaluateGroup,
    help="Measure how good synthetic volumes are: real folder against synthetic folder.\n\n"
    "Example: synthct evaluate real/ out/ -o report/\n\n"
    "`synthct evaluate folders --help` lists the options of that.",
    no_args_is_help=True,
)


def register(root: typer.Typer) -> None:
    reconstruction.add_to(app)
    evaluate_utility.register(app)
    root.add_typer(app)


@app.command(PAIR)
@edge
def folders(
    real: Annotated[Path, typer.Argument(metavar="REAL_DIR", help="Real volumes.")],
    synthetic: Annotated[Path, typer.Argument(metavar="SYNTH_DIR", help="Synthetic volumes.")],
    metrics: MetricsOption = "",
    output: OutputOption = None,
    training: TrainingOption = None,
    features: FeaturesOption = "mini-slices",
    feature_option: FeatureOption = None,
    slice_spacing: SliceSpacingOption = None,
    slice_share: SliceShareOption = None,
    slice_side: SliceSideOption = None,
    padded: PaddedOption = None,
    segmenter: SegmenterOption = None,
    option: MetricOption = None,
    resamples: ResamplesOption = None,
    batch: BatchOption = 16,
    seed: SeedOption = 0,
    modality: ModalityOption = ModalityChoice.auto,
    labels: LabelsOption = "auto",
    real_labels: RealLabelsOption = None,
    synth_labels: SynthLabelsOption = None,
    unknown: UnknownOption = UnknownIds.error,
    device: DeviceOption = "auto",
    list_metrics: ListOption = False,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> int:
    """Real against synthetic: fidelity, diversity, agreement with the mask, copies.

    \b
    Examples:
      synthct evaluate real/ out/ -o report/
      synthct evaluate real/ out/ --metrics fid,kid --features RadImageNet-ResNet50.safetensors
      torchrun --nproc-per-node 4 -m synthct evaluate real/ out/ -o report/

    Volumes are found as `qc` finds them; labels beside them are used where a metric needs them.
    The same command after an interruption goes on with what report/cache holds. Exit code 3 where
    there are fewer cases than a metric that was named needs. A folder called reconstruction:
    ./reconstruction.
    """
    from synthct.workflows.evaluate import evaluate
    from synthct.workflows.progress import progress_on_stderr

    settings = _settings(
        features=features,
        feature_options=_pairs(feature_option, "--feature-option"),
        spacing_mm=slice_spacing,
        share=slice_share,
        side=slice_side,
        padded=padded,
        batch=batch,
        device=device,
        resamples=resamples,
        segmenter=segmenter,
        seed=seed,
        options=_pairs(option, "--option"),
    )
    with progress_on_stderr(quiet or as_json) as progress:
        report = evaluate(
            real,
            synthetic,
            metrics=[word for word in metrics.replace(" ", "").split(",") if word],
            output=output,
            training=training,
            settings=settings,
            modality=modality.value,
            labels=by_role(labels, real_labels, synth_labels),
            unknown=unknown.value,
            overwrite=overwrite,
            progress=progress,
        )
    if report is None:  # another process of the team writes
        return DONE
    emit(report.as_dict(), as_json, _render, quiet=quiet)
    for line in report.warnings:
        say(line, quiet=quiet)
    if output is not None:
        say(f"{output / 'report.html'}", quiet=quiet)
    return DONE


def _settings(device: str, **chosen: Any) -> Settings:
    from synthct.evaluation.metric import Settings
    from synthct.models.load import pick_device

    return Settings(device=str(pick_device(device)), **chosen)


def _pairs(given: list[str] | None, option: str) -> dict[str, str]:
    from synthct.errors import UsageError

    for text in given or ():
        if "=" not in text:
            raise UsageError(f"{option} {text}: KEY=VALUE is needed", "e.g. channels=1")
    return dict(text.split("=", 1) for text in given or ())


def _render(document: Mapping[str, Any]) -> str:
    counts = ", ".join(f"{len(cases)} {role}" for role, cases in document["cases"].items())
    lines = [f"{counts} cases"]
    for name, metric in document["metrics"].items():
        lines.append(f"{name}: {metric['title']}")
        lines += [f"  {_number(number)}" for number in metric["numbers"]]
    lines += [f"left out: {why}" for why in document["left_out"].values()]
    return "\n".join(lines)


def _number(number: Mapping[str, Any]) -> str:
    if number["value"] is None:
        return f"{number['name']}: not defined ({number.get('why', '')})"
    unit = f" {number['unit']}" if number.get("unit") else ""
    interval = number.get("interval")
    spread = "" if not interval else f"  [{interval['low']:.4g}, {interval['high']:.4g}]"
    if interval and interval["level"] < 0.95:
        spread += f" ({interval['level']:.0%})"
    return f"{number['name']}: {number['value']:.4g}{unit}{spread}"
