"""Plans: thin enough for the memory given, and every plane in one slab."""

from __future__ import annotations

import pytest
import torch

from synthct.errors import MemoryBudgetError
from synthct.tiling import budget
from synthct.tiling.layers import Conv, GroupNorm, Residual, Upsample
from synthct.tiling.modules import silu
from synthct.tiling.schedule import OUTPUT, Schedule, schedule

MIB = 2**20


def _conv(into: int, out: int, kernel: int = 3) -> Conv:
    pad = (kernel // 2,) * 3
    return Conv(torch.empty(out, into, kernel, kernel, kernel), None, (1, 1, 1), pad, pad)


def _block(into: int, out: int) -> Residual:
    first = (GroupNorm(8, 1e-6, None, None), silu(), _conv(into, out))
    second = (GroupNorm(8, 1e-6, None, None), silu(), _conv(out, out))
    return Residual((*first, *second), () if into == out else (_conv(into, out, 1),))


def _published(size: tuple[int, int, int]) -> Schedule:
    """The published decoder's layers (MAISI.md section 3): 64, 128, 256 channels."""
    layers = (
        _conv(4, 256),
        *(_block(256, 256), _block(256, 256), Upsample(), _conv(256, 256)),
        *(_block(256, 128), _block(128, 128), Upsample(), _conv(128, 128)),
        *(_block(128, 64), _block(64, 64), GroupNorm(8, 1e-6, None, None), _conv(64, 1)),
    )
    return schedule(layers, 4, size)


def test_the_largest_map_is_the_only_full_resolution_buffer() -> None:
    todo = _published((64, 64, 32))
    voxels = 256 * 256 * 128
    full = [b for b in todo.buffers if b.size == (256, 256, 128)]
    assert [b.channels for b in full] == [128]
    assert max(todo.live_elements(i) for i in range(len(todo.steps))) <= 1.13 * 128 * voxels
    assert todo.steps[-1].target.buffer == OUTPUT


def test_the_automatic_plan_stays_near_the_maps() -> None:
    todo = _published((64, 64, 32))
    one_map = 4 * 128 * 256 * 256 * 128
    assert budget.automatic(todo).peak_bytes <= 1.25 * one_map


def test_less_memory_gives_thinner_slabs_and_is_kept() -> None:
    todo = _published((48, 48, 48))
    generous, least = budget.by_count(todo, 1).peak_bytes, budget.minimum(todo)
    allowed = [least + (generous - least) * k // 8 for k in range(9)]
    plans = [budget.by_memory(todo, limit) for limit in allowed]
    assert all(plan.peak_bytes <= limit for plan, limit in zip(plans, allowed, strict=True))
    seconds = [plan.seconds for plan in plans]
    assert seconds == sorted(seconds, reverse=True)
    assert plans[0].work > plans[-1].work == 1


def test_too_little_memory_is_refused_with_the_least_that_works() -> None:
    todo = _published((16, 16, 16))
    least = budget.minimum(todo)
    assert budget.by_memory(todo, least).peak_bytes <= least
    with pytest.raises(MemoryBudgetError, match=f"at least {least / MIB:.0f} MiB") as refused:
        budget.by_memory(todo, int(0.9 * least))
    assert refused.value.as_dict()["minimum"] == least


@pytest.mark.parametrize("planes", [1, 3, 1000])
def test_thickness_is_kept_where_slabs_are_largest(planes: int) -> None:
    todo = _published((5, 3, 2))
    plan = budget.by_thickness(todo, planes)
    costs = [
        budget.step_elements(todo, step, max(b - a for a, b in cuts))
        for step, cuts in zip(todo.steps, plan.cuts, strict=True)
    ]
    thick = [max(b - a for a, b in cuts) for cuts in plan.cuts]
    assert min(n for n, cost in zip(thick, costs, strict=True) if cost == max(costs)) <= planes


def test_every_plan_covers_every_plane() -> None:
    todo = _published((7, 3, 2))
    for plan in (budget.automatic(todo), budget.by_count(todo, 4), budget.by_thickness(todo, 3)):
        for step, cuts in zip(todo.steps, plan.cuts, strict=True):
            planes = [p for start, stop in cuts for p in range(start, stop)]
            assert planes == list(range(step.size_out[0]))


def test_a_convolution_to_one_channel_counts_in_float32_where_maps_are_halves() -> None:
    """Its window and its taps are twice as large as those of a map's own elements."""
    todo = schedule((_conv(32, 1),), 32, (40, 64, 64))
    step = todo.steps[-1]
    single = budget.step_elements(todo, step, 8, itemsize=4)
    assert budget.step_elements(todo, step, 8, itemsize=2) == pytest.approx(2 * single, rel=0.02)
    wide = schedule((_conv(32, 8),), 32, (40, 64, 64))
    both = {budget.step_elements(wide, wide.steps[-1], 8, itemsize=n) for n in (2, 4)}
    assert len(both) == 1
