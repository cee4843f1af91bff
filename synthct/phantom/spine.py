"""The vertebrae with their arches and processes, the sacrum, the spinal cord."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from synthct.phantom.part import SIDES, Part
from synthct.phantom.shapes import Drum, Ellipsoid, Point, Segment, Shape, Union, tube
from synthct.phantom.torso import BODY_DEPTH, Knots, Profile, Torso

LUMBAR, THORACIC, CERVICAL = "lumbar", "thoracic", "cervical"

LEVELS: tuple[tuple[int, float], ...] = (
    (33, 4), (34, 38), (35, 72), (36, 105), (37, 137), (38, 167), (39, 194), (40, 220), (41, 245),
    (42, 270), (43, 294), (44, 318), (45, 341), (46, 363), (47, 384), (48, 404), (49, 423),
    (50, 441), (51, 458), (52, 475), (53, 492), (54, 509), (55, 527), (56, 548),
)  # fmt: skip
"""MAISI id and height z (mm) of the centre of each vertebral body, L5 to C1."""

HALF_WIDTH: Knots = (
    (0, 25), (72, 23.5), (167, 20), (245, 17), (318, 15), (384, 15), (423, 15), (475, 12), (560, 12)
)  # fmt: skip
DISC = {LUMBAR: 6.0, THORACIC: 3.5, CERVICAL: 3.5}
C1, C2 = 56, 55


@dataclass(frozen=True, eq=False)
class Vertebra:
    """One vertebra in its own frame: origin in the middle of the canal, leaning with the spine."""

    id: int
    origin: Point
    lean_deg: float
    half_width_mm: float
    half_depth_mm: float
    half_height_mm: float
    kind: str

    def place(self, x: float, y: float, z: float) -> Point:
        """A point of the vertebra's frame in the model body."""
        sin, cos = np.sin(np.radians(self.lean_deg)), np.cos(np.radians(self.lean_deg))
        a, b, c = self.origin
        return float(a + x), float(b + cos * y - sin * z), float(c + sin * y + cos * z)

    def shape(self) -> Union:
        return Union((self._body(), *self._arch(), *self._processes()))

    def _body(self) -> Drum:
        return Drum(
            self.place(0, 8 + self.half_depth_mm, 0),
            self.half_width_mm,
            self.half_depth_mm,
            self.half_height_mm,
            self.lean_deg,
        )

    def _arch(self) -> list[Shape]:
        parts: list[Shape] = []
        thick = {LUMBAR: 6.0, THORACIC: 5.2, CERVICAL: 3.8}[self.kind]
        wide = 13.5
        for side in SIDES:
            pedicle = self.place(side * wide, -3, 2)
            parts += [
                Segment(self.place(side * (wide - 2), 11, 4), pedicle, thick + 0.5, thick),
                Segment(pedicle, self.place(side * 10, -10, -2), thick, thick),
                Segment(self.place(side * 10, -10, -2), self.place(0, -16, -6), thick, thick),
                Segment(
                    self.place(side * (wide + 1), -7, 0.75 * self.half_height_mm),
                    self.place(side * (wide - 1), -11, -1.1 * self.half_height_mm),
                    thick - 0.5,
                    thick - 0.5,
                ),
            ]
        return parts

    def _processes(self) -> list[Shape]:
        tip, thick = {
            LUMBAR: ((0.0, -38.0, -8.0), 6.0),
            THORACIC: ((0.0, -33.0, -26.0), 4.6),
            CERVICAL: ((0.0, -36.0, -12.0), 4.0),
        }[self.kind]
        root = self.place(0, -16, -6)
        parts: list[Shape] = [Segment(root, self.place(*tip), thick, thick)]
        if self.kind == LUMBAR:
            parts.append(Segment(self.place(0, -20, -16), self.place(0, -36, -16), 4.5, 4.5))
        out = {
            LUMBAR: (44.0, -9.0, 2.0),
            THORACIC: (30.0, -20.0, 5.0),
            CERVICAL: (25.0, -1.0, -2.0),
        }
        x, y, z = out[self.kind]
        for side in SIDES:
            parts.append(
                Segment(
                    self.place(side * 13, -7, 2),
                    self.place(side * x, y, z),
                    thick + 0.5,
                    thick - 0.5,
                )
            )
        return parts


