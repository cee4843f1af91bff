"""What the parts of `quality.py` share: folders of cases, reports, numbers as text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from synthct.evaluation.metric import Interval, Settings
from synthct.evaluation.report import Report
from synthct.volume.nifti import write_volume
from synthct.volume.reading import read_image
from synthct.workflows.evaluate import evaluate
from synthct.workflows.pairs import modality_of
from synthct.workflows.progress import LineProgress

ROOT = Path(__file__).resolve().parents[1]
FIGURES = ("fid", "kid", "ms-ssim", "mmd")
BLUR_MM = 3.0
COLUMNS = {
    "fid/axial": "FID axial",
    "fid/coronal": "coronal",
    "fid/sagittal": "sagittal",
    "fid/average": "average",
    "kid/average": "KID average",
    "mmd/linear unbiased": "MMD linear unbiased",
    "mmd/rbf unbiased": "MMD RBF unbiased",
    "ms-ssim/synthetic/correct": "MS-SSIM of its pairs",
}


def validation(data: Path) -> set[str]:
    """Subjects that no embedded model was trained on."""
    lines = (data / "VALIDATION.txt").read_text(encoding="utf-8").splitlines()
    return {line.strip() for line in lines if line.strip() and line[0] != "#"}


def links(files: Mapping[str, Path], folder: Path) -> Path:
    """A folder of links, by name."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, path in files.items():
        link = folder / name
        if not link.is_symlink():
            link.symlink_to(path.resolve())
    return folder


def made(folder: Path, make: Callable[[Path], None]) -> Path:
    """The folder, by `make` where it is not there; whole or not there."""
    if not folder.is_dir():
        partial = folder.with_name(f"{folder.name}.partial")
        partial.mkdir(parents=True, exist_ok=True)
        make(partial)
        partial.rename(folder)
    return folder


def blurred(real: Path, folder: Path) -> None:
    """Every volume of `real`, blurred; CT within the networks' range."""
    for path in sorted(real.iterdir()):
        modality = modality_of(path)
        volume = read_image(path, modality)
        sigma = [BLUR_MM / s for s in volume.geometry.spacing_mm]
        array = np.nan_to_num(volume.array, nan=-1000.0 if modality == "CT" else 0.0)
        if modality == "CT":
            array = np.clip(array, -1000, 1000)
        write_volume(folder / path.name, volume.with_array(ndimage.gaussian_filter(array, sigma)))


def report(
    work: Path, name: str, metrics: Iterable[str], *, real: str = "real", **how: Any
) -> Report:
    """`work`/`name` against `work`/`real`; its page and its cache lie in `work`/reports."""
    words = tuple(metrics)
    found = evaluate(
        work / real,
        work / name,
        metrics=words,
        output=work / "reports" / f"{name}-against-{real}-{words[0]}",
        settings=Settings(resamples=100),
        overwrite=True,
        progress=LineProgress(),
        **how,
    )
    if found is None:
        raise SystemExit("run it in one process")
    print(f"compared {name} with {real}", flush=True)
    return found


def values(found: Report) -> dict[str, str]:
    """METRIC/NUMBER → its value, with its interval in brackets."""
    known = {}
    for measured in found.measured:
        for number in measured.result.numbers:
            if number.value is not None:
                span = "" if number.interval is None else f" ({spread(number.interval)})"
                known[f"{measured.name}/{number.name}"] = f"{number.value:.3g}{span}"
    return known


def spread(interval: Interval) -> str:
    """With its level where so few cases cannot reach 95 %."""
    level = "" if interval.level >= 0.95 else f"; {interval.level:.0%}"
    return f"{interval.low:.3g} to {interval.high:.3g}{level}"


def number_of(found: Report, metric: str, name: str) -> float:
    """A value by its names; NaN where it is not defined."""
    for measured in found.measured:
        for number in measured.result.numbers:
            if measured.name == metric and number.name == name and number.value is not None:
                return number.value
    return float("nan")


def ruler(reports: Mapping[str, Report], words: Mapping[str, str], against: str) -> str:
    """The table of distances: a row per set."""
    lines = [
        f"| against {against} | cases | {' | '.join(COLUMNS.values())} |",
        f"|---|---|{'|'.join('---' for _ in COLUMNS)}|",
    ]
    for name, found in reports.items():
        known = values(found)
        cells = " | ".join(known.get(column, "") for column in COLUMNS)
        lines.append(f"| {words[name]} | {len(found.study.synthetic)} | {cells} |")
    return "\n".join(lines)


def protocol(found: Report) -> str:
    """Which features of which slices, in words."""
    source = found.measured[0].result.numbers[0].conditions
    grid = f"{source.spacing_mm[0]:g}" if source.spacing_mm else ""
    return f"mini-slices (sha256 {source.extractor_sha256[:16]}…), {grid} mm, {source.slices}"
