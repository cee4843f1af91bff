"""Solid shapes as distance functions: negative inside, about millimetres near the surface.

Coordinates are those of the model body (x right, y anterior, z superior, mm). A shape offers
`pieces`, each with its own box, so that a long tube is evaluated only near its segments.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from synthct.phantom.fields import Array

Point = tuple[float, float, float]
Bounds = tuple[Point, Point]
FARAWAY = 1e4
EVERYWHERE: Bounds = ((-FARAWAY,) * 3, (FARAWAY,) * 3)


class Shape(ABC):
    """Something that knows how far a point is from its surface."""

    @abstractmethod
    def distance(self, x: Array, y: Array, z: Array) -> Array:
        """Signed distance in mm (approximate; negative inside) of points given by coordinate."""

    @property
    @abstractmethod
    def bounds(self) -> Bounds:
        """The box (low corner, high corner) outside of which `distance` is positive."""

    @property
    def pieces(self) -> tuple[Shape, ...]:
        """Shapes whose union this is; each is evaluated in its own box."""
        return (self,)

    def contains(self, point: Point, margin_mm: float = 0.0) -> bool:
        x, y, z = (np.array([c], dtype=np.float32) for c in point)
        return bool(self.distance(x, y, z)[0] < -margin_mm)


@dataclass(frozen=True)
class Ellipsoid(Shape):
    """`radii_mm` along the model's axes, turned by `turn_deg` about x, then y, then z."""

    center: Point
    radii_mm: Point
    turn_deg: Point = (0.0, 0.0, 0.0)

    def distance(self, x: Array, y: Array, z: Array) -> Array:
        axes = rotation(self.turn_deg).T / np.asarray(self.radii_mm)[:, None]
        p = [x - self.center[0], y - self.center[1], z - self.center[2]]
        near = np.zeros_like(p[0])
        slope = np.zeros_like(p[0])
        for row, radius in zip(axes.astype(np.float32), self.radii_mm, strict=True):
            u = row[0] * p[0] + row[1] * p[1] + row[2] * p[2]
            near += u * u
            slope += (u / np.float32(radius)) ** 2
        tiny = np.float32(1e-8)  # at the very centre the distance is the smallest radius
        near = np.sqrt(near + tiny)
        result: Array = (
            near * (near - 1) / np.sqrt(slope + tiny / np.float32(min(self.radii_mm)) ** 2)
        )
        return result

    @property
    def bounds(self) -> Bounds:
        reach = np.sqrt((rotation(self.turn_deg) ** 2) @ (np.asarray(self.radii_mm) ** 2))
        return box(np.asarray(self.center) - reach, np.asarray(self.center) + reach)

    def grown(self, by_mm: float) -> Ellipsoid:
        a, b, c = (r + by_mm for r in self.radii_mm)
        return Ellipsoid(self.center, (a, b, c), self.turn_deg)


@dataclass(frozen=True)
class Segment(Shape):
    """A straight piece of tube, round at its ends; `flatten` stretches its cross-section."""

    start: Point
    end: Point
    start_radius_mm: float
    end_radius_mm: float
    flatten: Point = (1.0, 1.0, 1.0)

    def distance(self, x: Array, y: Array, z: Array) -> Array:
        f = np.asarray(self.flatten, dtype=np.float32)
        a = np.asarray(self.start, dtype=np.float32)
        along = (np.asarray(self.end, dtype=np.float32) - a) / f
        px, py, pz = (x - a[0]) / f[0], (y - a[1]) / f[1], (z - a[2]) / f[2]
        length = np.float32(max(float(along @ along), 1e-6))
        t = np.clip((px * along[0] + py * along[1] + pz * along[2]) / length, 0, 1)
        gap = np.sqrt(
            (px - t * along[0]) ** 2 + (py - t * along[1]) ** 2 + (pz - t * along[2]) ** 2
        )
        widening = np.float32(self.end_radius_mm - self.start_radius_mm)
        result: Array = gap - (np.float32(self.start_radius_mm) + t * widening)
        return result

    @property
    def bounds(self) -> Bounds:
        ends = np.array([self.start, self.end])
        radii = np.array([[self.start_radius_mm], [self.end_radius_mm]]) * np.asarray(self.flatten)
        return box((ends - radii).min(axis=0), (ends + radii).max(axis=0))


