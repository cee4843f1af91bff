"""Several processes give what one gives."""

from __future__ import annotations

import json
import os
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from synthct.tiling import budget, halo, shares
from synthct.tiling.budget import Plan, Room
from synthct.tiling.halo import run
from synthct.tiling.schedule import Schedule, arrange, schedule
from synthct.tiling.team import Workers
from tests.tiling.networks import NETWORKS, random, relative_error, whole

NAMES = ("decoder", "downsample", "barrier", "residual of three passes", "padding ahead only")
KEPT = (frozenset(range(40)), frozenset({3, 6}), frozenset({2}), frozenset())
SIZES = ((7, 4, 5), (3, 5, 4))


def _work(rank: int, count: int, folder: str) -> None:
    _meet(rank, count, folder)
    team, errors = Workers(), []
    for name in NAMES:
        for kept in KEPT:
            for size in SIZES:
                errors.append(_error(name, kept, size, team))
    dist.destroy_process_group()
    Path(folder, f"worst-{rank}").write_text(str(max(errors)), encoding="utf-8")


def _meet(rank: int, count: int, folder: str) -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    meeting = f"file://{folder}/meeting"
    dist.init_process_group(
        "gloo", init_method=meeting, rank=rank, world_size=count, timeout=timedelta(seconds=120)
    )


def _error(name: str, kept: frozenset[int], size: tuple[int, int, int], team: Workers) -> float:
    def planner(todo: Schedule, itemsize: int) -> Plan:
        return budget.by_thickness(arrange(todo.network, kept), 2, itemsize)

    torch.manual_seed(0)
    layers, x = NETWORKS[name](), random(1, 4, *size)
    got = run(layers, x, axis=0, planner=planner, dtype=torch.float64, team=team)
    assert got is not None
    return relative_error(got, whole(layers, x))


def _work_in_little(rank: int, count: int, folder: str) -> None:
    """Worker 1 runs out of memory on its third slab, once; the others must not wait for ever."""
    _meet(rank, count, folder)
    emit, short = halo._Sweeper._emit, [3]
    tried: list[int] = []

    def emitted(sweeper: halo._Sweeper, *arguments: object) -> None:
        if not tried or tried[-1] != sweeper.plan.peak_bytes:
            tried.append(sweeper.plan.peak_bytes)
        if rank == 1 and short:
            short[0] -= 1
            if short[0] == 0:
                short.pop(0)
                raise MemoryError
        emit(sweeper, *arguments)  # type: ignore[arg-type]

    halo._Sweeper._emit = emitted  # type: ignore[method-assign]
    torch.manual_seed(0)
    layers, x = NETWORKS["decoder"](), random(1, 4, 12, 11, 10)
    got = run(layers, x, dtype=torch.float64, team=Workers())
    dist.destroy_process_group()
    assert got is not None
    Path(folder, f"worst-{rank}").write_text(
        str(relative_error(got, whole(layers, x))), encoding="utf-8"
    )
    Path(folder, f"tried-{rank}").write_text(str(tried), encoding="utf-8")


def test_memory_that_runs_out_for_one_makes_all_plan_again(tmp_path: Path) -> None:
    mp.spawn(_work_in_little, args=(2, str(tmp_path)), nprocs=2)
    assert max(float(path.read_text(encoding="utf-8")) for path in tmp_path.glob("worst-*")) < 1e-12
    tried = [json.loads(path.read_text(encoding="utf-8")) for path in tmp_path.glob("tried-*")]
    assert tried[0] == tried[1] == sorted(tried[0], reverse=True)
    assert len(set(tried[0])) == 2


def test_predicted_shares_are_those_that_are_allocated() -> None:
    """`Plan.step_bytes` counts what the device with the largest share holds."""
    layers = NETWORKS["decoder"]()
    todo = schedule(layers, 4, (13, 5, 6))
    alone = budget.automatic(todo, 8, Room(streamed=True))
    for count in (2, 3, 20):
        plan = budget.automatic(todo, 8, Room(streamed=True, devices=count))
        for index in range(len(plan.cuts)):
            elements = [_held(todo, index, count, rank) for rank in range(count)]
            assert shares.live_elements(todo, index, (), count) == max(elements)
        assert plan.peak_bytes < alone.peak_bytes


def _held(todo: Schedule, index: int, count: int, rank: int) -> int:
    total = 0
    for number in todo.live(index):
        buffer, (first, stop) = todo.buffers[number], shares.held(todo, number, count, rank)
        assert 0 <= first <= stop <= buffer.size[0]
        total += (stop - first) * buffer.elements // buffer.size[0]
    return total


@pytest.mark.parametrize("count", [2, 3])
def test_workers_equal_one_process(tmp_path: Path, count: int) -> None:
    mp.spawn(_work, args=(count, str(tmp_path)), nprocs=count)
    worst = [float(path.read_text(encoding="utf-8")) for path in tmp_path.glob("worst-*")]
    assert len(worst) == count
    assert max(worst) < 1e-12
