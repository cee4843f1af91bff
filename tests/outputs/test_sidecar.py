"""The record survives the way to disk and back, whatever numbers stand in it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from synthct.errors import InputError
from synthct.outputs.sidecar import (
    GridRecord,
    ModelRecord,
    RunRecord,
    SamplingRecord,
    Sidecar,
    plain,
    read_record,
    read_sidecar,
    to_json,
)

SHA = "ab" * 32


def make_sidecar(**changes: object) -> Sidecar:
    values: dict[str, object] = {
        "model": ModelRecord(
            name="maisi-mini-ct",
            task="mask-to-ct",
            modality="CT",
            source="embedded",
            licence="Apache-2.0",
            weights_sha256={"vae": SHA},
        ),
        "sampling": SamplingRecord(seed=4, steps=12, sampler="rflow", guidance=0, device="cpu"),
        "grid": GridRecord(
            shape=(4, 5, 6),
            spacing_mm=(3, 3, 3),
            orientation="RAS",
            affine=np.eye(4).tolist(),
            inner_shape=(16, 16, 16),
            inner_spacing_mm=(3, 3, 3),
            resampled=False,
        ),
        "request_sha256": SHA,
    }
    return Sidecar.model_validate(values | changes)


def test_there_and_back(tmp_path: Path) -> None:
    sidecar = make_sidecar(qc={"passed": True, "checked": 3}, notes=["coarser inside"])
    (tmp_path / "a.json").write_text(to_json(sidecar), encoding="utf-8")
    assert read_sidecar(tmp_path / "a.json") == sidecar


def test_it_says_synthetic_and_can_say_nothing_else(tmp_path: Path) -> None:
    document = json.loads(to_json(make_sidecar()))
    assert document["synthetic"] is True
    assert document["notice"].startswith("SYNTHETIC")
    document["synthetic"] = False
    (tmp_path / "a.json").write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(InputError, match="synthetic"):
        read_sidecar(tmp_path / "a.json")


def test_numpy_values_and_nan_become_strict_json() -> None:
    qc = {"value": np.float32(1.5), "bad": float("nan"), "ids": (np.int64(3),), "at": Path("x")}
    text = to_json(make_sidecar(qc=qc))
    assert "NaN" not in text
    assert json.loads(text)["qc"] == {"value": 1.5, "bad": None, "ids": [3], "at": "x"}
    assert plain({1: np.array([1, 2])}) == {"1": [1, 2]}


@pytest.mark.parametrize("labels", [False, True])
def test_the_description_fits_a_header_and_begins_synthetic(labels: bool) -> None:
    text = make_sidecar().description(labels=labels)
    assert text.startswith("SYNTHETIC")
    assert len(text.encode()) <= 79
    assert "maisi-mini-ct seed 4 try 0" in text


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"synthetic": true}', "\x00\x01"])
def test_what_is_no_record_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(content, encoding="utf-8")
    for kind in (Sidecar, RunRecord):
        with pytest.raises(InputError) as caught:
            read_record(tmp_path / "a.json", kind)  # type: ignore[type-var]
        assert "\n" not in caught.value.message


def test_a_misspelt_field_is_refused() -> None:
    with pytest.raises(ValueError, match="notez"):
        make_sidecar(notez=["a"])