@dataclass(frozen=True)
class Drum(Shape):
    """An elliptic cylinder whose axis leans in the sagittal plane: a vertebral body.

    `lean_deg` > 0 tips the top backwards; `waist` narrows the middle by that share.
    """

    center: Point
    half_width_mm: float
    half_depth_mm: float
    half_height_mm: float
    lean_deg: float = 0.0
    waist: float = 0.08

    def distance(self, x: Array, y: Array, z: Array) -> Array:
        sin, cos = np.sin(np.radians(self.lean_deg)), np.cos(np.radians(self.lean_deg))
        dx, dy, dz = x - self.center[0], y - self.center[1], z - self.center[2]
        v = (cos * dy + sin * dz).astype(np.float32)
        w = (cos * dz - sin * dy).astype(np.float32)
        shrink = 1 - self.waist * (1 - np.minimum((w / self.half_height_mm) ** 2, 1))
        u = np.sqrt((dx / self.half_width_mm) ** 2 + (v / self.half_depth_mm) ** 2) / shrink
        side = (u - 1) * min(self.half_width_mm, self.half_depth_mm)
        result: Array = np.maximum(side, np.abs(w) - self.half_height_mm).astype(np.float32)
        return result

    @property
    def bounds(self) -> Bounds:
        reach = self.half_depth_mm + self.half_height_mm
        half = np.array([self.half_width_mm, reach, reach])
        return box(np.asarray(self.center) - half, np.asarray(self.center) + half)


@dataclass(frozen=True)
class Half(Shape):
    """The half-space where `normal`·p < `offset_mm` (a unit normal gives true distances)."""

    normal: Point
    offset_mm: float

    def distance(self, x: Array, y: Array, z: Array) -> Array:
        a, b, c = (np.float32(n) for n in self.normal)
        result: Array = a * x + b * y + c * z - np.float32(self.offset_mm)
        return result

    @property
    def bounds(self) -> Bounds:
        return EVERYWHERE


@dataclass(frozen=True)
class Union(Shape):
    """Whatever lies in one of `members`."""

    members: tuple[Shape, ...]

    def distance(self, x: Array, y: Array, z: Array) -> Array:
        result = self.members[0].distance(x, y, z)
        for member in self.members[1:]:
            result = np.minimum(result, member.distance(x, y, z))
        return result

    @property
    def bounds(self) -> Bounds:
        corners = np.array([m.bounds for m in self.members])
        return box(corners[:, 0].min(axis=0), corners[:, 1].max(axis=0))

    @property
    def pieces(self) -> tuple[Shape, ...]:
        return tuple(piece for member in self.members for piece in member.pieces)


@dataclass(frozen=True)
class Intersection(Shape):
    """Whatever lies in all of `members`, and in none of `without`."""

    members: tuple[Shape, ...]
    without: tuple[Shape, ...] = ()

    def distance(self, x: Array, y: Array, z: Array) -> Array:
        result = self.members[0].distance(x, y, z)
        for member in self.members[1:]:
            result = np.maximum(result, member.distance(x, y, z))
        for hole in self.without:
            result = np.maximum(result, -hole.distance(x, y, z))
        return result

    @property
    def bounds(self) -> Bounds:
        corners = np.array([m.bounds for m in self.members])
        return box(corners[:, 0].max(axis=0), corners[:, 1].min(axis=0))


@dataclass(frozen=True)
class Grown(Shape):
    """`shape` with its surface moved outwards by `by_mm`."""

    shape: Shape
    by_mm: float

    def distance(self, x: Array, y: Array, z: Array) -> Array:
        result: Array = self.shape.distance(x, y, z) - np.float32(self.by_mm)
        return result

    @property
    def bounds(self) -> Bounds:
        low, high = np.asarray(self.shape.bounds)
        return box(low - self.by_mm, high + self.by_mm)

    @property
    def pieces(self) -> tuple[Shape, ...]:
        inner = self.shape.pieces
        return (self,) if len(inner) == 1 else tuple(Grown(p, self.by_mm) for p in inner)


