"""What this machine says of itself, without torch, is what torch says."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from synthct.errors import UsageError
from synthct.models.load import available_devices, pick_device
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


def test_devices_are_those_that_torch_finds() -> None:
    assert machine.devices() == available_devices()
    assert machine.device_kind("auto") == pick_device("auto").type


@pytest.mark.parametrize(
    ("shown", "visible", "built", "found"),
    [
        (2, None, 'cuda: Optional[str] = "12.8"', ["cpu", "cuda:1", "cuda:0"]),
        (2, "1", "cuda: Optional[str] = '12.8'", ["cpu", "cuda:0"]),
        (2, "", 'cuda: Optional[str] = "12.8"', ["cpu"]),
        (2, "0,-1,1", 'cuda = "12.8"', ["cpu", "cuda:0"]),
        (2, None, "cuda: Optional[str] = None\nhip: Optional[str] = None", ["cpu"]),
        (1, None, 'cuda: Optional[str] = None\nhip: Optional[str] = "6.4"', ["cpu", "cuda:0"]),
        (0, None, 'cuda: Optional[str] = "12.8"', ["cpu"]),
    ],
)
def test_devices_by_files_and_builds(
    shown: int,
    visible: str | None,
    built: str,
    found: list[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    for n in range(shown):
        (tmp_path / f"nvidia{n}").touch()
    (tmp_path / "nvidiactl").touch()
    (tmp_path / "version.py").write_text(f"__version__ = '2'\n{built}\n", encoding="utf-8")
    origin = SimpleNamespace(origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(machine, "find_spec", lambda name: origin)
    monkeypatch.setattr(machine, "_DEVICES", tmp_path)
    monkeypatch.setattr(machine.sys, "platform", "linux")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    machine._built_for_cuda.cache_clear()
    try:
        assert machine.devices() == found
    finally:
        machine._built_for_cuda.cache_clear()


@pytest.mark.parametrize("name", ["auto", "cpu", "cuda:99", "mps", "cuda"])
def test_a_device_is_refused_in_the_words_of_generate(name: str) -> None:
    def said(check: Callable[[str], object]) -> tuple[str, str] | None:
        try:
            check(name)
        except UsageError as error:
            return error.message, error.hint
        return None

    assert said(machine.require_device) == said(pick_device)


def test_room_is_a_share_of_what_is_free(tmp_path: Path) -> None:
    import shutil

    there = machine.spill_room(tmp_path)
    assert 0 < there < shutil.disk_usage(tmp_path).free
    assert machine.spill_room(tmp_path / "not" / "yet") == pytest.approx(there, rel=0.05)


def test_a_container_s_limit_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    info, limit = tmp_path / "meminfo", tmp_path / "memory.max"
    info.write_text("MemTotal:       1000 kB\nMemAvailable:    500 kB\n", encoding="utf-8")
    monkeypatch.setattr(machine, "_MEMORY_INFO", info)
    monkeypatch.setattr(machine, "_CONTAINER_LIMIT", limit)
    assert machine.usable_memory("cpu") == int(0.8 * 1000 * 1024)
    assert machine.host_room() == int(0.8 * 500 * 1024)
    limit.write_text("102400\n", encoding="utf-8")
    assert machine.usable_memory("cpu") == int(0.8 * 102400)
    limit.write_text("max\n", encoding="utf-8")
    assert machine.usable_memory("cpu") == int(0.8 * 1000 * 1024)
    assert machine.usable_memory("cuda") is None
