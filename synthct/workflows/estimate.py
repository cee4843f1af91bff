"""How long a plan would take: an estimate from its multiply-adds and a rate. No torch.

On a CPU the rate is that of a matrix product, measured on the spot in NumPy for a fraction of a
second; attention, normalisation, copies, reading and writing are not counted. A GPU cannot be asked
without torch, so its rate is taken for granted, and said to be.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Literal, Protocol, TypedDict

import numpy as np

from synthct.workflows.stage_plans import StagePlan

_PROBE_SIDES = (256, 768)
"""Of the matrices: where others use the machine, only a short product ends undisturbed (40 and 14
thousand million multiply-adds a second on one busy machine); where none does, a long one is faster.
"""
_PROBE_SECONDS = 0.08
"""Of each."""
_TAKEN = {"cuda": 2e13, "mps": 1e12}
"""Multiply-adds a second that are taken for granted: what convolutions reach on a common device."""
_MINUTES_FROM, _HOURS_FROM = 90, 5400
_FAST_BFLOAT16 = 2.0
"""Times float32, on a CPU with instructions for it, or on CUDA: a cautious figure."""


class EstimateDocument(TypedDict):
    """Seconds by stage, and the rate in multiply-adds a second that they come from."""

    seconds: float
    macs_per_second: float
    rate: Literal["measured", "assumed"]
    stages: dict[str, float]


@dataclass(frozen=True)
class Rate:
    """float32 multiply-adds a second; how many times as many in bfloat16."""

    macs_per_second: float
    measured: bool
    bfloat16: float = 1.0


def rate_of(kind: str, fast_bfloat16: bool) -> Rate:
    """Of a kind of device."""
    gain = _FAST_BFLOAT16 if fast_bfloat16 else 1.0
    if kind in _TAKEN:
        return Rate(_TAKEN[kind], False, gain)
    return Rate(_matrix_product_rate(), True, gain)


def _matrix_product_rate() -> float:
    """The best of many products of two sizes: it stands for what the machine can do at most."""
    return max(side**3 / _shortest_product(side) for side in _PROBE_SIDES)


def _shortest_product(side: int) -> float:
    """Seconds."""
    one = np.ones((side, side), dtype=np.float32)
    out = np.empty_like(one)
    began, best = time.perf_counter(), float("inf")
    while best == float("inf") or time.perf_counter() - began < _PROBE_SECONDS:
        start = time.perf_counter()
        np.matmul(one, one, out=out)
        best = min(best, time.perf_counter() - start)
    return best


class Planned(Protocol):
    @property
    def stages(self) -> tuple[StagePlan, ...]: ...


def gpus(kind: str, devices: int) -> int:
    """Devices whose rates add up: a CPU that is named twice is no faster."""
    return 1 if kind == "cpu" else devices


def estimate(plan: Planned, rate: Rate, decoders: int = 1) -> EstimateDocument:
    """A lower bound in good faith: nothing but multiply-adds is counted.

    Args:
        decoders: devices that share the decoding, each as fast as `rate`.
    """
    shared = {"decoding": decoders}
    stages = {
        stage.name: round(_seconds(stage, rate) / shared.get(stage.name, 1), 3)
        for stage in plan.stages
    }
    return {
        "seconds": round(sum(stages.values()), 3),
        "macs_per_second": rate.macs_per_second,
        "rate": "measured" if rate.measured else "assumed",
        "stages": stages,
    }


def duration(seconds: float) -> str:
    """In the unit that a person would choose."""
    if seconds < _MINUTES_FROM:
        return f"{seconds:.1f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if seconds < _HOURS_FROM else f"{minutes / 60:.1f} h"


def _seconds(stage: StagePlan, rate: Rate) -> float:
    gain = rate.bfloat16 if stage.precision == "bfloat16" else 1.0
    return stage.work_macs / (rate.macs_per_second * gain)
