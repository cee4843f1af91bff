"""Leakage: a planted copy is found however it lies; independent phantoms are not flagged."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from scipy import ndimage

from synthct.evaluation.case import Case
from synthct.evaluation.leakage import (
    COPY_RATIO,
    Level,
    closer_to_training,
    copy_ratios,
    euclidean,
    membership_auc,
    standardised,
)
from synthct.evaluation.leakage_metric import LeakageMetric
from synthct.evaluation.leakage_patches import asked, nearest, patches_of, smoothed
from synthct.evaluation.leakage_volumes import coarse, flipped, matches, rotate
from synthct.evaluation.metric import Study
from synthct.evaluation.report import cases_of
from synthct.geometry import Geometry
from synthct.labels.render import render_hu
from synthct.phantom import make_phantom_with_tissues
from synthct.volume.nifti import write_volume
from synthct.volume.volume import Volume
from synthct.workflows.progress import SilentProgress

Array = npt.NDArray[Any]
SPACING = (6.0, 6.0, 6.0)


def person(seed: int) -> Volume:
    labels, tissues = make_phantom_with_tissues("abdomen", SPACING, seed)
    hu = render_hu(labels.array, tissues, SPACING, np.random.default_rng([seed, 1]))
    return Volume(hu, labels.geometry)


@pytest.fixture(scope="module")
def people() -> list[Volume]:
    """Twelve imagined patients, their CT drawn; nobody twice."""
    return [person(seed) for seed in range(12)]


def copies(volume: Volume) -> dict[str, Volume]:
    """A training case as a model that kept it might give it back."""
    rng = np.random.default_rng(0)
    array = volume.array
    noise = rng.normal(0, 30, array.shape)
    turned = rotate(array, (3.0, -4.0, 5.0), fill=-1000.0)
    shifted = ndimage.shift(array, (2.5, -1.5, 1), order=1, cval=-1000)
    made = {
        "same": array,
        "noise": array + noise,
        "flipped": array[::-1],
        "upside down": array[:, ::-1, ::-1],
        "shifted": shifted,
        "turned": turned,
        "all": rotate(shifted[::-1], (2.0, 2.0, -3.0), fill=-1000.0) + noise,
    }
    return {name: volume.with_array(a.astype(np.float32)) for name, a in made.items()}


def test_a_copy_is_found_however_it_lies(people: list[Volume]) -> None:
    training = [coarse(volume) for volume in people[:6]]
    planted = copies(people[2])
    found = matches([coarse(volume) for volume in planted.values()], training)
    for name, row in zip(planted, found, strict=True):
        assert row[0].target == 2, name
        assert row[0].distance / row[1].distance < COPY_RATIO["volume"], name
    assert found[0][0].distance == pytest.approx(0.0, abs=0.01)
    assert found[2][0].flips == (True, False, False)
    assert found[4][0].shift[2] == 1


def test_patches_of_a_copy_are_found_too(people: list[Volume]) -> None:
    training = [smoothed(volume) for volume in people[:6]]
    planted = copies(people[2])
    questions = [asked(smoothed(volume), 0) for volume in planted.values()]
    for name, distances in zip(
        planted, nearest(questions, [lambda a=a: a for a in training]), strict=True
    ):
        middle = np.median(distances, axis=1)
        assert int(middle.argmin()) == 2, name
        ordered = np.sort(middle)
        assert ordered[0] / ordered[1] < COPY_RATIO["patch"], name


def test_patches_have_mean_zero_and_length_one(people: list[Volume]) -> None:
    patches = patches_of(smoothed(people[0]))
    assert np.abs(patches.rows.mean(axis=1)).max() < 1e-4
    assert np.linalg.norm(patches.rows, axis=1) == pytest.approx(
        np.ones(len(patches.rows)), rel=1e-4
    )
    assert len(patches_of(np.zeros((5, 20, 20), np.float32)).rows) == 0


def test_the_nearest_patch_lies_between_brute_force_on_all_places_and_on_every_second() -> None:
    rng = np.random.default_rng(4)
    query, target = (rng.normal(0, 100, (14, 15, 16)).astype(np.float32) for _ in range(2))
    question = asked(query, 0)
    found = nearest([question], [lambda: target])[0][0]
    every, second = (patches_of(target, stride).rows for stride in (1, 2))
    side = round(every.shape[1] ** (1 / 3))
    for row, distance in zip(question.rows, found, strict=True):
        forms = [
            flipped(row.reshape(side, side, side), (a, b, c)).ravel()
            for a in (False, True)
            for b in (False, True)
            for c in (False, True)
        ]
        least, most = (
            min(np.linalg.norm(form - other) for form in forms for other in rows)
            for rows in (every, second)
        )
        assert least - 1e-3 <= distance <= most + 1e-3


def test_turning_back_and_forth() -> None:
    array = ndimage.gaussian_filter(np.random.default_rng(5).normal(0, 1, (30, 30, 30)), 3)
    there = rotate(array, (0.0, 0.0, 7.0))
    back = rotate(there, (0.0, 0.0, -7.0))
    inner = (slice(8, -8),) * 3
    assert np.corrcoef(back[inner].ravel(), array[inner].ravel())[0, 1] > 0.99
    assert np.allclose(rotate(array, (0.0, 0.0, 90.0)), np.rot90(array, 1, (0, 1)), atol=1e-4) or (
        np.allclose(rotate(array, (0.0, 0.0, 90.0)), np.rot90(array, -1, (0, 1)), atol=1e-4)
    )


# ── what distances say ────────────────────────────────────────────────────────────────────────


def test_membership_of_the_same_and_of_closer_ones() -> None:
    same = np.array([1.0, 2.0, 3.0])
    assert membership_auc(same, same) == 0.5
    assert membership_auc(same - 5, same) == 1.0
    assert membership_auc(np.array([1.0, 4.0]), np.array([2.0, 3.0])) == 0.5


def test_the_larger_set_does_not_win_for_being_larger() -> None:
    rng = np.random.default_rng(6)
    level = Level(
        "volume",
        rng.uniform(0.5, 1.5, (30, 200)),
        rng.uniform(0.5, 1.5, (30, 10)),
        np.empty((0, 200)),
    )
    assert float(closer_to_training(level, 0).mean()) == pytest.approx(0.5, abs=0.08)
    assert (level.training.min(axis=1) < level.held_out.min(axis=1)).mean() > 0.8


def test_ratio_to_the_second_or_to_what_is_usual() -> None:
    nobody = np.empty(0)
    assert copy_ratios(np.array([[0.2, 1.0, 1.1]]), nobody) == pytest.approx([0.2])
    twins = np.array([[0.2, 0.2, 1.1]])
    assert copy_ratios(twins, nobody) == pytest.approx([1.0])
    assert copy_ratios(twins, np.array([0.8, 1.0, 1.2])) == pytest.approx([0.25])
    chest_among_legs = np.array([[0.5, 0.7, 0.7], [0.2, 0.7, 0.7]])  # the second row is a copy
    for held_out in ([0.47, 0.50, 0.54], [0.01, 0.50, 0.54]):  # one of them scanned twice
        found = copy_ratios(chest_among_legs, np.array(held_out))
        assert found == pytest.approx([1.0, 0.4])
    assert copy_ratios(np.array([[0.3]]), nobody) == pytest.approx([1.0])
    assert copy_ratios(np.array([[0.0, 0.0]]), nobody) == pytest.approx([0.0])


def test_features_are_scaled_by_the_training_set() -> None:
    training = np.array([[0.0, 100.0, 5.0], [2.0, 300.0, 5.0]])
    scaled, other = standardised(training, np.array([[1.0, 400.0, 9.0]]))
    assert scaled == pytest.approx(np.array([[-1.0, -1.0], [1.0, 1.0]]))
    assert euclidean(other, scaled) == pytest.approx(np.sqrt([[(1 + 9) / 2, (1 + 1) / 2]]))


# ── the metric ────────────────────────────────────────────────────────────────────────────────


def _cases(folder: Path, volumes: dict[str, Volume], role: str) -> tuple[Case, ...]:
    made = []
    for name, volume in volumes.items():
        path = folder / f"{role}-{name}.nii.gz"
        write_volume(path, volume)
        made.append(Case(name, path, role=role))  # type: ignore[arg-type]
    return tuple(made)


def test_a_study_with_one_copy(tmp_path: Path, people: list[Volume]) -> None:
    training = _cases(tmp_path, {f"t{n}": v for n, v in enumerate(people[:5])}, "training")
    real = _cases(tmp_path, {f"r{n}": v for n, v in enumerate(people[5:9])}, "real")
    fakes = {f"s{n}": v for n, v in enumerate(people[9:12])} | {"copy": copies(people[3])["all"]}
    synthetic = _cases(tmp_path, fakes, "synthetic")
    study = Study((*real, training[0]), synthetic, training)
    result = LeakageMetric(source=None).measure(study, SilentProgress())
    numbers = {number.name: number for number in result.numbers}
    for level in ("volume", "patch"):
        assert numbers[f"{level}/copies"].value == 0.25
        assert numbers[f"{level}/false_alarms"].value == 0.0
        membership = numbers[f"{level}/membership"]
        assert membership.n["held-out"] == 4
        assert membership.interval is None or membership.interval.high <= 1
        assert cases_of(membership, study)["real"]["names"] == [case.name for case in real]
    copied = [line for line in result.warnings if "a copy of" in line]
    assert all(line.startswith("copy: a copy of t3") for line in copied)
    assert len(copied) == 2
    assert any("left out as held-out" in line for line in result.warnings)
    worst = max(result.rows, key=lambda row: row.badness or 0.0)
    assert worst.case == "copy"
    assert "t3" in worst.note
    with Image.open(io.BytesIO(result.figures[0].png)) as picture:
        assert picture.width > picture.height / 2
    assert "copy" in result.figures[0].title


def test_what_is_too_thin_for_patches_is_told_and_tells_nothing(
    tmp_path: Path, people: list[Volume]
) -> None:
    """A slab of 42 mm has no patch of 60 mm: no answer is not the answer that it is no copy."""
    array = people[2].array[:, :, 10:17]
    slab = Volume(array, Geometry.from_spacing(array.shape, SPACING))  # type: ignore[arg-type]
    training = _cases(tmp_path, {f"t{n}": v for n, v in enumerate(people[:4])}, "training")
    held_out = {f"r{n}": v for n, v in enumerate(people[4:7])} | {"thin": slab}
    real = _cases(tmp_path, held_out, "real")
    synthetic = _cases(tmp_path, {"s": people[8], "slab": slab}, "synthetic")
    result = LeakageMetric(source=None).measure(Study(real, synthetic, training), SilentProgress())
    assert any(
        "1 synthetic case is too thin" in line and "slab" in line for line in result.warnings
    )
    numbers = {number.name: number for number in result.numbers}
    assert numbers["patch/membership"].n["held-out"] == 3
    assert numbers["volume/membership"].n["held-out"] == 4


@pytest.mark.slow
def test_rates_over_many_phantoms() -> None:
    """Forty people: none of twenty is flagged against the other twenty; their copies all are."""
    volumes = [person(seed) for seed in range(100, 140)]
    training, others = (
        [coarse(v) for v in volumes[:20]],
        [coarse(v) for v in volumes[20:]],
    )
    alarms = [
        row[0].distance / row[1].distance < COPY_RATIO["volume"]
        for row in matches(others, training)
    ]
    assert sum(alarms) == 0
    planted = [coarse(copies(volume)["all"]) for volume in volumes[:20]]
    found = matches(planted, training)
    bar = COPY_RATIO["volume"]
    hits = [r[0].target == n and r[0].distance / r[1].distance < bar for n, r in enumerate(found)]
    assert sum(hits) >= 19
