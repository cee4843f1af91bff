"""The MR half of `quality.py`: maisi-mini-mr, T1 of the head without a mask.

Real: the held-out heads. Heads are not defaced: the one picture shows axial planes above the eyes.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from head_planes import beside
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
    validation,
    values,
)
from slice_classifier import Told, tell_apart

from synthct.checkpoints.places import embedded_folder
from synthct.evaluation.case import Case
from synthct.evaluation.report import Report
from synthct.workflows.evaluate import find_cases
from synthct.workflows.progress import LineProgress
from synthct.workflows.reconstruction import Codec, evaluate_reconstruction

MODEL = "maisi-mini-mr"
SAMPLES = 16
WORDS = {
    "generated": f"{MODEL}, seeds 0 to {SAMPLES - 1}",
    "other-real": "other real heads (the model and the feature network were trained on them)",
    "blurred": f"the held-out heads themselves, blurred with {BLUR_MM:g} mm",
}


@dataclass(frozen=True)
class FoundMr:
    """Reports and classifiers by name of the set, the copies, the round trip."""

    reports: dict[str, Report]
    told: dict[str, Told]
    leakage: Report
    round_trip: dict[str, Any]


def weights_there(weights: Path | None) -> bool:
    return weights is not None or (embedded_folder(MODEL) / "unet.safetensors").is_file()


def measure(data: Path, work: Path, weights: Path | None = None) -> FoundMr:
    """Everything about the MR model; what lies in `work` already is not made again."""
    held_out = validation(data)
    heads = {p.parent.name: p for p in sorted((data / "mr_brain").glob("ixi*/t1.nii.gz"))}
    files = {name: {f"{n}_T1w.nii.gz": p for n, p in heads.items() if (n in held_out) == kind}
             for name, kind in (("real", True), ("training", False))}  # fmt: skip
    for name, of in files.items():
        links(of, work / name)
    made(work / "generated", lambda folder: _generate(folder, weights))
    names = sorted(files["training"])
    drawn = np.random.default_rng(0).permutation(len(names))[:SAMPLES]
    links({names[n]: files["training"][names[n]] for n in sorted(drawn)}, work / "other-real")
    made(work / "blurred", lambda folder: blurred(work / "real", folder))
    reports = {name: report(work, name, FIGURES) for name in WORDS}
    told = {name: tell_apart(_cases(work / "real"), _cases(work / name)) for name in WORDS}
    copies = {"training": work / "training"}
    return FoundMr(
        reports, told, report(work, "generated", ("leakage",), **copies), _trip(work, weights)
    )


def _generate(folder: Path, weights: Path | None) -> None:
    """As a user would; the first try counts."""
    words = ["generate", "--model", MODEL, "--contrast", "t1", "--samples", str(SAMPLES)]
    words += ["--retries", "0", "-q", "--overwrite", "-o", str(folder / "made")]
    words += [] if weights is None else ["--weights", str(weights)]
    command = [sys.executable, "-W", "ignore", "-m", "synthct", *words]
    code = subprocess.run(command, check=False).returncode
    print(f"generated heads: exit {code}", flush=True)
    found = sorted((folder / "made").rglob("*_T1w.nii.gz"))
    if len(found) < SAMPLES:
        raise SystemExit(f"{len(found)} of {SAMPLES} heads were made")
    for path in found:
        path.rename(folder / path.name)


def _cases(folder: Path) -> tuple[Case, ...]:
    return find_cases(folder, Case("", Path()))


def _trip(work: Path, weights: Path | None) -> dict[str, Any]:
    scans = sorted((work / "real").iterdir())
    return evaluate_reconstruction(scans, Codec(MODEL, weights), progress=LineProgress())


def picture(found: FoundMr) -> bytes:
    """PNG: held-out heads on the left, generated ones on the right, planes above the eyes."""
    study = found.reports["generated"].study
    return beside(study.real, study.synthetic)


# ── the section ───────────────────────────────────────────────────────────────────────────────


def section(found: FoundMr) -> str:
    first = found.reports["generated"]
    known = values(first)
    return TEXT.format(
        model=MODEL,
        real=len(first.study.real),
        training=len(found.leakage.study.training),
        count=len(first.study.synthetic),
        table=ruler(found.reports, WORDS, "the held-out heads"),
        real_ms_ssim=known.get("ms-ssim/real/correct", ""),
        protocol=protocol(first),
        told="\n".join(_told(name, told) for name, told in found.told.items()),
        distances="\n".join(_distances(found.leakage, level) for level in ("volume", "patch")),
        verdict=_verdict(found.leakage),
        trip=_round_trip(found.round_trip),
    )


def _told(name: str, told: Told) -> str:
    planes = " | ".join(f"{told.planes[p]:.2f}" for p in ("axial", "coronal", "sagittal"))
    return (
        f"| {WORDS[name]} | {told.slices:.2f} | {planes} | {told.cases:.2f} | "
        f"{told.slice_count} of {told.case_count} cases |"
    )


def _distances(found: Report, level: str) -> str:
    known = values(found)
    names = (
        "nearest_training",
        "nearest_training_of_held_out",
        "membership",
        "copies",
        "false_alarms",
    )
    return f"| {level} | " + " | ".join(known.get(f"leakage/{level}/{n}", "") for n in names) + " |"


def _verdict(found: Report) -> str:
    """Whether generated heads lie no closer to the training heads than held-out ones do."""
    lines = []
    for level, words in (("volume", "whole volumes"), ("patch", "patches")):
        ours = number_of(found, "leakage", f"{level}/nearest_training")
        theirs = number_of(found, "leakage", f"{level}/nearest_training_of_held_out")
        reading = "no closer" if ours >= theirs else "closer"
        lines.append(
            f"By {words} generated heads lie {reading} to their nearest training head than "
            f"held-out heads do (medians {ours:.3g} and {theirs:.3g})."
        )
    return " ".join(lines)


def _round_trip(trip: dict[str, Any]) -> str:
    lines = []
    for where in ("body", "whole"):
        psnr = [case[where]["psnr_db"] for case in trip["cases"]]
        ssim = [case[where]["ssim"] for case in trip["cases"]]
        lines.append(
            f"| {where} | {median(psnr):.1f} ({min(psnr):.1f} to {max(psnr):.1f}) | "
            f"{median(ssim):.3f} ({min(ssim):.3f} to {max(ssim):.3f}) |"
        )
    return "\n".join(lines)


TEXT = """\
## MR: {model}

