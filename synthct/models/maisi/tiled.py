"""From what a caller asks (slabs, planes, budget, plan) to how tiling runs one of the networks."""

from __future__ import annotations

from dataclasses import replace

import torch
from monai.apps.generation.maisi.networks.autoencoderkl_maisi import AutoencoderKlMaisi

from synthct.errors import UsageError
from synthct.models.maisi.plans import longest_axis
from synthct.tensors import FeatureMap
from synthct.tiling import budget as plans
from synthct.tiling.budget import Plan, Room
from synthct.tiling.halo import Planner
from synthct.tiling.schedule import Schedule, arrange


def planner(
    *,
    slabs: int | None = None,
    slab_planes: int | None = None,
    budget: int | None = None,
    plan: Plan | None = None,
    room: Room,
) -> Planner:
    """The planner for at most one of the four ways to say how the map is cut.

    Raises:
        UsageError: two ways at once, or a number below 1.
    """
    numbers = {"slabs": slabs, "slab_planes": slab_planes, "budget": budget}
    given = {name: value for name, value in numbers.items() if value is not None}
    if len(given) + (plan is not None) > 1 or any(value < 1 for value in given.values()):
        raise UsageError(
            f"slabs={slabs}, slab_planes={slab_planes}, budget={budget}, "
            f"plan={None if plan is None else plan.summary!r}: at most one may be given, "
            "and a number must be at least 1",
            "leave them out for slabs that cost little beside the maps",
        )
    if plan is not None:
        return lambda schedule, itemsize: _bound(plan, schedule, itemsize)
    if slabs is not None:
        return lambda s, itemsize: replace(plans.by_count(s, slabs, itemsize), room=room)
    if slab_planes is not None:
        return lambda s, itemsize: replace(plans.by_thickness(s, slab_planes, itemsize), room=room)
    return lambda s, itemsize: plans.choose(s, itemsize, replace(room, budget_bytes=budget))


def smallest(room: Room) -> Planner:
    """The planner that takes the least memory of all."""
    return lambda s, itemsize: plans.by_memory(s, plans.minimum(s, itemsize, room), itemsize, room)


def _bound(plan: Plan, schedule: Schedule, itemsize: int) -> Plan:
    """The plan, made from shapes, for the layers that will run."""
    bound = arrange(schedule.network, plan.schedule.kept)
    if bound.network.maps != plan.schedule.network.maps or itemsize != plan.itemsize:
        raise UsageError(
            f"the plan is for another network, size or precision ({plan.dtype}, "
            f"{plan.schedule.network.maps[0][1]} voxels at its start)",
            "make the plan from the same spec, shape, axis and dtype",
        )
    return replace(plan, schedule=bound)


def checked_axis(image: FeatureMap, axis: int | None) -> int:
    """The axis to cut, the longest where none is named.

    Raises:
        UsageError: an axis other than 0, 1, 2.
    """
    if axis is None:
        return longest_axis(tuple(image.shape[2:]))
    if axis not in (0, 1, 2):
        raise UsageError(f"axis {axis}; the spatial axes are 0, 1 and 2")
    return axis


def device_of(autoencoder: AutoencoderKlMaisi) -> torch.device:
    return next(autoencoder.parameters()).device
