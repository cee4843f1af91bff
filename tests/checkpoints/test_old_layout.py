"""PyTorch's files from before they were zip archives: read by the same rules, or refused."""

from __future__ import annotations

import io
import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from synthct.checkpoints import store
from synthct.checkpoints.container import open_container
from synthct.checkpoints.load import load_into, read_tensors
from synthct.errors import DamagedWeights, UnsafeWeights


def _network() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv3d(1, 3, 3), nn.GroupNorm(1, 3)).eval()


def _saved(path: Path, content: object) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=False)
    return path


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return _saved(tmp_path / "old.pt", _network().state_dict())


def test_it_computes_what_the_saved_network_did(old: Path) -> None:
    x = torch.randn(1, 1, 5, 5, 5)
    loaded = load_into(lambda: nn.Sequential(nn.Conv3d(1, 3, 3), nn.GroupNorm(1, 3)), old)
    torch.testing.assert_close(loaded(x), _network()(x), rtol=0, atol=0)
    assert store.is_old_layout(old)
    torch.save({}, old)
    assert not store.is_old_layout(old)


def test_the_published_containers_too(tmp_path: Path) -> None:
    content = {
        "epoch": 3,
        "loss": np.float64(0.5),
        "scale_factor": torch.tensor(0.9),
        "unet_state_dict": _network().state_dict(),
    }
    found = open_container(_saved(tmp_path / "unet.pt", content))
    assert found.layout == "unet_state_dict"
    assert float(found.metadata["scale_factor"]) == pytest.approx(0.9)


class _Touch:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_code_in_its_content_is_refused_and_runs_nothing(tmp_path: Path) -> None:
    trap = tmp_path / "ran"
    path = _saved(tmp_path / "hostile.pt", {"0.weight": _Touch(trap)})
    with pytest.raises(UnsafeWeights, match="mkdir"):
        read_tensors(path)
    assert not trap.exists()


@pytest.mark.parametrize("at", range(1, 5))
def test_code_in_any_of_its_pickles_is_refused(at: int, old: Path, tmp_path: Path) -> None:
    """Magic number, version, machine, content, keys: one of them replaced."""
    trap = tmp_path / "ran"
    content = io.BytesIO(old.read_bytes())
    pickles = []
    for _ in range(5):
        start = content.tell()
        list(__import__("pickletools").genops(content))
        pickles.append(content.getvalue()[start : content.tell()])
    pickles[at] = pickle.dumps(_Touch(trap), protocol=2)
    old.write_bytes(b"".join(pickles) + content.read())
    with pytest.raises(UnsafeWeights, match="mkdir"):
        read_tensors(old)
    assert not trap.exists()


@pytest.mark.parametrize("keep", [20, 0.2, 0.6, -1])
def test_a_cut_one_is_damaged(keep: float, old: Path) -> None:
    content = old.read_bytes()
    end = int(keep * len(content)) if 0 < keep < 1 else int(keep)
    old.write_bytes(content[:end])
    with pytest.raises(DamagedWeights):
        read_tensors(old)


def test_a_number_of_values_that_is_not_there_is_damaged(old: Path) -> None:
    content = old.read_bytes()
    count = struct.pack("<q", 81)  # values of the kernel, before them
    assert count in content
    old.write_bytes(content.replace(count, struct.pack("<q", 2**40)))
    with pytest.raises(DamagedWeights):
        read_tensors(old)
