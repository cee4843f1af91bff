"""Train on real, on synthetic, on both; test on held-out real cases; compare.

study = evaluate_utility("real/", "out/", organs=["liver", "spleen"], output="utility/")
study.as_dict()["arms"]
"""

from __future__ import annotations

import csv
import io
import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from math import isnan, nan
from pathlib import Path
from typing import Any

import numpy as np

from synthct.atomic import refuse_existing, replacing, write_text
from synthct.errors import InputError, UsageError
from synthct.evaluation.case import Case, Role, Schemes, scheme_for
from synthct.evaluation.report import digest
from synthct.evaluation.utility import (
    Comparison,
    arms_of,
    compared,
    folds_by_subject,
    mean_of,
)
from synthct.evaluation.utility_network import NetworkSettings
from synthct.evaluation.utility_plot import plot_png
from synthct.evaluation.utility_trainers import CommandTrainer, Sample, SmallNetwork, Trainer
from synthct.labels.scheme import maisi_id
from synthct.record import versions
from synthct.volume.resample import resample_image, resample_labels
from synthct.workflows.evaluate import CACHE, find_cases
from synthct.workflows.progress import Progress, SilentProgress
from synthct.workflows.utility_runs import KeptRuns, Runs

PathLike = str | os.PathLike[str]

REPORT, TABLE, PLOT = "utility.json", "utility.csv", "utility.png"
CONVENTION = (
    "Dice per organ on held-out real cases; an organ that neither mask nor prediction has is "
    "skipped; a case's score is the mean over its organs"
)


@dataclass(frozen=True)
class UtilityReport:
    """The protocol, every score, the comparisons.

    `scores`: arm → test case → organ → Dice (NaN: skipped). `arms` compares means over organs.
    """

    protocol: Mapping[str, Any]
    scores: Mapping[str, Mapping[str, Mapping[str, float]]]
    arms: tuple[Comparison, ...]
    organs: Mapping[str, tuple[Comparison, ...]]
    warnings: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """JSON-able; NaN becomes None."""
        return {
            "protocol": dict(self.protocol),
            "arms": [_plain(asdict(c)) for c in self.arms],
            "organs": {o: [_plain(asdict(c)) for c in cs] for o, cs in self.organs.items()},
            "scores": {a: {c: _plain(v) for c, v in of.items()} for a, of in self.scores.items()},
            "warnings": list(self.warnings),
            "versions": versions(),
        }

    def case_means(self) -> dict[str, list[float]]:
        """Arm → mean over organs of every test case, in one order."""
        return {
            arm: [mean_of(list(organs.values())) for organs in cases.values()]
            for arm, cases in self.scores.items()
        }


