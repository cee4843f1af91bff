"""How often does the rule for copies err? Other people called copies, and copies missed, counted.

    python benchmarks/leakage.py DATA [--only phantoms-6mm]

DATA has ct/CASE/image.nii.gz and mr_brain/CASE/t1.nii.gz. In each population some people are the
training set, some are held out, and the rest stand for honest synthetic cases; of training cases
copies are planted: the same, noisy, flipped, shifted, turned, all at once. Each case is judged with
the held-out scans as reference and without. Prints the rows of the table in docs/evaluation.md,
with exact 95 % intervals.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from synthct.evaluation.bootstrap import share_interval
from synthct.evaluation.leakage import COPY_RATIO, Level
from synthct.evaluation.leakage_patches import asked, smoothed
from synthct.evaluation.leakage_patches import nearest as nearest_patches
from synthct.evaluation.leakage_volumes import coarse, matches, rotate
from synthct.labels.render import render_hu
from synthct.phantom.phantom import make_phantom_with_tissues
from synthct.volume.reading import read_image
from synthct.volume.resample import to_ras
from synthct.volume.volume import Volume

Array = npt.NDArray[np.float32]
SHIFT_MM = (14.0, -8.0, 7.0)
TURN_DEG = (3.0, -4.0, 5.0)
NOISE = {"CT": 30.0, "MR": 0.05}  # HU; share of the bright end
SAME_PERSON = ("flt-breast-001b", "flt-breast-001c", "ts-example-slab")
COPIED = 15  # training cases that are planted, in every form


@dataclass(frozen=True)
class People:
    """Who is in a population: how each is read, and how many train and are held out."""

    title: str
    read: Sequence[Callable[[], Volume]]
    training: int
    held_out: int


def phantoms(spacing_mm: float, count: int = 90) -> People:
    """Abdomens and chests in turn, drawn; nobody twice."""

    def person(seed: int) -> Volume:
        grid = (spacing_mm,) * 3
        region = ("abdomen", "chest")[seed % 2]
        labels, tissues = make_phantom_with_tissues(region, grid, seed)
        hu = render_hu(labels.array, tissues, grid, np.random.default_rng([seed, 1]))
        return Volume(hu, labels.geometry)

    read = [lambda seed=seed: person(seed) for seed in range(500, 500 + count)]
    return People(f"phantoms, CT drawn at {spacing_mm:g} mm", read, 20, 10)


def real_ct(data: Path) -> People:
    """All CT but second scans of one person, in an order drawn once."""
    folders = [p.parent for p in sorted((data / "ct").glob("*/image.nii.gz"))]
    names = [p for p in folders if p.name not in SAME_PERSON]
    order = np.random.default_rng(6).permutation(len(names))
    read = [lambda path=names[n] / "image.nii.gz": scan(path, "CT") for n in order]
    return People("real CT", read, 12, 5)


def real_mr(data: Path) -> People:
    paths = sorted((data / "mr_brain").glob("ixi*/t1.nii.gz"))
    order = np.random.default_rng(6).permutation(len(paths))
    read = [lambda path=paths[n]: scan(path, "MR") for n in order]
    return People("real MR, T1 heads", read, 30, 20)


def scan(path: Path, modality: str) -> Volume:
    volume = to_ras(read_image(path, modality))
    fill = -1000.0 if modality == "CT" else 0.0
    return volume.with_array(np.nan_to_num(volume.array, nan=fill))


def copies(volume: Volume, seed: int) -> dict[str, Volume]:
    """A training case as a model that kept it might give it back."""
    fill = -1000.0 if volume.modality == "CT" else 0.0
    size = NOISE[volume.modality]
    if volume.modality != "CT":
        size *= float(np.percentile(volume.array, 99.5))
    array = volume.array.astype(np.float32)
    noise = np.random.default_rng([seed, 7]).normal(0, size, array.shape)
    voxels = np.asarray(SHIFT_MM) / volume.geometry.spacing_mm
    shifted = ndimage.shift(array, voxels, order=1, cval=fill)
    isotropic = max(volume.geometry.spacing_mm) < 1.1 * min(volume.geometry.spacing_mm)
    turn = TURN_DEG if isotropic else (0.0, 0.0, TURN_DEG[2])  # in plane where slices are thick
    made = {
        "same": array,
        "noisy": array + noise,
        "flipped": array[::-1],
        "shifted": shifted,
        "turned": rotate(array, turn, fill=fill),
        "all at once": rotate(shifted[::-1], turn, fill=fill) + noise,
    }
    return {name: volume.with_array(np.asarray(a, np.float32)) for name, a in made.items()}


@dataclass(frozen=True)
class Judged:
    """Ratios of the others and of the copies (by form) at one level; NaN: it cannot ask."""

    others: Array
    copied: dict[str, Array]

    def called(self, bar: float) -> tuple[Array, Array]:
        """Which others, and which copies (all forms), are called copies."""
        return self.others < bar, np.concatenate(list(self.copied.values())) < bar


def judged(people: People) -> dict[str, Judged]:
    """By level, and by whether held-out scans were the reference."""
    volumes = [read() for read in people.read]
    training, rest = volumes[: people.training], volumes[people.training :]
    held_out, others = rest[: people.held_out], rest[people.held_out :]
    planted = [copies(volume, n) for n, volume in enumerate(training[:COPIED])]
    forms = list(planted[0])
    queries = [*others, *(made[form] for form in forms for made in planted)]
    found = {
        "volume": by_volume([*queries, *held_out], training),
        "patch": by_patch([*queries, *held_out], training),
    }
    result = {}
    for level, distances in found.items():
        ours, usual = distances[: len(queries)], distances[len(queries) :]
        usual = usual[np.isfinite(usual).all(axis=1)]
        for words, reference in (("held out", usual), ("none", usual[:0])):
            ratios = Level(level, ours, ours[:, :0], reference).ratios()
            ratios[np.isnan(ours).any(axis=1)] = np.nan
            alone, parts = ratios[: len(others)], ratios[len(others) :].reshape(len(forms), -1)
            result[f"{level}, {words}"] = Judged(alone, dict(zip(forms, parts, strict=True)))
    return result


def by_volume(queries: Sequence[Volume], training: Sequence[Volume]) -> npt.NDArray[np.float64]:
    rows = matches([coarse(v) for v in queries], [coarse(v) for v in training])
    table = np.zeros((len(queries), len(training)))
    for line, row in zip(table, rows, strict=True):
        for match in row:
            line[match.target] = match.distance
    return table


def by_patch(queries: Sequence[Volume], training: Sequence[Volume]) -> npt.NDArray[np.float64]:
    targets = [smoothed(v) for v in training]
    found = nearest_patches(
        [asked(smoothed(v), 0) for v in queries], [lambda array=array: array for array in targets]
    )
    return np.array(
        [np.median(o, axis=1) if o.size else np.full(len(training), np.nan) for o in found]
    )


def told(people: People, found: dict[str, Judged]) -> list[str]:
    """Rows of a table: each level, and a case that either level calls a copy."""
    lines = []
    for words in ("held out", "none"):
        both = {level: found[f"{level}, {words}"] for level in COPY_RATIO}
        reference = f"{people.held_out} held out" if words == "held out" else "none"
        start = f"| {people.title} | {people.training} | {reference} |"
        for level, of in both.items():
            others, every = of.called(COPY_RATIO[level])
            worst = max(of.copied, key=lambda form: float(np.nanmax(of.copied[form])))
            ratios = np.concatenate(list(of.copied.values()))
            lines.append(
                f"{start} {level} | {counted(others, of.others)} | {np.nanmin(of.others):.2f} | "
                f"{counted(every, ratios)} | {np.nanmax(ratios):.2f} ({worst}) |"
            )
        flags = [of.called(COPY_RATIO[level]) for level, of in both.items()]
        others, every = (np.any(part, axis=0) for part in zip(*flags, strict=True))
        lines.append(f"{start} either | {counted(others)} | | {counted(every)} | |")
    return lines


def counted(flags: Array, ratios: Array | None = None) -> str:
    """Of the cases that the level can ask."""
    known = np.ones(len(flags), bool) if ratios is None else np.isfinite(ratios)
    return share(int(flags[known].sum()), int(known.sum()))


def share(hits: int, cases: int) -> str:
    spread = share_interval(hits, cases)
    return f"{hits} of {cases} ({spread.low:.2f} to {spread.high:.2f})"


HEAD = (
    "| people | in training | reference | level | others called copies | lowest ratio "
    "| copies found | highest ratio |"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    populations: dict[str, Callable[[], People]] = {
        "phantoms-6mm": lambda: phantoms(6.0),
        "phantoms-3mm": lambda: phantoms(3.0),
        "ct": lambda: real_ct(options.data),
        "mr": lambda: real_mr(options.data),
    }
    print(HEAD)
    for name, population in populations.items():
        if options.only in ("", name):
            people = population()
            print("\n".join(told(people, judged(people))), flush=True)


if __name__ == "__main__":
    main()
