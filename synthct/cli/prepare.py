"""`synthct prepare SCANS -o DATA`: a folder of scans made ready for training."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from synthct.cli.console import DONE, JsonOption, QuietOption, VerboseOption, edge, emit
from synthct.cli.words import MaxMemoryOption
from synthct.workflows.request import memory_bytes

_SOME_FAILED = 7


class ModalityName(str, Enum):
    """Of the scans in the folder."""

    auto = "auto"
    ct = "CT"
    mr = "MR"


@edge
def prepare(
    scans: Annotated[
        Path, typer.Argument(metavar="SCANS", help="Folder of scans, searched downwards.")
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="DIR", help="The dataset folder.")
    ],
    exclude: Annotated[
        Path | None,
        typer.Option(
            "--exclude",
            metavar="FILE",
            help="Cases or subjects to keep for validation, one a line.",
        ),
    ] = None,
    cases: Annotated[
        Path | None,
        typer.Option("--cases", metavar="FILE", help="Table: subject, use, labels, atlas of each."),
    ] = None,
    pseudo_labels: Annotated[
        bool, typer.Option("--pseudo-labels", help="Carry labels over from the labelled cases.")
    ] = False,
    phantoms: Annotated[
        int, typer.Option("--phantoms", min=0, help="How many phantoms to add to the pairs.")
    ] = 0,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of phantoms and renderings.")] = 0,
    labels: Annotated[
        str,
        typer.Option("--labels", metavar="DIR", help="Folder of labels; or a scheme's name."),
    ] = "auto",
    scheme: Annotated[
        str, typer.Option("--scheme", metavar="SCHEME", help="Of the labels: a name, or FILE.toml.")
    ] = "auto",
    jobs: Annotated[
        int, typer.Option("--jobs", "-j", min=1, help="Scans that are prepared side by side.")
    ] = 1,
    modality: Annotated[
        ModalityName,
        typer.Option("--modality", help="auto: MR where a file is called t1, t2, flair, …"),
    ] = ModalityName.auto,
    finest: Annotated[
        float,
        typer.Option("--finest", metavar="MM", help="Axes finer than this are resampled to it."),
    ] = 2.0,
    encode: Annotated[
        Path | None,
        typer.Option("--encode", metavar="DIR", help="Then encode them with DIR's trained VAE."),
    ] = None,
    spec: Annotated[
        str | None,
        typer.Option("--spec", metavar="NAME", help="Networks of that VAE; default: its file's."),
    ] = None,
    mirrored: Annotated[
        bool, typer.Option("--mirrored", help="Encode each a second time, left and right changed.")
    ] = False,
    multiple: Annotated[
        int | None,
        typer.Option(
            "--multiple", min=1, help="Resample sides to multiples of this before encoding (128)."
        ),
    ] = None,
    max_memory: MaxMemoryOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> int:
    """Make a folder of scans ready for training: images, pairs with labels, a manifest.

    \b
    Example: synthct prepare scans/ -o data/ --pseudo-labels --cases cases.tsv --phantoms 48

    What stands in DATA already and is unchanged stays; an interrupted run goes on where it stood.
    """
    from synthct.workflows.prepare import PrepareRequest
    from synthct.workflows.prepare import prepare as run
    from synthct.workflows.progress import progress_on_stderr

    folder = None if labels.endswith((".toml", ".json")) or not _is_path(labels) else Path(labels)
    request = PrepareRequest(
        scans,
        output,
        exclude,
        cases,
        pseudo_labels,
        phantoms,
        seed,
        scheme if scheme != "auto" or folder else labels,
        modality.value,
        folder,
        jobs,
        finest,
    )
    with progress_on_stderr(quiet) as progress:
        result = run(request, progress)
        made = result.as_dict()
        if encode is not None:
            from synthct.workflows.encoding import EncodeRequest, encode_dataset

            budget = None if max_memory is None else memory_bytes(max_memory)
            wish = EncodeRequest(output, encode, spec, budget, mirrored, multiple)
            made |= encode_dataset(wish, progress).as_dict()
    emit(made, as_json, lambda shown: prepared_text(shown, full=verbose), quiet=quiet)
    return _SOME_FAILED if result.failed else DONE


def _is_path(labels: str) -> bool:
    """A folder rather than the name of a scheme."""
    return Path(labels).is_dir() or "/" in labels


def prepared_text(made: Mapping[str, Any], *, full: bool = False) -> str:
    """The dataset in lines; `full` gives the reason for each case without a pair."""
    pairs = ", ".join(f"{n} {kind}" for kind, n in made["pairs"].items())
    lines = [
        f"{made['train']} scans to train on, {made['validation']} to validate, pairs: {pairs}",
        f"{made['made']} made, {made['kept']} there already: {made['output']}",
    ]
    if "encoded" in made:
        lines.append(f"{made['encoded']} encoded, {made['encoded_before']} there already")
    if made["removed"]:
        lines.append(f"{len(made['removed'])} files that the manifest names no more were removed")
    lines += [f"  failed: {case}: {why}" for case, why in made["failed"].items()]
    if full:
        left_out = {**made["excluded"], **made["without_pair"]}
        lines += [f"  no pair: {case}: {why or 'no labels'}" for case, why in left_out.items()]
    return "\n".join(lines)


def register(app: typer.Typer) -> None:
    app.command("prepare")(prepare)