def evaluate_utility(
    real: PathLike,
    synthetic: PathLike,
    *,
    organs: Sequence[str],
    ratios: Sequence[float] = (0.5, 1.0, 1.5),
    folds: int = 5,
    seed: int = 0,
    spacing_mm: float = 3.0,
    network: NetworkSettings | None = None,
    trainer: str | Trainer | None = None,
    subjects: PathLike | None = None,
    labels: Schemes = "auto",
    output: PathLike | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> UtilityReport:
    """Run the study.

    The scores of every training that ends are kept in `output`/cache by the hashes of its cases and
    the settings: the same command after an interruption goes on, to the same numbers. A callable
    has no such hash, and trains again.

    Args:
        real, synthetic: folders of volumes with labels beside them.
        organs: MAISI names of what is segmented.
        ratios: synthetic cases per real training case, an arm each.
        folds: of the real cases, by subject.
        seed: of folds, draws, weights and crops.
        spacing_mm: the grid that everything is trained and tested on.
        network: of the small network; not used with `trainer`.
        trainer: a command template (see `CommandTrainer`) or a callable; None: the small network.
        subjects: TSV of case and subject, synthetic cases too where they come from a real one's
            mask; without it every real case is its own subject.
        labels: scheme of the masks' ids: one, or by role.
        output: folder for utility.json, utility.csv and utility.png.
        overwrite: replace them.
        progress: told how far it is.

    Raises:
        UsageError: an output that exists, an organ nobody knows, a command that is none.
        InputError: too few subjects; a case without labels; what the trainer did not do.
    """
    names = _organ_ids(organs)
    if output is not None and not overwrite:
        for name in (REPORT, TABLE, PLOT):
            refuse_existing(Path(output) / name)
    listed = _subjects(subjects)
    progress = progress or SilentProgress()
    folders: dict[Role, PathLike] = {"real": real, "synthetic": synthetic}
    samples = {
        str(role): _samples(
            Path(folder),
            role,
            scheme_for(role, labels),
            tuple(names.values()),
            spacing_mm,
            progress,
        )
        for role, folder in folders.items()
    }
    arms = arms_of(ratios)
    groups = [listed.get(sample.name, sample.name) for sample in samples["real"]]
    parts = folds_by_subject(groups, folds, seed)
    kept = KeptRuns(None if output is None else Path(output) / CACHE / "utility")
    with progress.stage("trainings", len(arms) * len(parts)) as advance, _work() as work:
        train = _trainer(trainer, len(names) + 1, network or NetworkSettings())
        runs = Runs(samples["real"], samples["synthetic"], groups, listed, seed, train, work, kept)
        scores: dict[str, dict[str, dict[str, float]]] = {arm.name: {} for arm in arms}
        for number, test in enumerate(parts):
            for arm in arms:
                scores[arm.name] |= runs.one(arm, number, test, list(names))
                advance()
    if runs.found:
        progress.say(f"{runs.found} of {len(arms) * len(parts)} trainings were done before")
    protocol = _protocol(names, folds, seed, spacing_mm, trainer, network, samples, runs)
    report = _report(protocol, scores, list(names), _warned(runs, samples))
    if output is not None:
        _write(report, Path(output), overwrite)
    return report


def _samples(
    folder: Path,
    role: Role,
    scheme: str,
    ids: tuple[int, ...],
    spacing_mm: float,
    progress: Progress,
) -> list[Sample]:
    cases = find_cases(folder, Case("", Path(), role=role, scheme=scheme))
    bare = [case.name for case in cases if case.labels is None]
    if bare:
        raise InputError(f"{folder}: {len(bare)} volumes without labels, such as {bare[0]}")
    with progress.stage(f"reading {role} cases", len(cases)) as advance:
        samples = []
        for case in cases:
            samples.append(_sample(case, ids, spacing_mm))
            advance()
    if not any(sample.labels.any() for sample in samples):
        raise InputError(f"{folder}: none of the organs is in any of its {len(samples)} masks")
    return samples


def _sample(case: Case, ids: tuple[int, ...], spacing_mm: float) -> Sample:
    volume, mask = case.volume(), case.label_map()
    grid = volume.geometry.with_spacing((spacing_mm,) * 3)
    array = resample_labels(mask, grid)[0].array
    classes = np.zeros(array.shape, np.uint8)
    for number, label in enumerate(ids, 1):
        classes[array == label] = number
    hu = resample_image(volume, grid).array
    return Sample(case.name, hu, classes, grid, digest((case,)))


def _organ_ids(organs: Sequence[str]) -> dict[str, int]:
    found = {name: maisi_id(name) for name in dict.fromkeys(organs)}
    strangers = [name for name, label in found.items() if not label]
    if strangers or not found:
        named = ", ".join(map(repr, strangers)) or "none given"
        raise UsageError(f"organs: {named}", "MAISI's names, such as liver, spleen, right kidney")
    return {name: label for name, label in found.items() if label}


def _subjects(path: PathLike | None) -> dict[str, str]:
    if path is None:
        return {}
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read", "a text of case, tab, subject") from error
    rows = [line.split("\t") for line in lines if line.strip() and not line.startswith("#")]
    if any(len(row) != 2 for row in rows):
        raise InputError(f"{path}: every line is a case, a tab, its subject")
    return {case.strip(): subject.strip() for case, subject in rows}


def _trainer(trainer: str | Trainer | None, classes: int, network: NetworkSettings) -> Trainer:
    if trainer is None:
        return SmallNetwork(classes, network)
    return CommandTrainer(trainer) if isinstance(trainer, str) else trainer


@contextmanager
def _work() -> Iterator[Path]:
    """Where trainers write; gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="synthct-utility-") as temporary:
        yield Path(temporary)


def _protocol(
    names: Mapping[str, int],
    folds: int,
    seed: int,
    spacing_mm: float,
    trainer: str | Trainer | None,
    network: NetworkSettings | None,
    samples: Mapping[str, Sequence[Sample]],
    runs: Runs,
) -> dict[str, Any]:
    told: Any = asdict(network or NetworkSettings()) | {"network": "MONAI BasicUNet"}
    if trainer is not None:
        told = trainer if isinstance(trainer, str) else getattr(trainer, "__name__", "callable")
    return {
        "organs": dict(names),
        "folds": folds,
        "seed": seed,
        "spacing_mm": spacing_mm,
        "trainer": told,
        "cases": {role: [s.name for s in of] for role, of in samples.items()},
        "sha256": {role: {s.name: s.sha256 for s in of} for role, of in samples.items()},
        "training_cases": runs.sizes,
        "score": CONVENTION,
        "test": "Wilcoxon signed rank, two-sided, of case means against the arm real",
    }


def _warned(runs: Runs, samples: Mapping[str, Sequence[Sample]]) -> list[str]:
    said = []
    if runs.short:
        arms, count = ", ".join(sorted(runs.short)), len(samples["synthetic"])
        said.append(f"{arms}: fewer than asked, there are {count} synthetic cases")
    if runs.left_out:
        count = len(runs.left_out)
        said.append(f"{count} synthetic cases share a test case's mask: left out of its fold")
    return said


def _report(
    protocol: dict[str, Any],
    scores: dict[str, dict[str, dict[str, float]]],
    organs: Sequence[str],
    warnings: list[str],
) -> UtilityReport:
    report = UtilityReport(protocol, scores, (), {})
    arms = tuple(compared(report.case_means()))
    by_organ = {
        organ: tuple(
            compared({arm: [c.get(organ, nan) for c in of.values()] for arm, of in scores.items()})
        )
        for organ in organs
    }
    few = next((c for c in arms if c.arm != "real" and c.p is None), None)
    if few is not None:
        warnings.append(f"{few.arm}: no p value from {few.pairs} pairs (6 that differ are needed)")
    return UtilityReport(protocol, scores, arms, by_organ, tuple(warnings))


def _write(report: UtilityReport, folder: Path, overwrite: bool) -> None:
    document = json.dumps(report.as_dict(), indent=2, ensure_ascii=False) + "\n"
    write_text(folder / REPORT, document, overwrite=overwrite)
    write_text(folder / TABLE, table_csv(report), overwrite=overwrite)
    title = "Dice on held-out real cases, mean over organs"
    with replacing(folder / PLOT, overwrite=overwrite) as temporary:
        temporary.write_bytes(plot_png(report.case_means(), title))


def table_csv(report: UtilityReport) -> str:
    """One row per organ and arm, the mean over organs first."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["organ", "arm", "pairs", "mean", "real", "difference", "p"])
    for organ, rows in {"mean": report.arms, **report.organs}.items():
        for c in rows:
            figures = (c.mean, c.mean_real, c.difference)
            shown = ["" if isnan(value) else f"{value:.4f}" for value in figures]
            writer.writerow([organ, c.arm, c.pairs, *shown, "" if c.p is None else f"{c.p:.4g}"])
    return stream.getvalue()


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {k: None if isinstance(v, float) and isnan(v) else v for k, v in values.items()}