def vertebrae(torso: Torso) -> list[Vertebra]:
    """All vertebrae from L5 up to C2 (C1 is a ring of its own)."""
    depth, width = Profile(BODY_DEPTH), Profile(HALF_WIDTH)
    size = torso.person.factor("vertebra", 0.04)
    heights = [z for _, z in LEVELS]
    out = []
    for i, (label, z) in enumerate(LEVELS):
        kind = LUMBAR if i < 5 else THORACIC if i < 17 else CERVICAL
        above = heights[min(i + 1, len(heights) - 1)]
        below = heights[i - 1] if i else z - 35
        tilt = np.degrees(np.arctan2(torso.cord_y.at(z + 12) - torso.cord_y.at(z - 12), 24))
        out.append(
            Vertebra(
                label,
                (torso.cord_x.at(z), torso.cord_y.at(z), z),
                -float(tilt),
                width.at(z) * size,
                depth.at(z) / 2,
                (above - below) / 4 - DISC[kind] / 2,
                kind,
            )
        )
    return out


def spine_parts(torso: Torso) -> list[Part]:
    """Sacrum, S1, L5 … C1 and the cord, in painting order."""
    column = vertebrae(torso)
    parts = [*_sacrum(torso)]
    parts += [Part(v.id, v.shape(), 0.35) for v in column if v.id not in (C1, C2)]
    parts += [_axis(column[-2]), _atlas(column[-1]), _cord(torso)]
    return parts


def _axis(vertebra: Vertebra) -> Part:
    dens = Segment(vertebra.place(0, 13, 4), vertebra.place(0, 13, 24), 6, 4.5)
    return Part(C2, Union((*vertebra.shape().members, dens)), 0.3)


def _atlas(vertebra: Vertebra) -> Part:
    ring = [(0, 23, 0), (15, 17, 0), (22, 6, 0), (18, -10, 0), (0, -19, 0)]
    half = [[vertebra.place(side * x, y, z) for x, y, z in ring] for side in SIDES]
    masses = [Ellipsoid(vertebra.place(s * 19, 8, 0), (9, 11, 8)) for s in SIDES]
    wings = [
        Segment(vertebra.place(s * 22, 3, 0), vertebra.place(s * 36, 1, 0), 5, 4) for s in SIDES
    ]
    return Part(C1, Union((*(tube(points, 4.5) for points in half), *masses, *wings)), 0.3)


def _cord(torso: Torso) -> Part:
    points = [(torso.cord_x.at(z), torso.cord_y.at(z), z) for z in np.arange(-30.0, 562.0, 14.0)]
    radii = [5.0 if z < 20 else 6.3 for _, _, z in points]
    return Part(121, tube(points, radii), 0.2)


def _sacrum(torso: Torso) -> list[Part]:
    y = torso.cord_y
    blocks: list[Shape] = [
        Ellipsoid((0, y.at(z) + forward, z), (half, deep, 17), (-22, 0, 0))
        for z, half, deep, forward in (
            (-46, 50, 17, 14), (-66, 42, 15, 10), (-84, 32, 13, 6), (-100, 23, 10, 4)
        )
    ]  # fmt: skip
    blocks.append(tube([(0, y.at(-105), -105), (0, -62, -122), (0, -54, -140)], [9, 7, 5]))
    crest = [(0.0, y.at(z) - 12, float(z)) for z in range(-20, -100, -15)]
    blocks.append(tube(crest, 6, flatten=(1.8, 1.0, 1.0)))
    for side in SIDES:
        wing = [(side * 18.0, y.at(-30) + 18, -26.0), (side * 54.0, y.at(-30) + 6, -34.0)]
        blocks.append(tube([*wing, (side * 50.0, y.at(-55) + 8, -60.0)], [12, 14, 12]))
    top = Drum((0, y.at(-27) + 27, -25), 26, 17, 13, -28, 0.05)
    shoulders = [Ellipsoid((s * 27, y.at(-27) + 19, -24), (14, 11, 11), (-22, 0, 0)) for s in SIDES]
    return [Part(97, Union(tuple(blocks)), 0.6), Part(127, Union((top, *shoulders)), 0.4)]
