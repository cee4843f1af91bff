"""The self-test passes here, and fails when it should."""

from __future__ import annotations

import pytest

from synthct.errors import UsageError
from synthct.workflows import selftest
from synthct.workflows.selftest import TASKS, selftest_decode


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some decoder and encoder tasks that have neighbours to lose."""
    chosen = [task for task in TASKS if task.network == "small"][2::4]
    monkeypatch.setattr(selftest, "TASKS", tuple(chosen))


def test_sizes_that_do_not_divide_are_among_the_tasks() -> None:
    assert any(task.slabs and task.shape[task.axis] * 4 % task.slabs for task in TASKS)
    assert {task.axis for task in TASKS} == {0, 1, 2}
    assert {task.part for task in TASKS} == {"decoder", "encoder"}
    assert any(1 in task.shape for task in TASKS)
    assert any(task.slabs is None for task in TASKS)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_tiled_equals_whole_here(few: None, dtype: str) -> None:
    result = selftest_decode("cpu", dtype)  # type: ignore[arg-type]
    assert result.passed, result.as_dict()
    assert {case["dtype"] for case in result.as_dict()["cases"]} == {dtype}


def test_without_halo_every_case_fails(few: None) -> None:
    result = selftest_decode("cpu", halo_limit=0)
    assert not any(case.passed for case in result.cases)
    assert not result.passed


def test_an_absent_device_is_refused() -> None:
    with pytest.raises(UsageError, match="no device"):
        selftest_decode("cuda:99")
