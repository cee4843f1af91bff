"""Mixed precision: bfloat16 where the device is fast in it, float32 everywhere else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def autocast(enabled: bool, device: torch.device) -> Iterator[None]:
    """bfloat16 autocast, where asked for and where the machine has instructions for it."""
    with torch.autocast(device.type, torch.bfloat16, enabled=enabled and fast_bfloat16(device)):
        yield


def fast_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 is faster than float32 here, from what the device says of itself."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    if device.type == "cpu":
        has = torch.cpu.get_capabilities()
        return bool(has.get("avx512_bf16") or has.get("amx_bf16"))
    return False
