"""Does the generated CT follow its mask? The figures of the embedded model's card, measured.

    python benchmarks/obedience.py DIR_OR_VOLUME …          # what `generate` wrote
    python benchmarks/obedience.py --image ct.nii.gz --labels-file seg.nii.gz --scheme NAME

Per volume: share of lung under −400 HU, share of solid organ, muscle and bone under −400 HU, Dice
of voxels over 100 HU (among bone, muscle and bare body) with the bone labels, organ medians.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from synthct.evaluation.agreement import thresholds
from synthct.labels.groups import MUSCLES
from synthct.labels.remap import remap
from synthct.labels.scheme import load_scheme
from synthct.volume.reading import read_image, read_labels

ORGANS = {"liver": (1,), "spleen": (3,), "kidney": (5, 14), "muscle": MUSCLES}


SHOWN = ("lung_under_-400", "solid_under_-400", "bone_dice")


def figures(hu: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    shares = thresholds(hu, labels, (1.0, 1.0, 1.0), body=False)
    found = {name: shares[name] for name in SHOWN}
    for name, ids in ORGANS.items():
        inside = hu[np.isin(labels, ids)]
        found[f"median_{name}"] = float(np.median(inside)) if inside.size else float("nan")
    return {name: round(value, 4) for name, value in found.items()}


def _pairs(options: argparse.Namespace) -> Iterator[tuple[Path, Path]]:
    if options.image:
        yield options.image, options.labels_file
    for path in options.paths:
        images = sorted(path.rglob("*_ct.nii.gz")) if path.is_dir() else [path]
        for image in images:
            yield image, image.with_name(image.name.replace("_ct.nii", "_dseg.nii"))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("paths", nargs="*", type=Path)
    parser.add_argument("--image", type=Path)
    parser.add_argument("--labels-file", type=Path)
    parser.add_argument("--scheme", default="maisi")
    options = parser.parse_args()
    for image, labels in _pairs(options):
        ids, _ = remap(read_labels(labels).labels.array, load_scheme(options.scheme))
        print(json.dumps({"case": image.name, **figures(read_image(image).array, ids)}))


if __name__ == "__main__":
    main()
