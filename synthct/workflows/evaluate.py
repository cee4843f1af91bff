"""Real against synthetic: find the cases, measure what was asked, write the report.

report = evaluate("real/", "out/", metrics=["fid", "kid"], output="report/")
report.as_dict()["metrics"]["kid"]["numbers"]
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from synthct.atomic import refuse_existing, replacing, write_text
from synthct.errors import InputError, UsageError
from synthct.evaluation.cache import FeatureCache
from synthct.evaluation.case import Case, Role, Schemes, scheme_for
from synthct.evaluation.html import to_html
from synthct.evaluation.metric import Metric, Prepares, Settings, Study
from synthct.evaluation.registry import chosen
from synthct.evaluation.report import Measured, Report
from synthct.evaluation.study import few_cases, runnable
from synthct.evaluation.teams import Team, team
from synthct.labels.remap import Unknown
from synthct.record import versions
from synthct.workflows.pairs import modality_of, name_of, volumes_under
from synthct.workflows.progress import Progress, SilentProgress

PathLike = str | os.PathLike[str]

REPORT, PAGE, CACHE = "report.json", "report.html", "cache"


def evaluate(
    real: PathLike,
    synthetic: PathLike,
    *,
    metrics: Sequence[str] = (),
    output: PathLike | None = None,
    training: PathLike | None = None,
    settings: Settings | None = None,
    modality: str = "auto",
    labels: Schemes = "auto",
    unknown: Unknown = "error",
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Report | None:
    """Compare the volumes under two folders.

    What is slow is kept in `output`/cache by the hashes of all that it depends on: the same command
    after an interruption goes on. Under torchrun each process prepares a share of the cases; the
    first one measures and writes, the others return None.

    Args:
        real, synthetic: folders, searched downwards.
        metrics: words of `registry.METRICS`; none: those that run by default and can.
        output: folder for report.json and report.html; None: nothing is written or kept.
        training: folder of what the model was trained on.
        settings: network, slices, device, seed; None: the defaults.
        modality: CT, MR, or auto: by the ends of the files' names.
        labels, unknown: scheme of the masks' ids (one, or by role), and what becomes of ids that it
            does not know.
        overwrite: replace an older report.
        progress: told how far it is.

    Raises:
        UsageError: an output that exists; no such metric, network or device.
        InputError: no volumes; fewer than a metric that was named needs; one that cannot be read.
        WeightsError: the feature network is missing or damaged.
    """
    settings = settings or Settings()
    progress = progress or SilentProgress()
    folder = None if output is None else Path(output)
    with team() as workers, _cache(folder) as cache:
        if folder is not None and not overwrite and workers.leads:
            for name in (REPORT, PAGE):
                refuse_existing(folder / name)
        if workers.size > 1 and folder is None:
            raise UsageError("torchrun needs -o: its processes meet in the cache there")
        study = _study(
            (real, synthetic, training), settings, cache, modality=modality, labels=labels,
            unknown=unknown,
        )  # fmt: skip
        usable, left_out = runnable(chosen(metrics, settings), study, asked=bool(metrics))
        _prepare(usable, study, workers, progress)
        workers.wait()
        if not workers.leads:
            return None
        report = _measured(usable, study, left_out, settings, progress)
        if folder is not None:
            _write(report, folder, overwrite)
    return report


@contextmanager
def _cache(folder: Path | None) -> Iterator[FeatureCache]:
    """In the report's folder; for as long as the run lasts where none is written."""
    if folder is not None:
        yield FeatureCache(folder / CACHE)
        return
    with tempfile.TemporaryDirectory(prefix="synthct-evaluate-") as temporary:
        yield FeatureCache(Path(temporary))


