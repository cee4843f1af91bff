"""One step of painting a phantom: this id, where this shape is."""

from __future__ import annotations

from dataclasses import dataclass

from synthct.phantom.shapes import Ellipsoid, Point, Shape

LEFT, RIGHT = -1, 1
SIDES = (LEFT, RIGHT)


@dataclass(frozen=True)
class Part:
    """Give the voxels of `shape` the label `id`.

    Args:
        id: a MAISI id; 200 (body) clears what was painted before.
        shape: where.
        rough_mm: how much the surface wobbles (standard deviation, about).
        clip: only inside this shape as well.
        over: only over these ids (None: over everything in the body).
        halo_mm: clear that much around the structure before it is painted: a layer of fat.
    """

    id: int
    shape: Shape
    rough_mm: float = 0.8
    clip: Shape | None = None
    over: frozenset[int] | None = None
    halo_mm: float = 0.0


def mirrored(points: list[tuple[float, float, float]], side: int) -> list[Point]:
    """Points given for the right side (x > 0), on `side`."""
    return [(side * x, y, z) for x, y, z in points]


def ball(center: Point, radius_mm: float) -> Ellipsoid:
    return Ellipsoid(center, (radius_mm, radius_mm, radius_mm))
