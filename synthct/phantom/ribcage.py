"""Ribs, costal cartilages, sternum, and the shoulder girdle."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from synthct.phantom.part import LEFT, SIDES, Part, ball, mirrored
from synthct.phantom.shapes import Point, Segment, Shape, Union, sheet, tube
from synthct.phantom.spine import LEVELS
from synthct.phantom.torso import Column, Torso

RIB_RADIUS_MM = 5.0
FIRST_LEFT_RIB, FIRST_RIGHT_RIB = 63, 75


@dataclass(frozen=True)
class RibCourse:
    """How far a rib runs round the cage (degrees from the back) and how deep it falls (mm)."""

    end_deg: float
    drop_mm: float


COURSES = (
    RibCourse(150, 50), RibCourse(146, 80), RibCourse(145, 103), RibCourse(144, 122),
    RibCourse(143, 136), RibCourse(140, 146), RibCourse(133, 152), RibCourse(123, 152),
    RibCourse(112, 136), RibCourse(101, 116), RibCourse(84, 92), RibCourse(56, 62),
)  # fmt: skip
"""Ribs 1 to 12."""
NOTCHES_Z = (369, 347, 325, 304, 287, 272, 260)
"""Heights at which the cartilages of ribs 1 to 7 meet the sternum, mm."""
STERNUM: tuple[tuple[float, float], ...] = (
    (376, 20), (366, 25), (350, 20), (338, 14), (315, 15), (285, 18), (262, 15), (250, 9), (238, 6)
)  # fmt: skip
"""Height and half-width of the sternum from the jugular notch to the xiphoid tip, mm."""


def ribcage_parts(torso: Torso) -> list[Part]:
    """Cartilages first, so that rib ends and sternum stay whole."""
    cartilage: list[Shape] = []
    ribs: list[Part] = []
    for side in SIDES:
        curves = [rib_curve(torso, number, side) for number in range(1, 13)]
        cartilage += _cartilages(torso, curves, side)
        first = FIRST_LEFT_RIB if side == LEFT else FIRST_RIGHT_RIB
        for number, curve in enumerate(curves, 1):
            radius = [RIB_RADIUS_MM * _slim(number)] * len(curve)
            ribs.append(Part(first + number - 1, tube(curve, radius), 0.25))
    return [
        Part(114, Union(tuple(cartilage)), 0.3),
        *ribs,
        Part(122, Union(tuple(_sternum(torso))), 0.4),
        *shoulder_parts(torso),
    ]


def rib_curve(torso: Torso, number: int, side: int) -> list[Point]:
    """Points of one rib from its head at the vertebra to its cartilage (model mm)."""
    z = float(dict(LEVELS)[49 - (number - 1)])
    x, y = torso.cord_x.at(z), torso.cord_y.at(z)
    head = [(x + side * 19.0, y + 7, z + 9), (x + side * 31.0, y - 13, z + 5)]
    course = COURSES[number - 1]
    if number == 1:
        loop = [(46, -2, 421), (57, 22, 411), (56, 45, 398), (45, 62, 385), (36, 72, 377)]
        lift = torso.cord_y.at(423) - 8
        return [*head, *mirrored([(a, b + lift * 0.6, c) for a, b, c in loop], side)]
    start_deg = 24.0
    for u in np.linspace(0, 1, 14):
        angle = start_deg + (course.end_deg - start_deg) * float(u)
        fall = course.drop_mm * float(u) ** 1.1
        head.append(torso.cage.on_surface(angle, z + 2 - fall, side))
    return head


def _slim(number: int) -> float:
    return {1: 1.05, 11: 0.9, 12: 0.82}.get(number, 1.0)


def _cartilages(torso: Torso, curves: list[list[Point]], side: int) -> list[Shape]:
    out: list[Shape] = []
    joins: dict[int, Point] = {}
    for number, notch_z in enumerate(NOTCHES_Z, 1):
        start = curves[number - 1][-1]
        half = float(np.interp(notch_z, *np.array(sorted(STERNUM)).T))
        stop = (side * (half + 1.0), torso.cage.front.at(notch_z) + 1, float(notch_z))
        low = min(start[2], notch_z) + 0.25 * abs(notch_z - start[2])
        middle = 0.55 * start[0] + 0.45 * stop[0]
        bend = (middle, torso.cage.front.at(low) - 0.0006 * middle**2, low)
        out.append(tube([start, bend, stop], 5.2))
        joins[number] = bend
    for number in (8, 9, 10):
        start, stop = curves[number - 1][-1], joins[number - 1]
        x, y, z = (0.5 * (a + b) for a, b in zip(start, stop, strict=True))
        bend = (x + side * 4, y + 6, z - 8)
        out.append(tube([start, bend, stop], 4.8))
        joins[number] = bend
    return out


def _sternum(torso: Torso) -> list[Shape]:
    out: list[Shape] = []
    for (z1, w1), (z2, w2) in pairwise(STERNUM):
        y1, y2 = torso.cage.front.at(z1) + 1, torso.cage.front.at(z2) + 1
        out.append(Segment((0, y1, z1), (0, y2, z2), w1, w2, (1.0, 5.5 / 18, 5.5 / 18)))
    return out


def shoulder_parts(torso: Torso) -> list[Part]:
    """Scapulae, clavicles, humeri; the arms are raised or hang down."""
    parts: list[Part] = []
    for side in SIDES:
        left = side == LEFT
        parts.append(Part(89 if left else 90, _scapula(torso, side), 0.3))
        parts.append(Part(91 if left else 92, _clavicle(torso, side), 0.3))
        parts.append(Part(87 if left else 88, _humerus(torso, side), 0.4))
    return parts


def shoulder_joint(side: int) -> Point:
    """Centre of the humeral head."""
    return side * 148.0, 34.0, 408.0


def arm_axis(torso: Torso, side: int) -> list[Point]:
    """The axis of the arm from the shoulder outwards."""
    if torso.person.arms_raised:
        rest: list[Point] = [(168, 40, 448), (186, 46, 500), (200, 50, 570), (205, 50, 640)]
    else:
        out = 0.7 * torso.person.fat_mm
        rest = [
            (182, 26, 345), (198 + out, 20, 250), (208 + out, 18, 140), (212 + out, 30, 0),
            (208 + out, 45, -110),
        ]  # fmt: skip
    return [shoulder_joint(side), *mirrored(rest, side)]


def _humerus(torso: Torso, side: int) -> Union:
    axis = arm_axis(torso, side)[:4]
    return Union((ball(axis[0], 22.5), tube(axis, [18.0, 12.0, 11.0, 12.0])))


def _clavicle(torso: Torso, side: int) -> Union:
    inner = torso.cage.front.at(378) + 3
    points = [(24.0, inner, 381.0), (58.0, inner + 2, 392.0), (100.0, 66.0, 410.0)]
    return tube(mirrored([*points, (136.0, 32.0, 434.0)], side), [8, 5.5, 5.5, 6])


def _on_back(cage: Column, angle_deg: float, z: float, side: int) -> Point:
    """A point of the shoulder blade: outside the ribs; upright where the cage closes above."""
    x, y, _ = cage.on_surface(angle_deg, min(z, 380.0), side, 17)
    return x, y, float(z)


def _scapula(torso: Torso, side: int) -> Union:
    turn = 12.0 if torso.person.arms_raised else 0.0
    rows = (
        (290, 52 + turn, 60 + turn), (315, 45 + turn, 64 + turn), (345, 38 + turn, 70 + turn),
        (375, 34 + turn, 76 + turn), (395, 33 + turn, 74 + turn),
    )  # fmt: skip
    cage = torso.cage
    inner, middle, outer = (
        [_on_back(cage, a + (b - a) * share, z, side) for z, a, b in rows] for share in (0, 0.5, 1)
    )
    joint = shoulder_joint(side)
    socket = (joint[0] - side * 25, joint[1] - 8, joint[2] - 2)
    ridge_start = cage.on_surface(40 + turn, 372, side, 22)
    acromion: Point = (side * 148.0, joint[1] - 6, joint[2] + 32)
    return Union(
        (
            sheet(inner, middle, 3.4),
            sheet(middle, outer, 3.4),
            tube([outer[1], outer[2], outer[3], socket], [5, 5, 6, 9]),
            tube([ridge_start, (side * 118.0, -12.0, 420.0), acromion], [5, 5, 7]),
            tube([outer[3], outer[4], (side * 118.0, 4.0, 414.0), (side * 118.0, -12.0, 420.0)], 5),
            tube([socket, (side * 116.0, 42.0, 418.0), (side * 118.0, 60.0, 408.0)], [7, 6, 6]),
            tube([acromion, (side * 138.0, 26.0, 437.0)], 6),
        )
    )