T1 of the head without a mask. Real: the {real} held-out heads of IXI. Synthetic: {count} heads, first
try. The other rows are the ruler. Value, and in brackets its 95 % interval over cases.

{table}

MS-SSIM (variant `correct`) between pairs of the real ones: {real_ms_ssim}. Features: {protocol}; 0 to the
99.5th percentile of each volume.

![Held-out heads left, generated ones right: axial planes of the brain](images/quality-mr.png)

Planes 38, 48 and 58 mm below the vertex, four held-out heads on the left, four generated ones on the
right. The heads are not defaced, so no plane with a face is shown.

### Can a classifier tell?

A small network of four convolutions, trained on one half of the cases and asked about the other, and
the other way round (`benchmarks/slice_classifier.py`): share of right answers about held-out heads
against the set of the row, both weighing the same. 0.5: it cannot tell. The row of other real heads
is what chance leaves, that of the blurred ones what an easy task gives.

| held-out heads against | slices | axial | coronal | sagittal | cases (most of their slices) | n |
|---|---|---|---|---|---|---|
{told}

### Does it copy?

Distances to the nearest of the {training} training heads, √(2 − 2ρ), 0 for a copy (median, interval);
membership: the chance that a generated head lies closer to the training set than a held-out one.

| by | generated | held-out | membership | called copies | false alarms on held-out |
|---|---|---|---|---|---|
{distances}

{verdict}

### The autoencoder's round trip

Over the {real} held-out heads as stored (2 mm), range 0 to the 99.5th percentile; median, lowest and
highest. Body: brighter than 5 % of that range.

| | PSNR, dB | SSIM |
|---|---|---|
{trip}

Skull-stripped heads were not measured: there are no held-out ones.
"""  # noqa: E501
