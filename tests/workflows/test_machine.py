"""What this machine says of itself, without torch, is what torch says."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from synthct.training.loop import fast_bfloat16
from synthct.workflows import machine


def test_fast_bfloat16_is_torch_s_answer() -> None:
    if not sys.platform.startswith("linux"):
        pytest.skip("the CPU's flags are read from /proc, which only Linux has")
    assert machine.fast_bfloat16("cpu") == fast_bfloat16(torch.device("cpu"))


@pytest.mark.parametrize(("name", "kind"), [("cpu", "cpu"), ("cuda:3", "cuda"), ("mps", "mps")])
def test_a_named_device_is_of_its_kind(name: str, kind: str) -> None:
    assert machine.device_kind(name) == kind


def test_auto_is_one_of_the_kinds() -> None:
    assert machine.device_kind("auto") in ("cpu", "cuda", "mps")


def test_room_is_a_share_of_what_is_free(tmp_path: Path) -> None:
    import shutil

    there = machine.spill_room(tmp_path)
    assert 0 < there < shutil.disk_usage(tmp_path).free
    assert machine.spill_room(tmp_path / "not" / "yet") == pytest.approx(there, rel=0.05)


def test_a_container_s_limit_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    info, limit = tmp_path / "meminfo", tmp_path / "memory.max"
    info.write_text("MemTotal:       1000 kB\nMemAvailable:    500 kB\n")
    monkeypatch.setattr(machine, "_MEMORY_INFO", info)
    monkeypatch.setattr(machine, "_CONTAINER_LIMIT", limit)
    assert machine.usable_memory("cpu") == int(0.8 * 1000 * 1024)
    assert machine.host_room() == int(0.8 * 500 * 1024)
    limit.write_text("102400\n")
    assert machine.usable_memory("cpu") == int(0.8 * 102400)
    limit.write_text("max\n")
    assert machine.usable_memory("cpu") == int(0.8 * 1000 * 1024)
    assert machine.usable_memory("cuda") is None
