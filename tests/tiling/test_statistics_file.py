"""Statistics that are known beforehand: an interrupted run, and a block of a larger map."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from synthct.errors import UsageError
from synthct.tiling import budget
from synthct.tiling.halo import run
from synthct.tiling.schedule import Schedule, arrange
from synthct.tiling.statistics import Moments
from synthct.tiling.statistics_file import StatisticsFile
from tests.tiling.networks import NETWORKS, random, relative_error, whole


def _keeps_nothing(todo: Schedule, itemsize: int) -> budget.Plan:
    return budget.by_thickness(arrange(todo.network, ()), 1, itemsize)


def test_an_interrupted_run_goes_on_without_measuring_again(tmp_path: Path) -> None:
    torch.manual_seed(0)
    layers, x = NETWORKS["decoder"](), random(1, 4, 9, 6, 5)

    def attempt(name: str, stop_at: float = 2.0) -> tuple[torch.Tensor | None, int]:
        slabs: list[int] = []

        def count(done: int, total: int) -> None:
            slabs.append(done)
            if done > stop_at * total:
                raise KeyboardInterrupt

        known = StatisticsFile(tmp_path / name, "decoder")
        got = run(
            layers,
            x,
            planner=_keeps_nothing,
            dtype=torch.float64,
            statistics=known,
            progress=count,
        )
        return got, len(slabs)

    with pytest.raises(KeyboardInterrupt):
        attempt("interrupted", 0.6)
    got, resumed = attempt("interrupted")
    _, from_nothing = attempt("other")
    assert got is not None and relative_error(got, whole(layers, x)) < 1e-12
    assert resumed < 0.8 * from_nothing  # sweeps that only measure are stepped over as one


def test_a_block_is_part_of_the_whole_when_the_statistics_are() -> None:
    """A middle block, away from its borders by more than the layers reach."""
    torch.manual_seed(0)
    layers, x = NETWORKS["decoder"](), random(1, 4, 32, 6, 6)
    known: dict[int, Moments] = {}
    image = run(layers, x, dtype=torch.float64, statistics=known)
    block = run(layers, x[:, :, 4:28].contiguous(), dtype=torch.float64, statistics=known)
    assert image is not None and block is not None
    scale = image.shape[2] // x.shape[2]
    reach = 10
    inner = block[:, :, reach * scale : -reach * scale]
    expected = image[:, :, (4 + reach) * scale : (28 - reach) * scale]
    assert relative_error(inner, expected) < 1e-12
    alone = run(layers, x[:, :, 4:28].contiguous(), dtype=torch.float64)
    assert alone is not None
    assert relative_error(alone[:, :, reach * scale : -reach * scale], expected) > 1e-4


def test_a_file_of_something_else_is_not_used(tmp_path: Path) -> None:
    path = tmp_path / "known.safetensors"
    moments = Moments()
    moments.add(torch.randn(1, 2, 3, 4, 5))
    StatisticsFile(path, "this")[3] = moments
    again = StatisticsFile(path, "this")
    assert list(again) == [3]
    for mine, kept in zip(moments.per_channel(), again[3].per_channel(), strict=True):
        torch.testing.assert_close(torch.as_tensor(mine), torch.as_tensor(kept))
    assert not StatisticsFile(path, "that")
    path.write_bytes(b"cut")
    assert not StatisticsFile(path, "this")


def test_one_sample_only() -> None:
    with pytest.raises(UsageError, match="one sample"):
        run(NETWORKS["decoder"](), random(2, 4, 5, 4, 4), statistics={})
