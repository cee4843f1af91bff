"""How good are the embedded models, by the project's own measures? Writes docs/quality.md.

    python benchmarks/quality.py DATA --work DIR

DATA has ct/CASE/image.nii.gz and VALIDATION.txt. Generates a CT from each of four phantoms (persons
that no model was trained on), and holds these against the validation CT; beside them, as a ruler:
other real CT, the validation CT blurred, and the phantoms as the phantoms' painter draws them. Then
the autoencoder's round trip. What lies in DIR already is not made again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from synthct.evaluation.metric import Settings
from synthct.evaluation.montage import montages
from synthct.evaluation.report import Report
from synthct.labels.render import render_hu
from synthct.phantom.phantom import make_phantom_with_tissues
from synthct.volume.nifti import write_volume
from synthct.volume.reading import read_image
from synthct.volume.volume import Volume
from synthct.workflows.evaluate import evaluate
from synthct.workflows.phantom import write_phantom
from synthct.workflows.progress import LineProgress
from synthct.workflows.reconstruction import Codec, evaluate_reconstruction

ROOT = Path(__file__).resolve().parents[1]
MODEL = "maisi-mini-ct"
SPACING_MM = 3.0
PHANTOMS = (("chest", 0), ("chest", 1), ("abdomen", 2), ("abdomen", 3))
OTHER_REAL = ("lidc-0028", "lidc-0293", "tcga-coad-ay-4070", "pancct-cb-001")
BLUR_MM = 3.0
FIGURES = ("fid", "kid", "ms-ssim", "mmd")
MANY = ("vertebrae", "left rib", "right rib")  # left out of the table of organs
OF_MASKS = ("agreement", "artefacts")
RULER = {
    "generated": f"{MODEL}, from the phantoms' masks",
    "other-real": "other real CT",
    "blurred": f"the validation CT itself, blurred with {BLUR_MM:g} mm",
    "drawn": "the phantoms, drawn by the painter of the training phantoms",
}


@dataclass(frozen=True)
class Found:
    """The reports by name of the set, the round trip, what QC rejected, and what it cost."""

    reports: dict[str, Report]
    round_trip: dict[str, Any]
    rejected: int


def main() -> None:
    options = _options()
    work = options.work
    real = _links(options.data, _validation(options.data), work / "real")
    _made(work / "masks", _masks)
    rejected = _generate(work)
    _links(options.data, OTHER_REAL, work / "other-real")
    _made(work / "blurred", lambda folder: _blurred(real, folder))
    _made(work / "drawn", _drawn)
    reports = {name: _report(work, name) for name in RULER}
    scans = sorted(real.iterdir())
    spacing = (SPACING_MM,) * 3
    trip = evaluate_reconstruction(scans, Codec(MODEL), spacing_mm=spacing, progress=LineProgress())
    found = Found(reports, trip, rejected)
    picture = ROOT / "docs" / "images" / "quality-ct.png"
    picture.write_bytes(montages(reports["generated"])[0].png)
    (ROOT / "docs" / "quality.md").write_text(_document(found), encoding="utf-8")
    print(json.dumps({name: _values(report) for name, report in reports.items()}, indent=1))


def _validation(data: Path) -> tuple[str, ...]:
    lines = (data / "VALIDATION.txt").read_text().splitlines()
    names = [line.strip() for line in lines if line.strip() and line[0] != "#"]
    return tuple(n for n in names if (data / "ct" / n / "image.nii.gz").is_file())


def _links(data: Path, names: tuple[str, ...], folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        link = folder / f"{name}_ct.nii.gz"
        if not link.exists():
            link.symlink_to((data / "ct" / name / "image.nii.gz").resolve())
    return folder


def _made(folder: Path, make: Callable[[Path], None]) -> None:
    if not folder.is_dir():
        partial = folder.with_name(f"{folder.name}.partial")
        partial.mkdir(parents=True, exist_ok=True)
        make(partial)
        partial.rename(folder)


def _masks(folder: Path) -> None:
    for region, seed in PHANTOMS:
        path = folder / f"{region}-{seed}.nii.gz"
        write_phantom(path, region=region, spacing_mm=(SPACING_MM,) * 3, seed=seed, overwrite=True)


def _generate(work: Path) -> int:
    """One process a mask, as a user would; the first try counts, whatever QC says of it.

    Returns how many QC rejected.
    """
    made, kept = work / "made", work / "generated"
    kept.mkdir(parents=True, exist_ok=True)
    for mask in sorted((work / "masks").glob("*.nii.gz")):
        stem = mask.name.removesuffix(".nii.gz")
        if not list(made.rglob(f"{stem}_seed-0_ct.nii.gz")):
            words = ["generate", "--mask", str(mask), "--labels", "maisi", "--retries", "0", "-q"]
            command = [sys.executable, "-W", "ignore", "-m", "synthct", *words, "--overwrite"]
            code = subprocess.run([*command, "-o", str(made)], check=False).returncode
            print(f"generated {stem}: exit {code}", flush=True)
        for path in made.rglob(f"{stem}_seed-0_*.nii.gz"):
            link = kept / path.name
            if not link.exists():
                link.symlink_to(path.resolve())
    return len(list((made / "rejected").glob("*_ct.nii.gz")))


def _blurred(real: Path, folder: Path) -> None:
    for path in sorted(real.iterdir()):
        volume = read_image(path)
        sigma = [BLUR_MM / s for s in volume.geometry.spacing_mm]
        clipped = np.clip(np.nan_to_num(volume.array, nan=-1000.0), -1000, 1000)
        write_volume(folder / path.name, volume.with_array(ndimage.gaussian_filter(clipped, sigma)))


def _drawn(folder: Path) -> None:
    for region, seed in PHANTOMS:
        labels, tissues = make_phantom_with_tissues(region, (SPACING_MM,) * 3, seed)
        rng = np.random.default_rng(seed)
        hu = render_hu(labels.array, tissues, labels.geometry.spacing_mm, rng)
        write_volume(folder / f"{region}-{seed}_ct.nii.gz", Volume(hu, labels.geometry))


def _report(work: Path, name: str) -> Report:
    report = evaluate(
        work / "real",
        work / name,
        metrics=(*FIGURES, *OF_MASKS) if name == "generated" else FIGURES,
        output=work / "reports" / name,
        settings=Settings(resamples=100),
        labels="maisi" if name == "generated" else "auto",
        overwrite=True,
        progress=LineProgress(),
    )
    if report is None:
        raise SystemExit("run it in one process")
    print(f"compared {name}", flush=True)
    return report


def _values(report: Report) -> dict[str, str]:
    known = {}
    for measured in report.measured:
        for number in measured.result.numbers:
            if number.value is not None:
                text = f"{number.value:.3g}"
                if number.interval is not None:
                    text += f" ({number.interval.low:.3g} to {number.interval.high:.3g})"
                known[f"{measured.name}/{number.name}"] = text
    return known


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


def _document(found: Found) -> str:
    values = {name: _values(report) for name, report in found.reports.items()}
    source = next(iter(found.reports.values())).measured[0].result.numbers[0].conditions
    rows = [
        f"| {words} | {len(found.reports[name].study.synthetic)} | "
        + " | ".join(values[name].get(column, "") for column in COLUMNS)
        + " |"
        for name, words in RULER.items()
    ]
    real = values["generated"].get("ms-ssim/real/correct", "")
    return TEXT.format(
        real=", ".join(case.name for case in found.reports["generated"].study.real),
        head=" | ".join(COLUMNS.values()),
        line="|".join("---" for _ in COLUMNS),
        rows="\n".join(rows),
        real_ms_ssim=real,
        slices=source.slices,
        grid=f"{source.spacing_mm[0]:g}" if source.spacing_mm else "",
        sha=source.extractor_sha256[:16],
        trips=_trips(found.round_trip),
        rejected=found.rejected,
        reading=_reading(found.reports),
        obeyed=_obeyed(found.reports["generated"], organs=False),
        organs=_obeyed(found.reports["generated"], organs=True),
        phantoms=", ".join(f"{region} {seed}" for region, seed in PHANTOMS),
        others=", ".join(OTHER_REAL),
    )


def _reading(reports: dict[str, Report]) -> str:
    """What the order of the rows tells, or that it tells nothing."""
    average = {
        name: next(
            number.value or 0.0
            for measured in report.measured
            for number in measured.result.numbers
            if measured.name == "fid" and number.name == "average"
        )
        for name, report in reports.items()
    }
    if average["other-real"] > average["generated"]:
        return (
            "Other real CT lie further from the held-out ones than the generated CT do. That is no "
            "praise: the intervals overlap widely, and with so few cases these distances tell who "
            "was scanned, and how much of them, before they tell what is real."
        )
    return "Other real CT lie closer to the held-out ones than the generated CT do, as they should."


def _obeyed(report: Report, *, organs: bool) -> str:
    """Numbers of the synthetic cases: of whole volumes, or the medians of organs."""
    lines = []
    for measured in report.measured:
        if measured.name not in OF_MASKS:
            continue
        others = {n.name.removeprefix("real/"): n.value for n in measured.result.numbers}
        for number in measured.result.numbers:
            role, _, name = number.name.partition("/")
            if role != "synthetic" or number.value is None or ("/" in name) != organs:
                continue
            if organs and (not name.endswith("/median_hu") or name.startswith(MANY)):
                continue
            spread = number.interval
            span = "" if spread is None else f"{spread.low:.3g} to {spread.high:.3g}"
            words = name.removesuffix("/median_hu").replace("_", " ")
            real = others.get(name)
            beside = "" if real is None else f"{real:.3g} {number.unit}".strip()
            value = f"{number.value:.3g} {number.unit}".strip()
            lines.append(f"| {words} | {value} | {span} | {beside} |")
    return "\n".join(lines)


def _trips(trip: dict[str, Any]) -> str:
    lines = []
    for case in trip["cases"]:
        body, whole = case["body"], case["whole"]
        name = Path(case["volume"]).name.removesuffix("_ct.nii.gz")
        lines.append(
            f"| {name} | {body['psnr_db']:.1f} | {body['ssim']:.3f} | {body['mean_error']:+.1f} | "
            f"{whole['psnr_db']:.1f} | {whole['ssim']:.3f} |"
        )
    return "\n".join(lines)


TEXT = """\
# Quality of the embedded models

