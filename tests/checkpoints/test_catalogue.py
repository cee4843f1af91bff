"""The catalogue is typed, consistent, and known without torch."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from pydantic import ValidationError

from synthct.checkpoints import catalogue
from synthct.errors import UsageError


def test_the_default_stands_first_and_is_embedded() -> None:
    assert catalogue.names()[0] == catalogue.DEFAULT_MODEL
    assert catalogue.entry().embedded
    assert set(catalogue.entry().files.by_role()) == {"vae", "unet", "controlnet"}


@pytest.mark.parametrize("name", catalogue.names())
def test_every_entry_can_answer_some_request(name: str) -> None:
    entry = catalogue.entry(name)
    assert entry.name == name
    for axis in range(3):
        coarsest = entry.spacing_range_mm[axis][1]
        assert entry.shape_max[axis] * coarsest >= entry.fov_min_mm[axis]
        assert entry.shape_max[axis] >= entry.grid_multiple


def test_an_unknown_model_lists_those_that_exist() -> None:
    with pytest.raises(UsageError, match=catalogue.DEFAULT_MODEL) as caught:
        catalogue.entry("maisi-maxi")
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    "change",
    [
        {"spacing_range_mm": ((5, 2), (2, 5), (2, 5))},
        {"grid_multiple": 3},
        {"shape_min": (512, 512, 512)},
        {"fov_min_mm": (9999, 9999, 9999)},
        {"default_steps": 0},
        {"sampler": "magic"},
        {"colour": "blue"},
        {"sha256": {"vae": "abc"}},
    ],
)
def test_an_inconsistent_entry_is_refused(change: dict[str, Any]) -> None:
    values = catalogue.entry().model_dump() | change
    with pytest.raises(ValidationError):
        catalogue.Entry.model_validate(values)


def test_entries_are_frozen() -> None:
    with pytest.raises(ValidationError):
        catalogue.entry().default_steps = 3


def test_no_torch() -> None:
    code = (
        "import sys; from synthct.checkpoints import catalogue, store; "
        "catalogue.entries(); print('torch' in sys.modules or 'monai' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
