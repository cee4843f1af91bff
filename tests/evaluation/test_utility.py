"""Utility: folds, draws and the test between arms; the small network learns."""

from __future__ import annotations

from itertools import product
from math import isnan, nan

import numpy as np
import pytest
import torch
from PIL import Image

from synthct.errors import InputError
from synthct.evaluation.utility import (
    Arm,
    arms_of,
    compared,
    folds_by_subject,
    mean_of,
    training_set,
)
from synthct.evaluation.utility_network import NetworkSettings, train_and_predict
from synthct.evaluation.utility_plot import plot_png


def test_every_case_is_tested_once_and_subjects_stay_together() -> None:
    subjects = ["a", "a", "b", "c", "c", "c", "d", "e", "f", "f"]
    parts = folds_by_subject(subjects, 3, seed=1)
    assert sorted(n for part in parts for n in part) == list(range(10))
    for first, second in product(parts, parts):
        if first is not second:
            assert not {subjects[n] for n in first} & {subjects[n] for n in second}
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert folds_by_subject(subjects, 3, seed=1) == parts


def test_too_few_subjects() -> None:
    with pytest.raises(InputError, match=r"2 subjects for 3 folds.*at least 3"):
        folds_by_subject(["a", "a", "b"], 3, seed=0)


def test_arms() -> None:
    arms = {arm.name: arm for arm in arms_of([0.5, 1.5])}
    real, synthetic = [f"r{n}" for n in range(4)], [f"s{n}" for n in range(9)]
    sets = {name: training_set(arm, real, synthetic, 0) for name, arm in arms.items()}
    assert sets["real"] == real
    assert sorted(sets["synthetic"]) == synthetic
    assert len(sets["real+0.5"]) == 6
    assert len(sets["real+1.5"]) == 10
    assert set(sets["real+0.5"]) < set(sets["real+1.5"])
    assert len(training_set(Arm("much", True, 5.0), real, synthetic, 0)) == 13
    with pytest.raises(InputError, match="over 0"):
        arms_of([0.0])


def test_the_signed_rank_test_is_that_of_all_sign_flips() -> None:
    """The exact distribution: every assignment of signs to the ranks is as likely."""
    real = [0.50, 0.55, 0.61, 0.40, 0.70, 0.66, 0.58]
    ours = [0.53, 0.60, 0.60, 0.47, 0.79, 0.70, 0.71]
    arms = {c.arm: c for c in compared({"real": real, "real+1": ours})}
    gaps = np.subtract(ours, real)
    ranks = np.argsort(np.argsort(np.abs(gaps))) + 1
    seen = ranks[gaps > 0].sum()
    sums = [
        sum(r for r, s in zip(ranks, signs, strict=True) if s)
        for signs in product((0, 1), repeat=7)
    ]
    extreme = min(np.mean(np.asarray(sums) >= seen), np.mean(np.asarray(sums) <= seen))
    assert arms["real+1"].p == pytest.approx(2 * extreme)
    assert arms["real+1"].difference == pytest.approx(gaps.mean())
    assert arms["real"].p is None


def test_pairs_without_a_score_are_left_out() -> None:
    scores = {"real": [0.5, nan, 0.7, 0.8], "synthetic": [0.4, 0.9, nan, 0.6]}
    arm = compared(scores)[1]
    assert (arm.pairs, arm.p) == (2, None)
    assert arm.difference == pytest.approx(-0.15)
    assert mean_of([0.5, nan]) == 0.5
    assert isnan(mean_of([nan]))


def test_the_small_network_learns_a_bright_ball() -> None:
    rng = np.random.default_rng(0)
    pairs = []
    for _ in range(3):
        centre = rng.integers(8, 24, 3)
        away = sum((n - c) ** 2 for n, c in zip(np.indices((32, 32, 32)), centre, strict=True))
        labels = (away <= 36).astype(np.uint8)
        image = (0.3 + 0.4 * labels + rng.normal(0, 0.05, labels.shape)).astype(np.float32)
        pairs.append((image, labels))
    settings = NetworkSettings(steps=30, patch=32, batch=1)
    before = torch.random.get_rng_state()
    (image, truth), train = pairs[2], pairs[:2]
    found = train_and_predict(train, [image], 2, 0, settings)[0]
    assert torch.equal(before, torch.random.get_rng_state())
    overlap = 2 * ((found == 1) & (truth == 1)).sum() / ((found == 1).sum() + truth.sum())
    assert overlap > 0.7
    short = NetworkSettings(steps=2, patch=32, batch=1)
    first, again = (train_and_predict(train, [image], 2, 5, short)[0] for _ in range(2))
    assert np.array_equal(first, again)


def test_the_plot_has_a_column_per_arm() -> None:
    import io

    png = plot_png({"real": [0.5, 0.6], "synthetic": [nan, 0.4], "real+1": [nan, nan]}, "Dice")
    with Image.open(io.BytesIO(png)) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    assert (pixels == (200, 72, 48)).all(axis=2).sum() > 2 * 40  # two means are drawn
