"""How often is a seam seen that is there, and one that is not? Counted on real CT and phantoms.

    python benchmarks/seams.py DATA

DATA has ct/CASE/image.nii.gz. Every axis with enough tissue is judged as it is, and with a step of
15 HU planted at five places of it. Prints the rows of the table in docs/evaluation.md.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from leakage import phantoms, scan, share

from synthct.errors import MaskError
from synthct.evaluation.artefacts import Hu, Mask, Seam, seams_along
from synthct.geometry import Spacing
from synthct.labels.body import body_from_ct
from synthct.volume.volume import Volume

STEP_HU = 15.0
PLACES = (0.1, 0.3, 0.5, 0.7, 0.9)  # of the planes that have enough tissue
_AIR_HU = -900.0


@dataclass(frozen=True)
class Axis:
    """One axis: whether it was flagged as it is, and of the planted steps, how many were, there."""

    case: int
    flagged: bool
    planted: int
    found: int


def judged(number: int, volume: Volume) -> Iterator[Axis]:
    """Every axis of a volume that has enough tissue for a seam to be looked for."""
    spacing = volume.geometry.spacing_mm
    try:
        inside = body_from_ct(volume.array, spacing, superior_axis=2)
    except MaskError:
        return
    for axis in range(3):
        seams = seams_along(volume.array, inside, spacing, axis)
        if seams:
            places = [seams[round(p * (len(seams) - 1))].plane for p in PLACES]
            hits = sum(_found(volume.array, inside, spacing, axis, at) for at in places)
            yield Axis(number, _worst(seams).flagged, len(places), hits)


def _found(hu: Hu, inside: Mask, spacing: Spacing, axis: int, at: int) -> bool:
    """Whether a step between planes `at` and `at` + 1 is the seam that is reported, and flagged."""
    planted = np.moveaxis(hu.copy(), axis, 0)
    planted[at + 1 :] += STEP_HU * (planted[at + 1 :] > _AIR_HU)
    worst = _worst(seams_along(np.moveaxis(planted, 0, axis), inside, spacing, axis))
    return worst.flagged and worst.plane == at


def _worst(seams: Sequence[Seam]) -> Seam:
    return max(seams, key=lambda seam: seam.score)


def told(title: str, axes: Sequence[Axis]) -> str:
    cases = {axis.case for axis in axes}
    flagged = {axis.case for axis in axes if axis.flagged}
    return (
        f"| {title} | {share(len(flagged), len(cases))} | "
        f"{share(sum(a.flagged for a in axes), len(axes))} | "
        f"{share(sum(a.found for a in axes), sum(a.planted for a in axes))} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path)
    options = parser.parse_args()
    warnings.simplefilter("ignore", RuntimeWarning)
    paths = sorted((options.data / "ct").glob("*/image.nii.gz"))
    sets: dict[str, Sequence[Callable[[], Volume]]] = {
        "phantoms, CT drawn at 4 mm": phantoms(4.0, 20).read,
        "real CT": [partial(scan, path, "CT") for path in paths],
    }
    print("| volumes | cases flagged as they are | axes flagged | steps of 15 HU flagged, there |")
    for title, readers in sets.items():
        axes = [axis for n, read in enumerate(readers) for axis in judged(n, read())]
        print(told(title, axes), flush=True)


if __name__ == "__main__":
    main()