def tube(
    points: Sequence[Sequence[float]],
    radii_mm: float | Sequence[float],
    *,
    flatten: Point = (1.0, 1.0, 1.0),
) -> Union:
    """A tube along a smooth curve through `points`, its radius running through `radii_mm`."""
    radii = np.broadcast_to(np.asarray(radii_mm, dtype=np.float64), (len(points),))
    knots = np.column_stack([np.asarray(points, dtype=np.float64), radii])
    dense = smooth_curve(knots, step_mm=max(6.0, 0.6 * float(radii.min())))
    return Union(
        tuple(
            Segment(point(a[:3]), point(b[:3]), float(a[3]), float(b[3]), flatten)
            for a, b in pairwise(dense)
        )
    )


def sheet(
    one: Sequence[Sequence[float]], other: Sequence[Sequence[float]], radius_mm: float
) -> Union:
    """A plate between two curves, as thick as 2 · `radius_mm`: tubes laid side by side."""
    a, b = _resampled(np.asarray(one, dtype=np.float64)), _resampled(np.asarray(other, dtype=float))
    width = float(np.linalg.norm(a - b, axis=1).max())
    count = max(2, round(width / (1.1 * radius_mm)) + 1)
    rows = (a + (b - a) * t for t in np.linspace(0, 1, count))
    return Union(
        tuple(
            Segment(point(p), point(q), radius_mm, radius_mm)
            for row in rows
            for p, q in pairwise(row)
        )
    )


def smooth_curve(knots: npt.NDArray[np.float64], step_mm: float) -> npt.NDArray[np.float64]:
    """Points about `step_mm` apart on the Catmull-Rom curve through `knots` (n, ≥ 3)."""
    if len(knots) < 3:
        return knots
    padded = np.vstack([2 * knots[0] - knots[1], knots, 2 * knots[-1] - knots[-2]])
    out = [knots[:1]]
    for p0, p1, p2, p3 in zip(padded, padded[1:], padded[2:], padded[3:], strict=False):
        n = max(1, int(np.ceil(np.linalg.norm((p2 - p1)[:3]) / step_mm)))
        t = (np.arange(1, n + 1) / n)[:, None]
        out.append(
            0.5
            * (
                2 * p1
                + (p2 - p0) * t
                + (2 * p0 - 5 * p1 + 4 * p2 - p3) * t**2
                + (3 * p1 - 3 * p2 + p3 - p0) * t**3
            )
        )
    return np.vstack(out)


def _resampled(curve: npt.NDArray[np.float64], count: int = 9) -> npt.NDArray[np.float64]:
    dense = smooth_curve(curve, step_mm=3.0)
    run = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(dense, axis=0), axis=1))])
    at = np.linspace(0, run[-1], count)
    return np.column_stack([np.interp(at, run, dense[:, i]) for i in range(3)])


def rotation(turn_deg: Point) -> npt.NDArray[np.float64]:
    """3×3: about x, then y, then z, right-handed, degrees."""
    (ca, cb, cc), (sa, sb, sc) = np.cos(np.radians(turn_deg)), np.sin(np.radians(turn_deg))
    about_x = np.array([[1, 0, 0], [0, ca, -sa], [0, sa, ca]])
    about_y = np.array([[cb, 0, sb], [0, 1, 0], [-sb, 0, cb]])
    about_z = np.array([[cc, -sc, 0], [sc, cc, 0], [0, 0, 1]])
    return np.asarray(about_z @ about_y @ about_x)


def box(low: npt.NDArray[np.float64], high: npt.NDArray[np.float64]) -> Bounds:
    return point(low), point(high)


def point(values: npt.NDArray[np.float64]) -> Point:
    return float(values[0]), float(values[1]), float(values[2])
