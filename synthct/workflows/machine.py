"""What this machine offers, asked without torch: for plans. Work itself asks torch."""

from __future__ import annotations

import os
import re
import shutil
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from synthct.errors import UsageError
from synthct.models.settings import split_devices

_CPU_INFO = Path("/proc/cpuinfo")
_MEMORY_INFO = Path("/proc/meminfo")
_CONTAINER_LIMIT = Path("/sys/fs/cgroup/memory.max")
_FAST_FLAGS = frozenset({"avx512_bf16", "amx_bf16"})
_DEVICES = Path("/dev")
_ROOM = 0.8
"""Share of free host memory or disk that a plan counts on; others use the machine too."""


def device_kind(name: str) -> str:
    """`cpu`, `cuda` or `mps` for a device's name, or for those of a list, which are of one kind.

    For `auto` the best kind that shows itself.

    Raises:
        UsageError: the devices of the list do not go together.
    """
    first = split_devices(name)[0]
    found = devices()[-1] if first == "auto" else first
    return found.split(":", maxsplit=1)[0]


def require_device(name: str) -> None:
    """The refusal of `models.load.pick_device`, told without torch.

    Raises:
        UsageError: the device is not there; what is there is listed.
    """
    present = devices()
    for one in split_devices(name):
        if one != "auto" and one not in present and not (one == "cuda" and "cuda:0" in present):
            raise UsageError(f"no device {one!r} here", f"present: auto, {', '.join(present)}")


def devices() -> list[str]:
    """As `models.load.available_devices`: what shows itself, where torch is built for it."""
    if sys.platform == "darwin":
        return ["cpu", "mps"]
    return ["cpu", *(f"cuda:{n}" for n in reversed(range(_cuda_devices())))]


def _cuda_devices() -> int:
    shown = len(list(_DEVICES.glob("nvidia[0-9]*")))
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if allowed is not None:
        listed = [word.strip() for word in allowed.split(",")]
        shown = min(shown, next((n for n, w in enumerate(listed) if w in ("", "-1")), len(listed)))
    return shown if _built_for_cuda() else 0


@cache
def _built_for_cuda() -> bool:
    """By the text of torch's `version.py`: importing it takes seconds."""
    spec = find_spec("torch")
    stated = (
        None if spec is None or spec.origin is None else Path(spec.origin).with_name("version.py")
    )
    if stated is None or not stated.is_file():
        return False
    built = re.search(r"^(?:cuda|hip)\b[^=]*=\s*['\"]", stated.read_text("utf-8"), re.MULTILINE)
    return built is not None


@cache
def fast_bfloat16(kind: str) -> bool:
    """Whether bfloat16 is faster than float32: by the CPU's flags; on CUDA taken for granted."""
    if kind == "cuda":
        return True
    if kind != "cpu" or not _CPU_INFO.is_file():
        return False
    lines = _CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines()
    flags = next((line for line in lines if line.startswith("flags")), "")
    return not _FAST_FLAGS.isdisjoint(flags.split())


def spill_room(folder: Path) -> int:
    """Bytes of disk that a spilled map may take in `folder`, which need not exist yet."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return int(_ROOM * shutil.disk_usage(there).free)


def host_room() -> int:
    """Bytes of free host memory that maps of another device may be moved to; 0 where unknown."""
    return int(_ROOM * _memory_info("MemAvailable"))


def usable_memory(kind: str) -> int | None:
    """What a run without a budget should stay under on this machine; None where unknown.

    Of the memory that is built in (or allowed to this container), not of what is free just now: so
    that the same command makes the same plan, and the same voxels, every time.
    """
    if kind != "cpu":
        return None
    known = [amount for amount in (_memory_info("MemTotal"), _container_limit()) if amount]
    return int(_ROOM * min(known)) if known else None


def _memory_info(field: str) -> int:
    if not _MEMORY_INFO.is_file():
        return 0
    lines = _MEMORY_INFO.read_text(encoding="utf-8").splitlines()
    found = next((line for line in lines if line.startswith(field)), None)
    return 0 if found is None else 1024 * int(found.split()[1])


def _container_limit() -> int:
    if not _CONTAINER_LIMIT.is_file():
        return 0
    text = _CONTAINER_LIMIT.read_text(encoding="ascii").strip()
    return int(text) if text.isdigit() else 0
