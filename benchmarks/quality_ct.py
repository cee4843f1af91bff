"""The CT half of `quality.py`: maisi-mini-ct, from the masks of phantoms."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from quality_sets import (
    BLUR_MM,
    FIGURES,
    blurred,
    links,
    made,
    number_of,
    protocol,
    report,
    ruler,
    spread,
    validation,
    values,
)

from synthct.evaluation.montage import montages
from synthct.evaluation.report import Report
from synthct.labels.render import render_hu
from synthct.phantom.phantom import make_phantom_with_tissues
from synthct.volume.nifti import write_volume
from synthct.volume.volume import Volume
from synthct.workflows.phantom import write_phantom
from synthct.workflows.progress import LineProgress
from synthct.workflows.reconstruction import Codec, evaluate_reconstruction

MODEL = "maisi-mini-ct"
SPACING_MM = (3.0, 3.0, 3.0)
PHANTOMS = tuple((("chest", "abdomen")[n % 2], n) for n in range(8))
OTHER_REAL = ("lidc-0028", "lidc-0293", "tcga-coad-ay-4070", "pancct-cb-001")
LABELLED = ("ts-example", "ts-dicom-slab", "lidc-0001")
MANY = ("vertebrae", "left rib", "right rib")  # left out of the table of organs
OF_MASKS = ("agreement", "texture")
WORDS = {
    "generated": f"{MODEL}, from the phantoms' masks",
    "other-real": "other real CT",
    "blurred": f"the validation CT itself, blurred with {BLUR_MM:g} mm",
    "drawn": "the phantoms, drawn by the painter of the training phantoms",
}


@dataclass(frozen=True)
class FoundCt:
    """Reports by name of the set, agreement with masks, artefacts, round trips by grid, QC."""

    reports: dict[str, Report]
    masks: Report
    artefacts: Report
    round_trips: dict[str, dict[str, Any]]
    rejected: int


def measure(data: Path, work: Path) -> FoundCt:
    """Everything about the CT model; what lies in `work` already is not made again."""
    scans = {p.parent.name: p for p in sorted((data / "ct").glob("*/image.nii.gz"))}
    held_out = sorted(validation(data) & set(scans))
    for folder, names in (("real", held_out), ("other-real", OTHER_REAL), ("labelled", LABELLED)):
        links({f"{n}_ct.nii.gz": scans[n] for n in names}, work / folder)
    masks = {f"{n}_dseg.nii.gz": scans[n].with_name("labels.nii.gz") for n in LABELLED}
    links(masks, work / "labelled")
    made(work / "masks", _masks)
    rejected = _generate(work)
    made(work / "blurred", lambda folder: blurred(work / "real", folder))
    made(work / "drawn", _drawn)
    reports = {name: report(work, name, FIGURES) for name in WORDS}
    schemes = {"labels": {"real": "totalsegmentator", "synthetic": "maisi"}}
    return FoundCt(
        reports,
        report(work, "generated", OF_MASKS, real="labelled", **schemes),
        report(work, "generated", ("artefacts",)),
        _round_trips(sorted((work / "real").iterdir())),
        rejected,
    )


def _masks(folder: Path) -> None:
    for region, seed in PHANTOMS:
        path = folder / f"{region}-{seed}.nii.gz"
        write_phantom(path, region=region, spacing_mm=SPACING_MM, seed=seed, overwrite=True)


def _generate(work: Path) -> int:
    """One process a mask, as a user would; the first try counts, whatever QC says of it.

    Returns how many QC rejected.
    """
    folder = work / "made"
    for mask in sorted((work / "masks").glob("*.nii.gz")):
        stem = mask.name.removesuffix(".nii.gz")
        if not list(folder.rglob(f"{stem}_seed-0_ct.nii.gz")):
            words = ["generate", "--mask", str(mask), "--labels", "maisi", "--retries", "0", "-q"]
            command = [sys.executable, "-W", "ignore", "-m", "synthct", *words, "--overwrite"]
            code = subprocess.run([*command, "-o", str(folder)], check=False).returncode
            print(f"generated {stem}: exit {code}", flush=True)
        links({path.name: path for path in folder.rglob(f"{stem}_seed-0_*.nii.gz")},
              work / "generated")  # fmt: skip
    return len(list((folder / "rejected").glob("*_ct.nii.gz")))


def _drawn(folder: Path) -> None:
    for region, seed in PHANTOMS:
        labels, tissues = make_phantom_with_tissues(region, SPACING_MM, seed)
        rng = np.random.default_rng(seed)
        hu = render_hu(labels.array, tissues, labels.geometry.spacing_mm, rng)
        write_volume(folder / f"{region}-{seed}_ct.nii.gz", Volume(hu, labels.geometry))


def _round_trips(scans: list[Path]) -> dict[str, dict[str, Any]]:
    return {
        words: evaluate_reconstruction(
            scans, Codec(MODEL), spacing_mm=spacing, progress=LineProgress()
        )
        for words, spacing in (("as stored", None), ("3 mm", SPACING_MM))
    }


def picture(found: FoundCt) -> bytes:
    """PNG: held-out CT beside generated ones."""
    return montages(found.reports["generated"])[0].png


# ── the section ───────────────────────────────────────────────────────────────────────────────


def section(found: FoundCt) -> str:
    first = found.reports["generated"]
    return TEXT.format(
        model=MODEL,
        real=", ".join(case.name for case in first.study.real),
        count=len(PHANTOMS),
        phantoms=", ".join(f"{region} {seed}" for region, seed in PHANTOMS),
        others=", ".join(OTHER_REAL),
        labelled=", ".join(LABELLED),
        rejected=found.rejected,
        table=ruler(found.reports, WORDS, "the held-out CT"),
        real_ms_ssim=values(first).get("ms-ssim/real/correct", ""),
        protocol=protocol(first),
        reading=_reading(found.reports),
        whole=_beside(found.masks, organs=False),
        artefacts=_beside(found.artefacts, organs=False),
        organs=_beside(found.masks, organs=True),
        trips="\n".join(_trips(found.round_trips)),
    )


def _reading(reports: dict[str, Report]) -> str:
    """What the order of the rows tells, or that it tells nothing."""
    average = {name: number_of(found, "fid", "average") for name, found in reports.items()}
    if average["other-real"] > average["generated"]:
        return (
            "Other real CT lie further from the held-out ones than the generated CT do. That is no "
            "praise: with so few cases these distances tell who was scanned, and how much of them, "
            "before they tell what is real."
        )
    return "Other real CT lie closer to the held-out ones than the generated CT do, as they should."


def _beside(found: Report, *, organs: bool) -> str:
    """Numbers of synthetic cases beside the real ones': whole volumes, or medians of organs."""
    lines = []
    for measured in found.measured:
        real = {n.name: n for n in measured.result.numbers}
        for number in measured.result.numbers:
            role, _, name = number.name.partition("/")
            if role != "synthetic" or number.value is None or ("/" in name) != organs:
                continue
            if organs and (not name.endswith("/median_hu") or name.startswith(MANY)):
                continue
            words = name.removesuffix("/median_hu").replace("_", " ")
            lines.append(f"| {words} | {_cells(number)} | {_cells(real.get(f'real/{name}'))} |")
    return "\n".join(lines)