def _study(
    folders: tuple[PathLike, PathLike, PathLike | None],
    settings: Settings,
    cache: FeatureCache,
    *,
    modality: str,
    labels: Schemes,
    unknown: Unknown,
) -> Study:
    roles: tuple[Role, ...] = ("real", "synthetic", "training")
    found: dict[Role, tuple[Case, ...]] = {}
    for role, folder in zip(roles, folders, strict=True):
        shared = Case("", Path(), role=role, scheme=scheme_for(role, labels), unknown=unknown)
        found[role] = () if folder is None else find_cases(Path(folder), shared, modality)
    kinds = {case.modality for case in (*found["real"], *found["synthetic"])}
    if len(kinds) > 1:
        raise InputError(
            "CT and MR together: real and synthetic must be of one modality",
            "say which it is with --modality, or sort the files",
        )
    return Study(found["real"], found["synthetic"], found["training"], settings.seed, cache)


def find_cases(folder: Path, like: Case, modality: str = "auto") -> tuple[Case, ...]:
    """Every volume below `folder` as a case, by name; role, scheme and unknown as those of `like`.

    Raises:
        InputError: no such folder, or no volume in it.
    """
    found = volumes_under(folder)
    images: dict[Path, tuple[str, Path | None]]
    images = {pair.image: (pair.name, pair.labels) for pair in found.pairs}
    images |= {image: (name_of(image, folder), None) for image in found.alone}
    if not images:
        raise InputError(f"{folder}: no volume in it", "accepted: NIfTI, NRRD, MHA")
    cases = [
        replace(
            like,
            name=name,
            image=image,
            labels=labels,
            modality=modality_of(image) if modality == "auto" else modality,
        )
        for image, (name, labels) in images.items()
    ]
    names = [case.name for case in cases]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"{folder}: more than one volume called {twice[0]}", "rename one")
    return tuple(sorted(cases, key=lambda case: case.name))


def _prepare(metrics: Sequence[Metric], study: Study, workers: Team, progress: Progress) -> None:
    """The slow part of each metric, case by case; each process does its share."""
    for metric in metrics:
        if not isinstance(metric, Prepares):
            continue
        mine = workers.share([case for role in metric.roles() for case in study.of(role)])
        with progress.stage(f"{metric.name}: cases", len(mine)) as advance:
            for case in mine:
                metric.prepare(case, study)
                advance()
        workers.wait()


def _measured(
    metrics: Sequence[Metric],
    study: Study,
    left_out: Mapping[str, str],
    settings: Settings,
    progress: Progress,
) -> Report:
    found, warnings = [], []
    with progress.stage("metrics", len(metrics)) as advance:
        for metric in metrics:
            result = metric.measure(study, progress)
            found.append(Measured(metric.name, metric.title, result))
            warnings += [few_cases(metric, study), *result.warnings]
            advance()
    return Report(
        study,
        tuple(found),
        tuple(dict.fromkeys(line for line in warnings if line)),
        left_out,
        _plain(settings),
        versions(),
    )


def _plain(settings: Settings) -> dict[str, Any]:
    """What was chosen; a file by its name alone, as its hash stands beside every number."""
    known = asdict(settings)
    if (path := Path(settings.features)).suffix:
        known["features"] = path.name
    return {key: value for key, value in known.items() if value not in (None, {}, "")}


def _write(report: Report, folder: Path, overwrite: bool) -> None:
    import json

    from synthct.evaluation.montage import montages

    page = to_html(report, montages(report))
    text = json.dumps(_finite(report.as_dict()), indent=1, ensure_ascii=False, allow_nan=False)
    with replacing(folder / PAGE, overwrite=overwrite) as temporary:
        temporary.write_text(page, encoding="utf-8")
    write_text(folder / REPORT, text + "\n", overwrite=overwrite)


def _finite(value: Any) -> Any:
    """NaN and infinity as None, NumPy numbers as Python's."""
    if isinstance(value, Mapping):
        return {str(key): _finite(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(one) for one in value]
    if hasattr(value, "tolist"):
        return _finite(value.tolist())
    if isinstance(value, float):
        return value if value - value == 0 else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)
