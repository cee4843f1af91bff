"""The envelope of the trunk in layers: skin, fat, muscle wall, rib cage, cavities, diaphragm.

Everything here is a function of the height z in the model body (mm): L5 lies at z = 0, the
diaphragm near 215, the top of the lungs near 405, the base of the skull near 560. Widths, depths
and the curve of the spine are those of an adult of middle size, measured on open label maps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from synthct.phantom.fields import Array
from synthct.phantom.person import Person
from synthct.phantom.shapes import (
    FARAWAY,
    Bounds,
    Half,
    Intersection,
    Point,
    Shape,
    Union,
)

Knots = Sequence[tuple[float, float]]

LEAN_HALF_WIDTH: Knots = (
    (-240, 150), (-200, 158), (-170, 162), (-130, 163), (-90, 159), (-50, 152), (-10, 142),
    (30, 133), (70, 132), (110, 138), (150, 146), (200, 149), (250, 147), (300, 150), (340, 157),
    (365, 158), (385, 140), (400, 114), (415, 88), (430, 72), (450, 62), (500, 56), (560, 55),
)  # fmt: skip
LEAN_FRONT: Knots = (
    (-240, 70), (-170, 78), (-130, 92), (-90, 100), (-50, 103), (-10, 104), (30, 110), (70, 119),
    (110, 135), (150, 152), (190, 160), (230, 158), (270, 154), (310, 146), (340, 136), (360, 126),
    (380, 115), (400, 104), (415, 98), (430, 95), (450, 95), (480, 99), (510, 103), (560, 106),
)  # fmt: skip
LEAN_BEHIND_CORD: Knots = (
    (-240, -14), (-190, -22), (-130, 0), (-80, 20), (-30, 34), (20, 44), (100, 48), (180, 46),
    (270, 40), (350, 42), (400, 48), (440, 52), (480, 52), (520, 48), (560, 44),
)  # fmt: skip
CAGE_HALF_WIDTH: Knots = (
    (90, 124), (130, 132), (170, 136), (210, 134), (250, 129), (290, 124), (330, 117), (350, 112),
    (370, 103), (388, 88), (400, 70), (412, 46), (422, 14), (428, 4),
)  # fmt: skip
CAGE_FRONT: Knots = (
    (90, 128), (110, 136), (140, 143), (170, 148), (200, 148), (230, 146), (250, 143), (270, 139),
    (290, 134), (310, 128), (330, 121), (350, 112), (375, 98), (390, 88), (402, 72), (412, 58),
    (422, 44), (428, 36),
)  # fmt: skip
CAGE_BEHIND_CORD: Knots = (
    (90, 16), (110, 20), (130, 27), (160, 33), (210, 36), (250, 33), (290, 29), (330, 26),
    (370, 23), (390, 18), (402, 10), (412, 0), (422, -14), (428, -18),
)  # fmt: skip
CORD_Y: Knots = (
    (-110, -64), (-60, -50), (-30, -35), (-10, -24), (10, -17), (40, -14), (90, -13), (130, -13),
    (170, -16), (210, -21), (250, -26), (290, -27), (320, -24), (350, -18), (380, -8), (410, 3),
    (440, 14), (470, 23), (500, 30), (530, 34), (565, 36),
)  # fmt: skip
BODY_DEPTH: Knots = (
    (-30, 34), (0, 37), (70, 37), (137, 35), (167, 33), (245, 31), (318, 28), (384, 21), (423, 18),
    (441, 17), (560, 15),
)  # fmt: skip
FAT: Knots = (
    (-260, 1.0), (-120, 1.25), (-60, 1.25), (0, 1.2), (60, 1.15), (120, 0.9), (180, 0.65),
    (260, 0.55), (340, 0.5), (400, 0.45), (440, 0.35), (500, 0.3), (560, 0.2), (760, 0.15),
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Profile:
    """A smooth function of z through `knots`, tabulated every half millimetre."""

    knots: Knots

    @cached_property
    def _table(self) -> tuple[Array, float]:
        z = np.arange(self.knots[0][0] - 20, self.knots[-1][0] + 20, 0.5)
        at, value = np.array(self.knots, dtype=np.float64).T
        raw = np.interp(z, at, value)
        window = np.hanning(41)
        smooth = np.convolve(np.pad(raw, 20, mode="edge"), window / window.sum(), mode="valid")
        return smooth.astype(np.float32), float(z[0])

    def __call__(self, z: Array) -> Array:
        table, first = self._table
        index = ((z - np.float32(first)) * 2).astype(np.int32)
        return table[np.clip(index, 0, len(table) - 1)]

    def at(self, z: float) -> float:
        return float(self(np.array([z], dtype=np.float32))[0])

    def plus(self, amount: float) -> Profile:
        return Profile([(z, v + amount) for z, v in self.knots])


@dataclass(frozen=True, eq=False)
class Column(Shape):
    """A stack of rounded boxes: half-width, front and back are functions of z.

    `square` 2 makes the cross-section an ellipse, 0 a superellipse of the fourth order.
    """

    half_width: Profile
    front: Profile
    back: Profile
    z_range: tuple[float, float]
    square: float = 1.1

    def distance(self, x: Array, y: Array, z: Array) -> Array:
        a, front, back = np.maximum(self.half_width(z), 2), self.front(z), self.back(z)
        b = np.maximum((front - back) / 2, 2)
        u, v = x / a, (y - (front + back) / 2) / b
        uu, vv, c = u * u, v * v, np.float32(self.square)
        quartic = uu * uu + vv * vv + c * uu * vv + np.float32(1e-9)
        f = np.sqrt(np.sqrt(quartic))
        slope_u = (4 * uu + 2 * c * vv) * u / a
        slope_v = (4 * vv + 2 * c * uu) * v / b
        steep = np.sqrt(slope_u * slope_u + slope_v * slope_v) + np.float32(1e-7)
        side = (f - 1) * 4 * f * f * f / steep
        low, high = self.z_range
        result: Array = np.maximum(side, np.maximum(z - high, low - z)).astype(np.float32)
        return result

    @property
    def bounds(self) -> Bounds:
        z = np.arange(*self.z_range, 2.0).astype(np.float32)
        a = float(self.half_width(z).max())
        return (
            (-a, float(self.back(z).min()), self.z_range[0]),
            (a, float(self.front(z).max()), self.z_range[1]),
        )

    def on_surface(self, angle_deg: float, z: float, side: int, grow_mm: float = 0.0) -> Point:
        """The point at `angle_deg` from the back (0) round the side (90) to the front (180)."""
        u, v = np.sin(np.radians(angle_deg)), -np.cos(np.radians(angle_deg))
        f = (u**4 + v**4 + self.square * u**2 * v**2) ** 0.25
        front, back = self.front.at(z) + grow_mm, self.back.at(z) - grow_mm
        x = side * (self.half_width.at(z) + grow_mm) * u / f
        return float(x), float((front + back) / 2 + (front - back) / 2 * v / f), z


@dataclass(frozen=True)
class AboveDiaphragm(Shape):
    """Everything over the two domes; `lift_mm` moves the surface up."""

    right_top_mm: float
    left_top_mm: float
    lift_mm: float = 0.0

    def distance(self, x: Array, y: Array, z: Array) -> Array:
        return np.asarray((self.height(x, y) - z) * np.float32(0.7), dtype=np.float32)

    def height(self, x: Array, y: Array) -> Array:
        """z of the diaphragm (mm) at x, y."""
        right = self._dome(x, y, self.right_top_mm, 62.0, 52.0)
        left = self._dome(x, y, self.left_top_mm, -68.0, 54.0)
        top = 0.5 * (right + left + np.sqrt((right - left) ** 2 + 400)) - 6
        return np.asarray(top + np.float32(self.lift_mm), dtype=np.float32)

    @staticmethod
    def _dome(x: Array, y: Array, top: float, center_x: float, center_y: float) -> Array:
        radius = ((x - center_x) / 84) ** 2 + ((y - center_y) / 104) ** 2
        drop = 54 - 14 * np.clip((y - 50) / 100, -1, 1)
        return np.asarray(top - drop * np.minimum(radius, 2.2), dtype=np.float32)

    @property
    def bounds(self) -> Bounds:
        return (-FARAWAY, -FARAWAY, -FARAWAY), (FARAWAY, FARAWAY, FARAWAY)


@dataclass(frozen=True, eq=False)
class Torso:
    """The layers of one person's trunk."""

    person: Person

    @cached_property
    def cord_y(self) -> Profile:
        """y of the centre of the spinal canal."""
        p = self.person
        bent = []
        for z, y in CORD_Y:
            belly = np.exp(-(((z - 60) / 70) ** 2))
            straightened = -27 + (y + 27) * p.kyphosis if z > 290 else y
            bent.append((z, float(straightened + 7 * (p.lordosis - 1) * belly)))
        return Profile(bent)

    @cached_property
    def cord_x(self) -> Profile:
        size = self.person.scoliosis_mm
        return Profile([(z, float(size * np.sin((z - 20) / 95))) for z in range(-100, 460, 20)])

    @cached_property
    def spine_front(self) -> Profile:
        """y of the front of the vertebral bodies."""
        depth = Profile(BODY_DEPTH)
        return Profile([(z, self.cord_y.at(z) + 8 + depth.at(z)) for z in range(-60, 570, 10)])

    @cached_property
    def lean(self) -> Column:
        """The trunk and neck without fat and skin."""
        return replace(self.muscle_limit, z_range=(-146, 556))

    @cached_property
    def muscle_limit(self) -> Column:
        """The outer surface of the muscles, down to the thighs."""
        half, front = Profile(LEAN_HALF_WIDTH), Profile(LEAN_FRONT)
        return Column(half, front, self._behind(LEAN_BEHIND_CORD), (-300, 556))

    @cached_property
    def cage(self) -> Column:
        """The surface on which the ribs run (their centre lines)."""
        return Column(
            Profile(CAGE_HALF_WIDTH), Profile(CAGE_FRONT), self._behind(CAGE_BEHIND_CORD), (88, 424)
        )

    @cached_property
    def inner_cage(self) -> Column:
        """The inside of the rib cage: pleura and upper peritoneum."""
        return Column(
            self.cage.half_width.plus(-7),
            self.cage.front.plus(-7),
            self.cage.back.plus(7),
            (88, 421),
        )

    @cached_property
    def belly(self) -> Column:
        """The abdominal cavity with its retroperitoneum, inside the muscle wall."""
        back = [(z, self.cord_y.at(z) - 20) for z in range(-60, 200, 20)]
        return Column(
            Profile(LEAN_HALF_WIDTH).plus(-15),
            Profile(LEAN_FRONT).plus(-11),
            Profile(back),
            (-70, 135),
        )

    @cached_property
    def basin(self) -> Column:
        """The pelvic cavity between the hip bones, in front of the sacrum."""
        return Column(
            Profile([(-165, 36), (-130, 50), (-95, 60), (-60, 76), (-20, 112)]),
            Profile([(-165, 45), (-130, 62), (-95, 82), (-60, 90), (-20, 92)]),
            Profile([(-165, -40), (-130, -48), (-95, -44), (-60, -28), (-20, 0)]),
            (-162, -20),
            square=1.8,
        )

    @cached_property
    def cavity(self) -> Union:
        return Union((self.inner_cage, self.belly, self.basin))

    @cached_property
    def above_diaphragm(self) -> AboveDiaphragm:
        lift = self.person.breath_mm
        left = self.person.rng("left dome").uniform(4, 14)
        return AboveDiaphragm(222 - lift, 222 - lift - float(left))

    @cached_property
    def diaphragm(self) -> Intersection:
        """The muscle between chest and abdomen, about 4 mm thick."""
        top = self.above_diaphragm
        under = AboveDiaphragm(top.right_top_mm, top.left_top_mm, -3.0)
        over = AboveDiaphragm(top.right_top_mm, top.left_top_mm, 1.5)
        return Intersection((self.inner_cage, under), without=(over,))

    def below_diaphragm(self, gap_mm: float) -> Intersection:
        """The cavity under the diaphragm, `gap_mm` away from it."""
        top = self.above_diaphragm
        roof = AboveDiaphragm(top.right_top_mm, top.left_top_mm, -gap_mm)
        return Intersection((self.cavity,), without=(roof,))

    def thorax(self, side: int, gap_mm: float = 1.0) -> Intersection:
        """One half (−1 left, +1 right) of the cage over the diaphragm."""
        half = Half((-float(side), 0.0, 0.0), 0.0)
        top = self.above_diaphragm
        floor = AboveDiaphragm(top.right_top_mm, top.left_top_mm, gap_mm)
        return Intersection((self.inner_cage, floor, half))

    def _behind(self, knots: Knots) -> Profile:
        return Profile([(z, self.cord_y.at(z) - amount) for z, amount in knots])
