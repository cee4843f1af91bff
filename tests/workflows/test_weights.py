"""The catalogue from outside: list, show, where, verify."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from synthct.checkpoints import catalogue
from synthct.errors import DamagedWeights, MissingWeights, UsageError
from synthct.workflows import weights

NAME = catalogue.DEFAULT_MODEL


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    lines = []
    for name in catalogue.entry().files.by_role().values():
        save_file({"a": np.zeros(3, dtype=np.float16)}, tmp_path / name)
        digest = hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()
        lines.append(f"{digest}  {name}")
    (tmp_path / "SHA256SUMS").write_text("\n".join(lines), encoding="utf-8")
    return tmp_path


def test_list_names_the_default_first() -> None:
    listed = weights.list_models()
    assert listed["default"] == NAME
    assert listed["models"][0]["name"] == NAME


def test_show_says_what_is_here(folder: Path, tmp_path: Path) -> None:
    assert weights.show(NAME, folder)["present"] is True
    assert weights.show(NAME, folder)["conditions"]["mask"] is True
    assert weights.show("maisi-mr-rflow")["conditions"]["mask"] is False
    assert weights.show(NAME, tmp_path / "nowhere")["present"] is False
    with pytest.raises(UsageError):
        weights.show("nothing")


def test_where_gives_a_folder_per_model(folder: Path) -> None:
    assert weights.where(NAME, folder)["models"] == {NAME: str(folder)}
    assert set(weights.where()["models"]) == set(catalogue.names())


def test_verify_passes_whole_files(folder: Path) -> None:
    result = weights.verify([NAME], folder)
    assert result["passed"] is True
    assert {check["status"] for check in result["models"][NAME]} == {"ok"}


def test_verify_refuses_a_changed_file(folder: Path) -> None:
    save_file({"a": np.ones(3, dtype=np.float16)}, folder / "unet.safetensors")
    with pytest.raises(DamagedWeights, match=r"unet\.safetensors is not the file"):
        weights.verify([NAME], folder)


def test_verify_refuses_a_truncated_file_without_checksum(folder: Path) -> None:
    (folder / "SHA256SUMS").unlink()
    (folder / "vae.safetensors").write_bytes((folder / "vae.safetensors").read_bytes()[:-2])
    with pytest.raises(DamagedWeights, match="no whole safetensors file"):
        weights.verify([NAME], folder)


def test_verify_misses_what_is_not_there(folder: Path) -> None:
    (folder / "controlnet.safetensors").unlink()
    with pytest.raises(MissingWeights, match="controlnet"):
        weights.verify([], folder)