Written by `python benchmarks/quality.py`. What the measures are: [evaluation.md](evaluation.md). Only the embedded CT model, maisi-mini-ct, was measured.

## Real against synthetic

Real: the three held-out CT ({real}).
Synthetic: a CT from each of four phantoms ({phantoms}) at 3 mm, seed 0,
first try, of which QC rejected {rejected}. The other rows are the ruler: other real CT (the model and
the feature network were trained on them: {others}),
the held-out CT blurred, and the same phantoms painted without any model. Value, and in brackets its
95 % interval over cases.

| against the held-out CT | cases | {head} |
|---|---|{line}|
{rows}

MS-SSIM (variant `correct`) between pairs of the real ones: {real_ms_ssim}. Features: mini-slices
(sha256 {sha}…), {grid} mm, {slices};
window −1000 to 1000 HU. No Inception, no RadImageNet.

{reading}

![Held-out CT beside generated ones](images/quality-ct.png)

To the eye the generated CT are not scans: soft tissue is mottled, fat between organs is missing, and
borders are soft.

## Do they obey their masks, and are they whole?

| | generated CT | 95 % interval | held-out CT |
|---|---|---|---|
{obeyed}

By organ (vertebrae and ribs left out):

| organ | generated, median HU | 95 % interval | held-out (no labels) |
|---|---|---|---|
{organs}

