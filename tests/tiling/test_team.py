"""Several processes give what one gives."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from synthct.tiling import budget
from synthct.tiling.budget import Plan
from synthct.tiling.halo import run
from synthct.tiling.schedule import Schedule, arrange
from synthct.tiling.team import Workers
from tests.tiling.networks import NETWORKS, random, relative_error, whole

NAMES = ("decoder", "downsample", "barrier", "residual of three passes", "padding ahead only")
KEPT = (frozenset(range(40)), frozenset({3, 6}), frozenset({2}), frozenset())
SIZES = ((7, 4, 5), (3, 5, 4))


def _work(rank: int, count: int, folder: str) -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    meeting = f"file://{folder}/meeting"
    dist.init_process_group(
        "gloo", init_method=meeting, rank=rank, world_size=count, timeout=timedelta(seconds=120)
    )
    team, errors = Workers(), []
    for name in NAMES:
        for kept in KEPT:
            for size in SIZES:
                errors.append(_error(name, kept, size, team))
    dist.destroy_process_group()
    Path(folder, f"worst-{rank}").write_text(str(max(errors)))


def _error(name: str, kept: frozenset[int], size: tuple[int, int, int], team: Workers) -> float:
    def planner(todo: Schedule, itemsize: int) -> Plan:
        return budget.by_thickness(arrange(todo.network, kept), 2, itemsize)

    torch.manual_seed(0)
    layers, x = NETWORKS[name](), random(1, 4, *size)
    got = run(layers, x, axis=0, planner=planner, dtype=torch.float64, team=team)
    assert got is not None
    return relative_error(got, whole(layers, x))


@pytest.mark.parametrize("count", [2, 3])
def test_workers_equal_one_process(tmp_path: Path, count: int) -> None:
    mp.spawn(_work, args=(count, str(tmp_path)), nprocs=count)
    worst = [float(path.read_text()) for path in tmp_path.glob("worst-*")]
    assert len(worst) == count
    assert max(worst) < 1e-12
