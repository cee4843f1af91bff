"""The trainings of a utility study, one per arm and fold; one that was done is not done again."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import isnan, nan
from pathlib import Path
from typing import Any

from synthct.atomic import write_text
from synthct.errors import InputError
from synthct.evaluation.agreement import dice
from synthct.evaluation.utility import Arm, training_set
from synthct.evaluation.utility_trainers import CommandTrainer, Sample, SmallNetwork, Trainer
from synthct.record import fingerprint, sha256_of

Scores = dict[str, dict[str, float]]
"""Test case → organ → Dice (NaN: neither mask nor prediction has it)."""


@dataclass(frozen=True)
class KeptRuns:
    """The scores of trainings by all that they depend on, as JSON under `folder`; None: not kept.

    What depends on a callable alone is not kept: it has no name that tells it from another.
    """

    folder: Path | None = None

    def path(self, trainer: Trainer, depends: Mapping[str, Any]) -> Path | None:
        told = _told(trainer)
        if self.folder is None or told is None:
            return None
        return self.folder / f"{fingerprint({'trainer': told, **depends})[:32]}.json"

    @staticmethod
    def read(path: Path | None) -> Scores | None:
        """None where there is none, or one that is damaged."""
        try:
            stored = json.loads(path.read_text(encoding="utf-8")) if path is not None else None
            return None if stored is None else _numbers(stored["scores"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    @staticmethod
    def write(path: Path | None, scores: Scores) -> None:
        if path is not None:
            plain = {
                case: {organ: None if isnan(value) else value for organ, value in of.items()}
                for case, of in scores.items()
            }
            write_text(path, json.dumps({"scores": plain}, indent=1) + "\n", overwrite=True)


def _numbers(scores: Mapping[str, Mapping[str, Any]]) -> Scores:
    return {
        case: {organ: nan if value is None else float(value) for organ, value in of.items()}
        for case, of in scores.items()
    }


def _told(trainer: Trainer) -> dict[str, Any] | None:
    """What a trainer's answer depends on: settings; a command's words and the files among them."""
    if isinstance(trainer, SmallNetwork):
        return {"network": "MONAI BasicUNet", **asdict(trainer.settings)}
    if not isinstance(trainer, CommandTrainer):
        return None
    files = [Path(word) for word in shlex.split(trainer.template) if Path(word).is_file()]
    return {"command": trainer.template, "files": [sha256_of(path) for path in files]}


@dataclass
class Runs:
    """The trainings of one study; remembers how many cases each arm had.

    Attributes:
        real, synthetic: the cases on the study's grid.
        groups: the subject of each real case.
        listed: case → subject, as the user gave it.
        seed: of draws and trainings.
        train: who trains.
        work: where trainers write.
        kept: what was done before.
        sizes: by arm, the training cases of each fold.
        left_out: synthetic cases that were not beside their own test case.
        short: arms with fewer synthetic cases than asked.
        found: how many trainings were done before.
    """

    real: Sequence[Sample]
    synthetic: Sequence[Sample]
    groups: Sequence[str]
    listed: Mapping[str, str]
    seed: int
    train: Trainer
    work: Path
    kept: KeptRuns = field(default_factory=KeptRuns)
    sizes: dict[str, list[int]] = field(default_factory=dict)
    left_out: set[str] = field(default_factory=set)
    short: set[str] = field(default_factory=set)
    found: int = 0

    def one(self, arm: Arm, fold: int, test: Sequence[int], organs: Sequence[str]) -> Scores:
        """Scores of one arm in one fold, from an earlier run where that had the same cases."""
        chosen = self._chosen(arm, fold, test)
        tested = [self.real[n] for n in test]
        path = self.kept.path(self.train, self._depends(chosen, tested, fold, organs))
        known = self.kept.read(path)
        if known is not None and list(known) == [sample.name for sample in tested]:
            self.found += 1
            return known
        folder = self.work / f"fold-{fold}" / arm.name
        folder.mkdir(parents=True)
        predicted = self.train(chosen, tested, self.seed + fold, folder)
        pairs = zip(tested, predicted, strict=True)
        scores = {sample.name: _dices(labels, sample.labels, organs) for sample, labels in pairs}
        self.kept.write(path, scores)
        return scores

    def _chosen(self, arm: Arm, fold: int, test: Sequence[int]) -> list[Sample]:
        """What the arm trains on in this fold."""
        real = [s for n, s in enumerate(self.real) if n not in test]
        allowed = self._allowed(test)
        chosen = training_set(arm, real, allowed, self.seed)
        wanted = 0 if arm.ratio is None else round(arm.ratio * len(real))
        if wanted > len(allowed):
            self.short.add(arm.name)
        self.sizes.setdefault(arm.name, []).append(len(chosen))
        if not chosen:
            raise InputError(f"arm {arm.name}: no case to train on in fold {fold}")
        return chosen

    def _allowed(self, test: Sequence[int]) -> list[Sample]:
        """Synthetic cases that were not made from a test case's mask."""
        subjects = {self.groups[n] for n in test}
        masks = {print_of(self.real[n]) for n in test}
        kept = []
        for sample in self.synthetic:
            if self.listed.get(sample.name) in subjects or print_of(sample) in masks:
                self.left_out.add(sample.name)
            else:
                kept.append(sample)
        return kept

    def _depends(
        self, chosen: Sequence[Sample], tested: Sequence[Sample], fold: int, organs: Sequence[str]
    ) -> dict[str, Any]:
        """All that a training's scores depend on beside its trainer; order matters."""
        return {
            "seed": self.seed + fold,
            "organs": list(organs),
            "train": [_identity(sample) for sample in chosen],
            "test": [_identity(sample) for sample in tested],
        }


def print_of(sample: Sample) -> str:
    """Of the mask's voxels; equal masks are one person's."""
    return hashlib.sha256(sample.labels.tobytes()).hexdigest()


def _identity(sample: Sample) -> list[Any]:
    """A case on its grid: name, files, mask as it was read, voxels, spacing."""
    geometry = sample.geometry
    return [sample.name, sample.sha256, print_of(sample), geometry.shape, geometry.spacing_mm]


def _dices(found: Any, labels: Any, organs: Sequence[str]) -> dict[str, float]:
    return {name: dice(found == n, labels == n) for n, name in enumerate(organs, 1)}
