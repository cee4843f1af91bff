"""Does a generated CT look like one? Figures of texture, case by case, beside a real scan's.

    python benchmarks/realism.py OUT_DIR                                  # what `generate` wrote
    python benchmarks/realism.py OUT_DIR --real ct.nii.gz --real-labels seg.nii.gz

The figures are defined in `synthct/evaluation/texture.py`; they are of one spacing (3 mm), to which
other volumes are resampled. Cases of one mask with several seeds are also held against each other.
A figure that misses its bar is followed by `!`. Exit code 1 if any does.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from itertools import combinations
from pathlib import Path

from synthct.evaluation.case import Case
from synthct.evaluation.texture import KNOWN, SEEDS_BAR, residual_correlation, texture
from synthct.evaluation.texture_metric import on_grid
from synthct.workflows.pairs import find_pairs

SHOWN = ("fat_share", "muscle_share", "between_share", "fat_hu", "muscle_hu", "edge_hu")


def main() -> int:
    options = _options()
    cases = [Case(p.name, p.image, p.labels) for p in find_pairs(options.paths).pairs]
    rows = {case.name: _figures(case, options.spacing) for case in cases}
    real = _real(options)
    _print_table(rows, real)
    between = _between_seeds(cases, options.spacing)
    for name, value in between.items():
        print(f"residuals in the liver, {name}: {value:.3f} (bar under {SEEDS_BAR})")
    if options.json:
        content = {"real": real, "cases": rows, "between_seeds": between}
        options.json.write_text(json.dumps(content, indent=2), encoding="utf-8")
    missed = any(row[name] < known.bar for row in rows.values() for name, known in KNOWN.items())
    return int(missed or any(value >= SEEDS_BAR for value in between.values()))


def _figures(case: Case, spacing_mm: float) -> dict[str, float]:
    volume, labels = on_grid(case, spacing_mm)
    return texture(volume.array, labels.array, volume.geometry.spacing_mm)


def _real(options: argparse.Namespace) -> dict[str, float]:
    if options.real is None:
        return {name: known.real for name, known in KNOWN.items()}
    case = Case("real", options.real, options.real_labels, scheme=options.scheme)
    return _figures(case, options.spacing)


def _between_seeds(cases: list[Case], spacing_mm: float) -> dict[str, float]:
    found = {}
    for first, second in combinations(cases, 2):
        if first.labels_sha256 == second.labels_sha256:
            one, labels = on_grid(first, spacing_mm)
            other, _ = on_grid(second, spacing_mm)
            value = residual_correlation(one.array, other.array, labels.array)
            if not math.isnan(value):
                found[f"{first.name} and {second.name}"] = value
    return found


def _print_table(rows: dict[str, dict[str, float]], real: dict[str, float]) -> None:
    names = [*KNOWN, *SHOWN]
    print("| case | " + " | ".join(names) + " |")
    print("|---" * (len(names) + 1) + "|")
    print(
        "| bar | " + " | ".join(f"≥ {KNOWN[n].bar:g}" if n in KNOWN else "" for n in names) + " |"
    )
    print("| real | " + " | ".join(f"{real[n]:.3g}" if n in real else "" for n in names) + " |")
    for case, row in rows.items():
        cells = (
            f"{row[n]:.3g}{' !' if n in KNOWN and row[n] < KNOWN[n].bar else ''}" for n in names
        )
        print(f"| {case} | " + " | ".join(cells) + " |")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("paths", nargs="+", type=Path)
    parser.add_argument("--real", type=Path)
    parser.add_argument("--real-labels", type=Path)
    parser.add_argument("--scheme", default="auto", help="of the real scan's labels")
    parser.add_argument("--spacing", type=float, default=3.0, help="mm")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