## The autoencoder's round trip

Encode and decode, no sampling, at 3 mm: the ceiling of what the model can make.

| | body PSNR, dB | body SSIM | body mean error, HU | whole PSNR, dB | whole SSIM |
|---|---|---|---|---|---|
{trips}

## What these numbers cannot say

Three real cases and four synthetic ones: fewer slices than a covariance of 192 features needs, so
the Fréchet distances are biased upwards, and the intervals, which show the spread over so few
cases, are themselves rough. The sets also differ in who was scanned and how far the view reaches
(chest and upper abdomen of patients; chest and abdomen of phantoms without a table), and every
distance counts that. mini-slices averages its maps over a slice at 2 mm: which body part is shown and
how bright it is weigh more in it than texture does.

## The literature's figures, and why they are not comparable

| what | figure |
|---|---|
| MAISI, Table 3: FID 2.5D, autoPET (axial, sagittal, coronal, average) | 3.301, 5.838, 9.109, 6.083 |
| the same with rectified flow | 2.685, 4.723, 7.963, 5.124 |
| the same table, average: HA-GAN; LDM; DDPM | 13.757; 12.379; 22.608 |
| MAISI, Table 1: VAE on MSD07 (LPIPS, SSIM, PSNR) | 0.038, 0.978, 37.266 |
| the same on MSD08 | 0.046, 0.970, 36.559 |
| cDPM, 500 against 500: MS-SSIM; MMD; FID of three planes | 78.6; 3.14; 32.4, 45.8, 91.1 |

They cannot be held against the tables above: those figures are of other feature networks
(RadImageNet's ResNet-50, Inception), other patients, more scans, finer grids and far larger models.
A Fréchet distance has the unit of its network's features; between two networks not even the order
need agree, and with three cases it is mostly bias. To compare with MAISI, run `synthct evaluate` on
both sets with `--features` and RadImageNet's ResNet-50: its protocol is then the default.
"""  # noqa: E501


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--work", type=Path, required=True, help="folder for what is made")
    return parser.parse_args()


if __name__ == "__main__":
    main()
