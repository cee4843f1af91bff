"""A plan in words, and as a document."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from synthct.tiling.layers import Triple
from synthct.tiling.schedule import OUTPUT, Step

if TYPE_CHECKING:
    from synthct.tiling.budget import Plan

_MIB = 2**20


def lines(plan: Plan) -> list[str]:
    """One line per sweep: grid, slabs, and what becomes of the map that it makes."""
    return [
        f"{number:>3}  {_grid(step.size_out):>13}  {_channels(plan, step):>4} channels  "
        f"{_slabs(plan, number - 1)}  {_fate(plan, step)}"
        for number, step in enumerate(plan.schedule.steps, start=1)
    ]


def summary(plan: Plan) -> str:
    """What was chosen and why, in one line."""
    size = _bytes(plan.peak_bytes)
    if plan.room.budget_bytes is None:
        why = "nothing is made twice"
    else:
        why = f"the quickest that keeps to {_bytes(plan.room.budget_bytes)}"
    spill = ""
    if plan.spilled:
        where = "host memory" if plan.spills_to_host else "a file"
        spill = f", {_bytes(plan.spilled_bytes)} in {where}"
    shared = f" on each of {plan.room.devices} devices" if plan.room.devices > 1 else ""
    return (
        f"slabs of {plan.thickness} planes in {plan.dtype}, {plan.work:.2f} times the work, "
        f"peak {size}{shared}{spill}: {why}"
    )


def as_dict(plan: Plan) -> dict[str, Any]:
    return {
        "dtype": plan.dtype,
        "axis": plan.axis,
        "peak_bytes": plan.peak_bytes,
        "host_bytes": plan.host_bytes,
        "file_bytes": plan.file_bytes,
        "work": round(plan.work, 4),
        "steps": [_step(plan, number) for number in range(len(plan.cuts))],
    }


def _step(plan: Plan, number: int) -> dict[str, Any]:
    step = plan.schedule.steps[number]
    return {
        "grid": list(step.size_out),
        "channels": _channels(plan, step),
        "slabs": len(plan.cuts[number]),
        "planes": _thickest(plan, number),
        "fate": _fate(plan, step),
        "bytes": plan.step_bytes(number),
    }


def _fate(plan: Plan, step: Step) -> str:
    if step.target is None:
        return f"measured only, made again from {_grid(step.size_in)}"
    if step.target.buffer == OUTPUT:
        return "the result"
    if step.target.buffer in plan.spilled:
        return "kept in host memory" if plan.spills_to_host else "kept in a file"
    return "kept, in place of its source" if step.in_place else "kept"


def _channels(plan: Plan, step: Step) -> int:
    return plan.schedule.network.maps[step.end][0]


def _slabs(plan: Plan, number: int) -> str:
    return f"{len(plan.cuts[number]):>4} slabs of {_thickest(plan, number):>3} planes"


def _thickest(plan: Plan, number: int) -> int:
    return max(stop - start for start, stop in plan.cuts[number])


def _grid(size: Triple) -> str:
    return "×".join(map(str, size))


def _bytes(amount: int) -> str:
    gib = amount / 2**30
    return f"{gib:.2f} GiB" if gib >= 1 else f"{amount / _MIB:.0f} MiB"
