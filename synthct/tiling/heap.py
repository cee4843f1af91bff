"""Memory that is freed, and memory that runs out.

glibc keeps freed blocks below 32 MiB, and with torch's aligned requests many of them cannot be used
again: a run of slabs grows by up to a slab's work each. Trimming now and then bounds that; trimming
after every slab would cost a third of the time in page faults.
"""

from __future__ import annotations

import ctypes
import functools
import gc
import sys
from collections.abc import Callable

import torch

_TOLERATED_BYTES = 64 * 2**20


class Tidy:
    """Trims the heap whenever `work_bytes` reported since the last time may have piled up."""

    def __init__(self, device_type: str, maps_bytes: int) -> None:
        self._trim = _trimmer() if device_type == "cpu" else None
        self._limit = max(_TOLERATED_BYTES, maps_bytes // 32)
        self._piled = 0

    def after(self, work_bytes: int) -> None:
        self._piled += work_bytes
        if self._trim is not None and self._piled > self._limit:
            self._trim(0)
            self._piled = 0


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out: torch names it in three ways."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error).lower()
    return "not enough memory" in text or "out of memory" in text


def release(device: torch.device) -> None:
    """Give back what is no longer used, before another try."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    trim = _trimmer()
    if trim is not None:
        trim(0)


@functools.lru_cache(maxsize=1)
def _trimmer() -> Callable[[int], int] | None:
    """`malloc_trim` of glibc; None elsewhere (macOS and Windows return memory by themselves)."""
    if not sys.platform.startswith("linux"):
        return None
    return getattr(ctypes.CDLL(None), "malloc_trim", None)
