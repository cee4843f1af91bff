"""Keeping less and making it again changes memory and work, and not one voxel."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from synthct.errors import MemoryBudgetError
from synthct.tiling import budget
from synthct.tiling.budget import Plan, Room
from synthct.tiling.halo import run
from synthct.tiling.schedule import Schedule, arrange, schedule
from synthct.tiling.stores import Stores
from synthct.tiling.strategies import candidates
from tests.tiling.networks import NETWORKS, random, relative_error, whole

Size = tuple[int, int, int]


@pytest.mark.parametrize("name", NETWORKS)
@settings(max_examples=20, deadline=None)
@given(
    size=st.tuples(*(st.integers(3, 9) for _ in range(3))),
    slabs=st.integers(1, 9),
    axis=st.integers(0, 2),
    kept=st.frozensets(st.integers(1, 12)),
    spilled=st.frozensets(st.integers(0, 4)),
    seed=st.integers(0, 2**16),
)
def test_whatever_is_kept_or_spilled(
    name: str,
    size: Size,
    slabs: int,
    axis: int,
    kept: frozenset[int],
    spilled: frozenset[int],
    seed: int,
) -> None:
    torch.manual_seed(seed)
    layers, x = NETWORKS[name](), random(1, 4, *size)

    def planner(todo: Schedule, itemsize: int) -> Plan:
        plan = budget.by_count(arrange(todo.network, kept), slabs, itemsize)
        present = frozenset(range(len(plan.schedule.buffers)))
        return Plan(plan.schedule, plan.cuts, itemsize, spilled=spilled & present)

    before = x.clone()
    got = run(layers, x, axis=axis, planner=planner, dtype=torch.float64)
    assert got is not None
    assert torch.equal(x, before)
    assert relative_error(got, whole(layers, x)) < 1e-12


def _shapes(name: str, size: Size) -> Schedule:
    torch.manual_seed(0)
    return schedule(NETWORKS[name](), 4, size)


@pytest.mark.parametrize("name", NETWORKS)
@settings(max_examples=20, deadline=None)
@given(
    size=st.tuples(*(st.integers(3, 200) for _ in range(3))),
    file_bytes=st.sampled_from([0, 2**20, 2**40]),
    share=st.floats(1.0, 4.0),
)
def test_a_budget_is_kept_and_the_smallest_is_the_smallest(
    name: str, size: Size, file_bytes: int, share: float
) -> None:
    todo, room = _shapes(name, size), Room(file_bytes=file_bytes)
    least = budget.minimum(todo, 4, room)
    assert budget.by_memory(todo, least, 4, room).peak_bytes <= least
    plan = budget.by_memory(todo, int(least * share), 4, room)
    assert plan.peak_bytes <= int(least * share)
    assert plan.file_bytes <= file_bytes
    with pytest.raises(MemoryBudgetError) as refused:
        budget.by_memory(todo, int(0.9 * least), 4, room)
    assert refused.value.minimum == least


@pytest.mark.parametrize("name", ["decoder", "residual first", "barrier", "downsample"])
def test_less_memory_costs_no_less_work(name: str) -> None:
    todo = _shapes(name, (64, 64, 64))
    plans = [budget.by_memory(todo, budget.minimum(todo) * k // 8) for k in range(8, 40)]
    seconds = [plan.seconds for plan in plans]
    assert seconds == sorted(seconds, reverse=True)
    assert plans[-1].work == 1


def test_barriers_are_always_kept() -> None:
    todo = _shapes("barrier", (8, 8, 8))
    assert todo.network.barriers
    for kept in candidates(todo.network):
        assert todo.network.barriers <= arrange(todo.network, kept).kept


def test_a_spill_file_is_gone_afterwards(tmp_path: Path) -> None:
    torch.manual_seed(0)
    layers, x = NETWORKS["decoder"](), random(1, 4, 6, 5, 4)
    seen: list[int] = []

    def planner(todo: Schedule, itemsize: int) -> Plan:
        plan = budget.by_count(todo, 3, itemsize)
        return Plan(todo, plan.cuts, itemsize, spilled=frozenset(range(len(todo.buffers))))

    got = run(
        layers,
        x,
        planner=planner,
        dtype=torch.float64,
        spill_folder=tmp_path,
        progress=lambda done, total: seen.append(len(list(tmp_path.iterdir()))),
    )
    assert got is not None
    assert relative_error(got, whole(layers, x)) < 1e-12
    assert not list(tmp_path.iterdir())
    assert seen


def test_a_spilled_map_lies_as_torch_expects_of_channels_last(tmp_path: Path) -> None:
    """Else a convolution copies what it reads, three times over, and the plan is not kept."""
    todo = schedule(NETWORKS["decoder"](), 4, (6, 5, 4))
    everything = frozenset(range(len(todo.buffers)))
    plan = Plan(todo, budget.by_count(todo, 3, 4).cuts, 4, spilled=everything)
    cpu = torch.device("cpu")
    with Stores(plan, torch.float32, cpu, tmp_path, lambda s, n: (0, s.buffers[n].size[0])) as kept:
        kept.open(0)
        slot = todo.steps[0].target
        assert slot is not None
        region = kept.region(slot)
        shape = (1, todo.buffers[slot.buffer].channels, *region.shape[2:])  # [hidden | skip]
        usual = torch.empty(shape, memory_format=torch.channels_last_3d)
        assert region.stride() == usual.stride()
