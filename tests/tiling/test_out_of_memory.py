"""Memory that runs out on the way: a smaller plan, the same voxels, nothing left behind."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from synthct.errors import MemoryBudgetError
from synthct.tiling import budget, halo
from synthct.tiling.budget import Plan
from synthct.tiling.halo import run
from synthct.tiling.heap import is_out_of_memory
from synthct.tiling.schedule import schedule
from tests.tiling.networks import NETWORKS, random, relative_error, whole

ERRORS = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: not enough memory"),
    MemoryError(),
]


class _Short:
    """Stands for a machine on which plans above `limit` bytes fail after some slabs."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, limit: int, error: BaseException) -> None:
        self.tried: list[int] = []
        original = halo._Sweeper.run

        def execute(sweeper: halo._Sweeper) -> None:
            self.tried.append(sweeper.plan.peak_bytes)
            if sweeper.plan.peak_bytes > limit:
                self._fail_late(sweeper, error, monkeypatch)
            original(sweeper)

        monkeypatch.setattr(halo._Sweeper, "run", execute)

    def _fail_late(
        self, sweeper: halo._Sweeper, error: BaseException, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        left = 6
        emit = sweeper._emit

        def failing(*arguments: object) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                raise error
            emit(*arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(sweeper, "_emit", failing)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_a_smaller_plan_ends_with_the_same_voxels(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: BaseException
) -> None:
    torch.manual_seed(0)
    layers, x = NETWORKS["decoder"](), random(1, 4, 12, 11, 10)
    plans: list[Plan] = []

    def planner(todo: object, itemsize: int) -> Plan:
        plans.append(budget.automatic(todo, itemsize))  # type: ignore[arg-type]
        return plans[-1]

    expected = whole(layers, x)
    least = budget.minimum(schedule(layers, 4, (12, 11, 10)), 8)
    short = _Short(monkeypatch, least, error)
    got = run(layers, x, planner=planner, dtype=torch.float64, spill_folder=tmp_path)
    assert got is not None
    assert relative_error(got, expected) < 1e-12
    assert short.tried == sorted(short.tried, reverse=True)
    assert len(short.tried) >= 2
    assert not list(tmp_path.iterdir())


def test_after_the_smallest_plan_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    layers, x = NETWORKS["decoder"](), random(1, 4, 12, 11, 10)
    short = _Short(monkeypatch, 0, MemoryError())
    with pytest.raises(MemoryBudgetError, match="ran out of memory") as refused:
        run(layers, x, dtype=torch.float64)
    assert refused.value.minimum == short.tried[-1]
    assert refused.value.exit_code == 5


def test_other_errors_are_not_taken_for_it() -> None:
    assert not is_out_of_memory(RuntimeError("shapes differ"))
    assert not is_out_of_memory(ValueError("batch is empty"))