def _cells(number: Any) -> str:
    if number is None or number.value is None:
        return " | "
    span = "" if number.interval is None else spread(number.interval)
    count = "" if not number.n else f" (n {next(iter(number.n.values()))})"
    digits = ".0f" if abs(number.value) >= 1000 else ".3g"
    return f"{number.value:{digits}} {number.unit}".strip() + f"{count} | {span}"


def _trips(trips: dict[str, dict[str, Any]]) -> list[str]:
    lines = []
    for grid, trip in trips.items():
        for case in trip["cases"]:
            body, whole = case["body"], case["whole"]
            name = Path(case["volume"]).name.removesuffix("_ct.nii.gz")
            lines.append(
                f"| {name} | {grid} | {body['psnr_db']:.1f} | {body['ssim']:.3f} | "
                f"{body['mean_error']:+.1f} | {whole['psnr_db']:.1f} | {whole['ssim']:.3f} |"
            )
    return lines


TEXT = """\
## CT: {model}

Real: the three held-out CT ({real}).
Synthetic: a CT from each of {count} phantoms ({phantoms}) at 3 mm,
seed 0, first try, of which QC rejected {rejected}. The other rows are the ruler: other real CT (the model
and the feature network were trained on them: {others}),
the held-out CT blurred, and the same phantoms painted without any model. Value, and in brackets its
95 % interval over cases.

{table}

MS-SSIM (variant `correct`) between pairs of the real ones: {real_ms_ssim}. Features: {protocol};
window −1000 to 1000 HU. No Inception, no RadImageNet.

{reading}

![Held-out CT beside generated ones](images/quality-ct.png)

### Do they obey their masks, and do they look like CT?

Beside real CT with labels ({labelled}; training cases of the model, and
few: their range is what organs may look like, no target). Medians over cases, with 95 % intervals;
fewer than six cases give their range with the level that it has. Texture and its bars:
[evaluation.md](evaluation.md#texture).

| | generated | interval | real with labels | interval |
|---|---|---|---|---|
{whole}

Seams, noise and slices, beside the held-out CT on their own grids (2 to 5 mm; noise and steps between
slices depend on the grid):

| | generated | interval | held-out | interval |
|---|---|---|---|---|
{artefacts}

By organ (median HU; vertebrae and ribs left out):

| organ | generated | interval | real with labels | interval |
|---|---|---|---|---|
{organs}

### The autoencoder's round trip

Encode and decode, no sampling: the ceiling of what the model can make.
`synthct evaluate reconstruction`, body by threshold and largest component, lungs included, range
2000 HU; on the scans' own grids, and with `--spacing 3 3 3`, which averages fine detail away first.

| | grid | body PSNR, dB | body SSIM | body mean error, HU | whole PSNR, dB | whole SSIM |
|---|---|---|---|---|---|---|
{trips}
"""  # noqa: E501
