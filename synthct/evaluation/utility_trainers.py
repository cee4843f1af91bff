"""Who trains in a utility study: the small network here, a command of one's own, a callable.

A trainer gets training cases and test cases, and returns a label map per test case: class numbers,
1 for the first of the asked organs.
"""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from synthct.errors import InputError, UsageError
from synthct.evaluation.utility_network import NetworkSettings, train_and_predict
from synthct.geometry import Geometry
from synthct.volume.nifti import write_labels, write_volume
from synthct.volume.reading import as_ids, read_image
from synthct.volume.resample import to_ras
from synthct.volume.volume import LabelVolume, Volume

Labels = npt.NDArray[np.uint8]

WINDOW_HU = (-200.0, 300.0)
_LAST = 200


@dataclass(frozen=True, eq=False)
class Sample:
    """A case as the network sees it: HU and class numbers on the study's grid, RAS.

    `sha256` is one hash of its files' hashes.
    """

    name: str
    hu: npt.NDArray[np.float32]
    labels: Labels
    geometry: Geometry
    sha256: str = ""


class Trainer(Protocol):
    """Trains on samples, segments others. `folder` is its own, empty, and is kept."""

    def __call__(
        self, train: Sequence[Sample], test: Sequence[Sample], seed: int, folder: Path
    ) -> Sequence[Labels]: ...


@dataclass(frozen=True)
class SmallNetwork:
    """A BasicUNet of MONAI, trained here."""

    classes: int
    settings: NetworkSettings
    told: Callable[[], None] = lambda: None

    def __call__(
        self, train: Sequence[Sample], test: Sequence[Sample], seed: int, folder: Path
    ) -> Sequence[Labels]:
        pairs = [(_unit(sample.hu), sample.labels) for sample in train]
        images = [_unit(sample.hu) for sample in test]
        return train_and_predict(pairs, images, self.classes, seed, self.settings, self.told)


@dataclass(frozen=True)
class CommandTrainer:
    """A program of one's own: Auto3DSeg, nnU-Net, anything that reads NIfTI.

    `template` is split as a shell would, without a shell; {train}, {test} and {out} become folders,
    {seed} a number. It finds train/images/N_NAME.nii.gz with train/labels/N_NAME.nii.gz (0, 1, …),
    test/images/NAME.nii.gz, and writes out/NAME.nii.gz on the test image's grid.
    """

    template: str

    def __post_init__(self) -> None:
        missing = [word for word in ("{train}", "{test}", "{out}") if word not in self.template]
        if missing:
            raise UsageError(
                f"trainer {self.template!r}: {', '.join(missing)} is not in it",
                "e.g. 'python train.py {train} {test} {out}'",
            )

    def __call__(
        self, train: Sequence[Sample], test: Sequence[Sample], seed: int, folder: Path
    ) -> Sequence[Labels]:
        places = {"train": folder / "train", "test": folder / "test", "out": folder / "out"}
        _write(train, places["train"], labels=True)
        _write(test, places["test"], labels=False)
        places["out"].mkdir(parents=True)
        known: dict[str, Any] = {**places, "seed": seed}
        words = [_filled(word, known) for word in shlex.split(self.template)]
        try:
            done = subprocess.run(
                words, capture_output=True, text=True, check=False, encoding="utf-8"
            )
        except OSError as error:
            raise UsageError(f"trainer {words[0]!r} cannot be run: {error.strerror}") from error
        if done.returncode:
            told = (done.stderr or done.stdout).strip()[-_LAST:]
            raise InputError(f"the trainer failed (exit {done.returncode}): {told}")
        return [_prediction(places["out"] / f"{sample.name}.nii.gz", sample) for sample in test]


def _filled(word: str, known: dict[str, Any]) -> str:
    for key, value in known.items():
        word = word.replace(f"{{{key}}}", str(value))
    return word


def _write(samples: Sequence[Sample], folder: Path, *, labels: bool) -> None:
    (folder / "images").mkdir(parents=True)
    if labels:
        (folder / "labels").mkdir()
    for number, sample in enumerate(samples):
        name = f"{sample.name}.nii.gz"
        if labels:  # a real and a synthetic case may share a name
            name = f"{number:04d}_{name}"
        write_volume(folder / "images" / name, Volume(sample.hu, sample.geometry))
        if labels:
            mask = LabelVolume(sample.labels, sample.geometry)
            write_labels(folder / "labels" / name, mask, {})


def _prediction(path: Path, sample: Sample) -> Labels:
    if not path.is_file():
        raise InputError(f"the trainer wrote no {path.name} into {path.parent.name}/")
    found = to_ras(read_image(path))
    if not found.geometry.same_as(sample.geometry, tolerance_mm=1e-2):
        raise InputError(f"{path.name}: the prediction is not on the test image's grid")
    return as_ids(path, found.array).astype(np.uint8)


def _unit(hu: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    low, high = WINDOW_HU
    shown: npt.NDArray[np.float32] = np.clip((hu - low) / (high - low), 0, 1).astype(np.float32)
    return shown
