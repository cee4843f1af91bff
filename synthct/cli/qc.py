"""`synthct qc PATH…` and `synthct qc fit REAL_DIR -o norms.toml`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from synthct.cli.console import (
    DONE,
    JsonOption,
    QuietOption,
    VerboseOption,
    edge,
    emit,
    fail,
    say,
)
from synthct.cli.words import LabelsOption, OverwriteOption, UnknownIds, UnknownOption

if TYPE_CHECKING:
    from synthct.quality.norms import Norms
    from synthct.quality.report import Report


@edge
def qc(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(metavar="PATH", help="Volumes, or folders that are searched downwards."),
    ] = None,
    image: Annotated[
        Path | None, typer.Option("--image", metavar="FILE", help="One volume by name.")
    ] = None,
    labels_file: Annotated[
        Path | None, typer.Option("--labels-file", metavar="FILE", help="The labels of --image.")
    ] = None,
    labels: LabelsOption = "auto",
    unknown: UnknownOption = UnknownIds.error,
    norms: Annotated[
        Path | None, typer.Option("--norms", metavar="FILE", help="Ranges made by `qc fit`.")
    ] = None,
    csv: Annotated[
        Path | None, typer.Option("--csv", metavar="FILE", help="Also one row per check.")
    ] = None,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Also a page with pictures.")
    ] = None,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> int:
    """Judge volumes with labels: organ medians against ranges.

    \b
    Examples:
      synthct qc out/
      synthct qc --image ct.nii.gz --labels-file seg.nii.gz --labels totalsegmentator
      synthct qc fit REAL_DIR -o norms.toml

    Pairs X_ct.nii.gz (or any volume) with X_dseg.nii.gz beside it, and image.nii.gz with
    labels.nii.gz; rejected/ is skipped unless named. Exit code 4 where a volume fails or nothing
    could be checked. A folder called fit: ./fit.
    """
    from synthct.workflows.progress import progress_on_stderr
    from synthct.workflows.qc import qc as run

    with progress_on_stderr(quiet or as_json) as progress:
        report = run(
            paths or (),
            image=image,
            labels_file=labels_file,
            labels=labels,
            unknown=unknown.value,
            norms=norms,
            csv=csv,
            html=html,
            overwrite=overwrite,
            progress=progress,
        )
    return _show(report, as_json=as_json, quiet=quiet, verbose=verbose)


@edge
def qc_fit(
    folder: Annotated[
        Path, typer.Argument(metavar="REAL_DIR", help="Folder of real CT with labels.")
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FILE", help="The ranges, as TOML.")
    ],
    labels: LabelsOption = "auto",
    unknown: UnknownOption = UnknownIds.error,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> int:
    """Derive ranges from your own real scans.

    Example: synthct qc fit REAL_DIR -o norms.toml --labels totalsegmentator

    Then: synthct qc out/ --norms norms.toml. Needs three labelled CT that share organs; organs
    seen less often keep the built-in range.
    """
    from synthct.workflows.progress import progress_on_stderr
    from synthct.workflows.qc import fit_norms

    with progress_on_stderr(quiet) as progress:
        fitted = fit_norms(
            folder,
            output,
            labels=labels,
            unknown=unknown.value,
            overwrite=overwrite,
            progress=progress,
        )
    emit(_fit_result(fitted, output), as_json, _fit_text, quiet=quiet)
    return DONE


def register(app: typer.Typer) -> None:
    app.command("qc", cls=QcCommand)(qc)


class QcCommand(TyperCommand):
    """`qc`, which hands over to `qc fit` where its first word is `fit`."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any
    ) -> Any:
        if args and args[0] == "fit":
            return _fit_command().make_context(f"{info_name} fit", args[1:], parent, **extra)
        return super().make_context(info_name, args, parent, **extra)


def _fit_command() -> Any:
    alone = typer.Typer(add_completion=False, rich_markup_mode=None)
    alone.command("fit")(qc_fit)
    return typer.main.get_command(alone)


def _show(report: Report, *, as_json: bool, quiet: bool, verbose: bool) -> int:
    error = _verdict_error(report)
    document = report.as_dict()
    if error is not None:
        document = {"error": error.as_dict(), **document}
    emit(document, as_json, lambda _: _table(report, verbose), quiet=quiet)
    if report.skipped:
        shown = ", ".join(report.skipped) if verbose else str(len(report.skipped))
        say(f"skipped, no labels beside them: {shown}", quiet=quiet)
    return DONE if error is None else fail(error)


def _verdict_error(report: Report) -> Any:
    from synthct.errors import BatchError, QualityError

    if report.exit_code == DONE:
        return None
    kind = BatchError if report.exit_code == BatchError.exit_code else QualityError
    first = next(case for case in report.cases if not case.passed)
    return kind(f"{report.summary}; first {first.name}: {first.why}", "-v lists every check")


def _table(report: Report, verbose: bool) -> None:
    import sys

    from rich.console import Console

    from synthct.quality.report import print_report

    width = None if sys.stdout.isatty() else 160
    console = Console(file=sys.stdout, highlight=False, soft_wrap=False, width=width)
    print_report(report, console, verbose=verbose)


def _fit_result(norms: Norms, output: Path) -> dict[str, Any]:
    fitted = [g for g in norms.group if g.low is not None and g.low.kind == "fitted"]
    return {
        "output": str(output),
        "title": norms.title,
        "method": norms.method,
        "fitted": {
            g.name: {"low": g.low.hu, "high": g.high.hu, "source": g.low.source}
            for g in fitted
            if g.low is not None and g.high is not None
        },
        "kept": [g.name for g in norms.group if g not in fitted],
    }


def _fit_text(result: Any) -> str:
    lines = [
        f"{name}: {bound['low']:g}..{bound['high']:g} ({bound['source']})"
        for name, bound in result["fitted"].items()
    ]
    kept = f"{len(result['kept'])} groups keep the built-in range (seen too rarely)"
    return "\n".join([*lines, kept, f"{result['title']}: {result['output']}"])
