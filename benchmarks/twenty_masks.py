"""The embedded CT model on 20 masks at 3 mm: does it obey, does it look like CT?

    python benchmarks/twenty_masks.py /path/to/data --work FOLDER [--weights DIR]

DATA has `ct/ts-example/labels.nii.gz` and `ct_labels_only/ts-s0327/labels.nii.gz`. The masks are
ten phantoms (seeds 0 to 9, chest and abdomen in turn) and those two label maps, each as it is and
in four changes that keep every label true: smaller, larger, turned, and cut shorter. One try a
mask. What lies in the folder is not made again. Exit code 1 if a bar is missed.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt
from obedience import figures
from scipy import ndimage

from synthct.evaluation.case import Case
from synthct.evaluation.texture import KNOWN, SEEDS_BAR, residual_correlation, texture
from synthct.evaluation.texture_metric import on_grid
from synthct.volume.reading import read_image, read_labels
from synthct.workflows.phantom import write_phantom

REAL = {
    "ts-example": "ct/ts-example/labels.nii.gz",
    "ts-s0327": "ct_labels_only/ts-s0327/labels.nii.gz",
}
SPACING_MM = (3.0, 3.0, 3.0)
PHANTOMS = tuple((("chest", "abdomen")[n % 2], n) for n in range(10))
CHANGES = {  # scale along R, A, S; degrees about S; share of the slices that stay
    "as-is": ((1.0, 1.0, 1.0), 0.0, 1.0),
    "smaller": ((0.93, 0.9, 0.95), 0.0, 1.0),
    "larger": ((1.06, 1.08, 1.03), 0.0, 1.0),
    "turned": ((1.0, 1.0, 1.0), 8.0, 1.0),
    "shorter": ((0.98, 1.02, 1.0), -4.0, 0.8),
}
SEEDS = ("ts-example-as-is", "chest-0")
"""Masks of which a second seed is made, to hold the textures against each other."""
BARS = {
    "lung_under_-400": (0.90, 1.0),
    "solid_under_-400": (0.0, 0.02),
    "bone_dice": (0.65, 0.97),
    "median_liver": (21.0, 114.0),
    "median_spleen": (9.0, 105.0),
    **{name: (known.bar, math.inf) for name, known in KNOWN.items()},
}
QC_BAR = 0.95
Rows = dict[str, dict[str, float]]


def main() -> int:
    options = _options()
    masks = options.work / "masks"
    masks.mkdir(parents=True, exist_ok=True)
    for name, mask in REAL.items():
        changed(options.data / mask, name, masks)
    for region, seed in PHANTOMS:
        path = masks / f"{region}-{seed}.nii.gz"
        if not path.exists():
            write_phantom(path, region=region, spacing_mm=SPACING_MM, seed=seed)
    passed = {path.name.removesuffix(".nii.gz"): _made(path, 0, options) for path in _sorted(masks)}
    rows = {name: _figures(_case(options.work, name, 0)) for name in passed}
    missed = report(rows, passed)
    for name in SEEDS:
        _made(masks / f"{name}.nii.gz", 1, options)
        value = _between(*(_case(options.work, name, seed) for seed in (0, 1)))
        print(f"residuals in the liver of two seeds, {name}: {value:.3f} (bar under {SEEDS_BAR})")
        missed += value >= SEEDS_BAR
    (options.work / "figures.json").write_text(
        json.dumps({"rows": rows, "qc": passed}, indent=2), encoding="utf-8"
    )
    return int(missed > 0)


def changed(source: Path, name: str, folder: Path) -> None:
    """Write the label map in every change of `CHANGES`; nearest neighbour, so no label is new."""
    image = nib.as_closest_canonical(nib.load(source))
    labels = np.asarray(image.dataobj).astype(np.uint8)
    for change, (scale, degrees, kept) in CHANGES.items():
        path = folder / f"{name}-{change}.nii.gz"
        if path.exists():
            continue
        moved = _moved(labels, scale, degrees)
        first = round(labels.shape[2] * (1 - kept) / 2)
        moved = moved[:, :, first : labels.shape[2] - first]
        nib.save(nib.Nifti1Image(moved, image.affine), path)


def _moved(
    labels: npt.NDArray[np.uint8], scale: tuple[float, float, float], degrees: float
) -> npt.NDArray[np.uint8]:
    """Scaled and turned about the middle, on a grid that holds all of it."""
    angle = math.radians(degrees)
    turn = np.array(
        [[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0], [0, 0, 1]]
    )
    back = np.linalg.inv(turn @ np.diag(scale))
    old = np.array(labels.shape)
    new = np.ceil(np.abs(turn @ np.diag(scale)) @ old).astype(int)
    offset = (old - 1) / 2 - back @ ((new - 1) / 2)
    return ndimage.affine_transform(
        labels, back, offset, output_shape=tuple(new), order=0, output=np.uint8
    )


def _made(mask: Path, seed: int, options: argparse.Namespace) -> bool:
    """Generate with one try, as a user would; whether QC let it pass."""
    stem = mask.name.removesuffix(".nii.gz")
    out = options.work / "out"
    good, bad = (folder / f"{stem}_seed-{seed}_ct.nii.gz" for folder in (out, out / "rejected"))
    if not list(out.rglob(good.name)):
        scheme = "totalsegmentator" if stem.startswith(tuple(REAL)) else "maisi"
        words = ["generate", "--mask", str(mask), "--labels", scheme, "--spacing", "3", "3", "3"]
        words += ["--seed", str(seed), "--retries", "0", "-q", "-o", str(out), "--overwrite"]
        words += ["--weights", str(options.weights)] if options.weights else []
        words += ["--steps", str(options.steps)] if options.steps else []
        subprocess.run([sys.executable, "-W", "ignore", "-m", "synthct", *words], check=False)
    return bool(list(out.rglob(good.name))) and not bad.exists()


def _case(work: Path, stem: str, seed: int) -> Case:
    image = next((work / "out").rglob(f"{stem}_seed-{seed}_ct.nii.gz"))
    return Case(stem, image, image.with_name(image.name.replace("_ct.nii", "_dseg.nii")))


def _figures(case: Case) -> dict[str, float]:
    assert case.labels is not None
    hu, ids = read_image(case.image).array, read_labels(case.labels).labels.array
    volume, labels = on_grid(case, SPACING_MM[0])
    return {
        **figures(hu, ids),
        **texture(volume.array, labels.array, volume.geometry.spacing_mm),
    }


def _between(one: Case, other: Case) -> float:
    volume, labels = on_grid(one, SPACING_MM[0])
    return residual_correlation(volume.array, on_grid(other, SPACING_MM[0])[0].array, labels.array)


def report(rows: Rows, passed: dict[str, bool]) -> int:
    """A table of the cases against the bars; how many bars are missed by the median or by QC."""
    print("| case | QC | " + " | ".join(BARS) + " |")
    print("|---" * (len(BARS) + 2) + "|")
    for name, row in rows.items():
        cells = " | ".join(_cell(row.get(bar, math.nan), *BARS[bar]) for bar in BARS)
        print(f"| {name} | {'passed' if passed[name] else 'failed'} | {cells} |")
    middles = {bar: float(np.nanmedian([row[bar] for row in rows.values()])) for bar in BARS}
    cells = " | ".join(_cell(middles[bar], *BARS[bar]) for bar in BARS)
    rate = sum(passed.values()) / len(passed)
    print(f"| median | {sum(passed.values())} of {len(passed)} | {cells} |")
    hit = {b: np.nanmean([_within(r[b], *BARS[b]) for r in rows.values()]) for b in BARS}
    print("| share within | | " + " | ".join(f"{hit[bar]:.0%}" for bar in BARS) + " |")
    return sum(not _within(middles[bar], *BARS[bar]) for bar in BARS) + (rate < QC_BAR)


def _within(value: float, low: float, high: float) -> float:
    return math.nan if math.isnan(value) else float(low <= value <= high)


def _cell(value: float, low: float, high: float) -> str:
    if math.isnan(value):
        return "–"
    return f"{value:.3g}" + ("" if low <= value <= high else " !")


def _sorted(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.nii.gz"))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("data", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--steps", type=int, help="of sampling; the model's own by default")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
