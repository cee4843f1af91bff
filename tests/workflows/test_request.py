"""A request is complete and possible before anything is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from synthct.errors import UsageError
from synthct.workflows.request import Request, memory_bytes

SPACING = (1.0, 1.0, 2.0)


@pytest.mark.parametrize(
    "words",
    [
        {"mask": "m.nii.gz", "size": (64, 64, 64)},
        {"mask": "m.nii.gz", "spacing_mm": (1.0, 1.0, 0.0)},
        {"mask": "m.nii.gz", "spacing_mm": (1.0, 1.0, float("nan"))},
        {"mask": "m.nii.gz", "region": ("knee",)},
        {"mask": "m.nii.gz", "device": "gpu"},
        {"mask": "m.nii.gz", "colour": "blue"},
        {"mask": "m.nii.gz", "max_memory_bytes": 0},
    ],
    ids=str,
)
def test_impossible_requests_are_usage_errors_of_one_line(words: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as refused:
        Request.of(**words)
    assert refused.value.message
    assert "\n" not in refused.value.message


def test_possible_ones_are_typed_and_frozen() -> None:
    request = Request.of(mask="m.nii.gz", spacing_mm=[1, 1, 2], device="cuda:1")
    assert request.mask == Path("m.nii.gz")
    assert request.spacing_mm == SPACING
    with pytest.raises(ValueError, match="frozen"):
        request.device = "cpu"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "amount"),
    [("16G", 16 * 2**30), ("1.5GiB", 3 * 2**29), ("800m", 800 * 2**20), ("2 TB", 2 * 2**40)],
)
def test_memory_is_in_powers_of_1024(text: str, amount: int) -> None:
    assert memory_bytes(text) == amount


@pytest.mark.parametrize("text", ["", "16", "G", "-1G", "0G", "lots", "16X"])
def test_other_amounts_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="16G"):
        memory_bytes(text)


@pytest.mark.parametrize(
    "words",
    [
        {"ct": "ct.nii.gz"},
        {"body_mask": "b.nii.gz"},
        {"labels": "amos"},
        {"grid": "input"},
        {"body": "none"},
        {"unknown": "drop"},
    ],
    ids=str,
)
def test_words_about_a_mask_need_one(words: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="without a mask"):
        Request.of(size=(64, 64, 64), spacing_mm=SPACING, **words)
    assert Request.of(mask="m.nii.gz", **words)


def test_a_complaint_repeats_the_value_under_the_users_word() -> None:
    with pytest.raises(UsageError, match=r"^spacing 0\.0: input should be greater than 0$"):
        Request.of(mask="m.nii.gz", spacing_mm=(1.0, 0.0, 1.0))
    with pytest.raises(UsageError, match="no word 'colour'"):
        Request.of(mask="m.nii.gz", colour="blue")
