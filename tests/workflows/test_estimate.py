"""Times follow from the work and a rate; the rate of a CPU is measured."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest

from synthct.models.maisi.spec import preset
from synthct.workflows.estimate import Rate, estimate, rate_of
from synthct.workflows.memory import Job, plan_run

SIZE = (128, 128, 64)


def _job() -> Job:
    return Job(preset("mini-ct"), fed=SIZE, inner=SIZE, asked=SIZE, steps=10)


def test_seconds_are_work_over_rate() -> None:
    plan = plan_run(replace(_job(), precision="float32"))
    found = estimate(plan, Rate(1e9, True))
    assert found["seconds"] == pytest.approx(plan.work_macs / 1e9, abs=0.01)
    assert found["seconds"] == pytest.approx(sum(found["stages"].values()))
    twice = estimate(plan_run(replace(_job(), precision="float32", steps=20)), Rate(1e9, True))
    assert 1.5 < twice["stages"]["sampling"] / found["stages"]["sampling"] <= 2
    assert twice["stages"]["decoding"] == found["stages"]["decoding"]


def test_bfloat16_is_as_much_faster_as_the_rate_says() -> None:
    one = estimate(plan_run(replace(_job(), precision="bfloat16")), Rate(1e9, True, 1.0))
    two = estimate(plan_run(replace(_job(), precision="bfloat16")), Rate(1e9, True, 2.0))
    assert one["seconds"] == pytest.approx(2 * two["seconds"], rel=1e-3)


def test_the_rate_of_a_cpu_is_measured_in_a_moment() -> None:
    began = time.perf_counter()
    rate = rate_of("cpu", fast_bfloat16=False)
    assert time.perf_counter() - began < 2
    assert rate.measured
    one = np.ones((512, 512), dtype=np.float32)
    began = time.perf_counter()
    for _ in range(4):
        one @ one
    seen = 4 * 512**3 / (time.perf_counter() - began)
    assert 0.2 < rate.macs_per_second / seen < 20  # the machine may be shared


def test_the_rate_of_a_gpu_is_said_to_be_assumed() -> None:
    plan = plan_run(replace(_job(), device="cuda"))
    assert estimate(plan, rate_of("cuda", fast_bfloat16=True))["rate"] == "assumed"
