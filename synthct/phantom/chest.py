"""Lungs, mediastinum, heart, great vessels, airways, esophagus, thyroid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from synthct.labels.groups import BODY, LUNG_LOBES
from synthct.phantom.fields import Array
from synthct.phantom.part import LEFT, RIGHT, SIDES, Part
from synthct.phantom.shapes import (
    EVERYWHERE,
    Bounds,
    Ellipsoid,
    Intersection,
    Point,
    Shape,
    Union,
    tube,
)
from synthct.phantom.torso import AboveDiaphragm, Torso

LOBES = frozenset(LUNG_LOBES)


@dataclass(frozen=True)
class Fissure(Shape):
    """What lies under a fissure: a plane that falls forwards and bows like a propeller.

    `top_mm` is its height at the back (y = −40), `slope` its fall per mm forwards, `bow` how much
    it is lower at the side than in the middle of the lung.
    """

    top_mm: float
    slope: float
    bow: float

    def distance(self, x: Array, y: Array, z: Array) -> Array:
        side = (np.abs(x) - 65) / 50
        forward = (y - 40) / 80
        height = self.top_mm - self.slope * (y + 40) - self.bow * (side * side + side * forward)
        return np.asarray((z - height) / np.hypot(1, self.slope), dtype=np.float32)

    @property
    def bounds(self) -> Bounds:
        return EVERYWHERE


def lung_parts(torso: Torso) -> list[Part]:
    """The five lobes, cut by the fissures, then the mediastinum cleared out of them."""
    rng = torso.person.rng("fissures")
    shift = [float(v) for v in rng.normal(0, 5, 3)]
    bow = [float(v) for v in rng.uniform(4, 16, 3)]
    below_left = Fissure(368 + shift[0], 0.95, bow[0])
    below_right = Fissure(360 + shift[1], 0.98, bow[1])
    below_middle = Fissure(300 + shift[2], -0.06, bow[2])
    left, right = torso.thorax(LEFT), torso.thorax(RIGHT)
    lobes: list[tuple[int, Shape]] = [
        (29, Intersection((left, below_left))),
        (28, Intersection((left,), without=(below_left,))),
        (32, Intersection((right, below_right))),
        (31, Intersection((right, below_middle), without=(below_right,))),
        (30, Intersection((right,), without=(below_right, below_middle))),
    ]
    return [*(Part(i, shape, 0.5) for i, shape in lobes), *mediastinum_parts(torso)]


def mediastinum_parts(torso: Torso) -> list[Part]:
    """What lies between the lungs, cleared to the body's own id before organs are painted."""
    front = torso.spine_front
    axis: list[tuple[Point, float]] = [
        ((2, front.at(420) + 18, 425), 40), ((2, front.at(395) + 26, 395), 36),
        ((2, 64, 368), 37), ((0, 62, 340), 38), ((-2, 62, 310), 38), ((0, 48, 285), 34),
        ((0, 42, 250), 30), ((0, 36, 225), 27), ((2, 34, 195), 25),
    ]  # fmt: skip
    core = tube([p for p, _ in axis], [r for _, r in axis], flatten=(1.0, 1.05, 1.0))
    spine = tube([(torso.cord_x.at(z), front.at(z) - 12, float(z)) for z in range(90, 430, 20)], 24)
    behind = tube(
        [(torso.cord_x.at(z), torso.cord_y.at(z) - 14, float(z)) for z in range(90, 430, 20)],
        20,
        flatten=(1.0, 1.5, 1.0),
    )
    septum = tube(
        [(-3.0, torso.cage.front.at(z) - 14, float(z)) for z in range(240, 390, 20)],
        9,
        flatten=(1.0, 2.6, 1.0),
    )
    under_heart = Ellipsoid((-10, 116, 200 - torso.person.breath_mm), (60, 46, 32))
    return [
        Part(BODY, shape, 0.8, over=LOBES) for shape in (core, spine, behind, septum, under_heart)
    ]


def heart_parts(torso: Torso) -> list[Part]:
    """Heart with the pulmonary trunk, left atrial appendage, pulmonary veins."""
    size = torso.person.factor("heart", 0.06)
    dz = -0.6 * torso.person.breath_mm
    muscle: list[Shape] = [
        Ellipsoid((-25, 88, 244 + dz), (64 * size, 46 * size, 45 * size), (0, -30, -26)),
        Ellipsoid((18, 78, 262 + dz), (34 * size, 36 * size, 42 * size), (0, 8, 0)),
        Ellipsoid((2, 50, 277 + dz), (34, 21, 26)),
        Ellipsoid((-12, 96, 290 + dz), (26, 25, 24)),
    ]
    trunk = tube([(-16, 103, 296 + dz), (-22, 88, 318), (-20, 68, 328)], [15, 14, 12])
    branches = (
        tube([(-20, 68, 328), (8, 52, 322), (42, 48, 312), (56, 42, 304)], [12, 11, 9, 6]),
        tube([(-20, 68, 328), (-36, 48, 330), (-56, 34, 320)], [12, 10, 7]),
    )
    over_diaphragm = _lifted(torso, 3.0)
    veins = [
        tube([(s * 18, 46, z + dz), (s * 42, 40, z + rise + dz), (s * 62, 32, z + 1.5 * rise + dz)],
             [8, 6.5, 5])
        for s in SIDES
        for z, rise in ((290, 10), (270, -6))
    ]  # fmt: skip
    appendage = tube([(-34, 58, 287 + dz), (-50, 66, 293 + dz), (-58, 84, 298 + dz)], [8, 10, 7])
    return [
        Part(119, Union(tuple(veins)), 0.3, halo_mm=1.5),
        Part(115, Union((*muscle, trunk, *branches)), 1.2, clip=over_diaphragm, halo_mm=5.0),
        Part(119, Union(tuple(veins)), 0.3, over=LOBES | {BODY}),
        Part(108, appendage, 0.4),
    ]


def _lifted(torso: Torso, by_mm: float) -> AboveDiaphragm:
    top = torso.above_diaphragm
    return AboveDiaphragm(top.right_top_mm, top.left_top_mm, by_mm)


def airway_parts(torso: Torso) -> list[Part]:
    """Esophagus, trachea with the main bronchi, the bronchi in the lungs, the thyroid."""
    front = torso.spine_front
    gullet = [(-3.0, front.at(z) + 7, float(z)) for z in range(462, 310, -20)]
    gullet += [(-4, front.at(300) + 9, 300), (-6, front.at(270) + 12, 270), (-10, 30, 240)]
    gullet += [(-20, 42, 216 + 0.4 * _rise(torso)), (-33, 44, 196 + 0.8 * _rise(torso))]
    pipe: list[Point] = [(1, front.at(z) + 20, float(z)) for z in range(462, 380, -20)]
    pipe += [(3, front.at(360) + 24, 360), (4, front.at(318) + 26, 318)]
    carina = pipe[-1]
    main = [
        tube([carina, (side * 26 + 3, carina[1] - 5, 302), (side * 42, carina[1] - 8, 292)],
             [8.5, 7.5, 6.5])
        for side in SIDES
    ]  # fmt: skip
    thyroid = [
        tube([(s * 18, front.at(448) + 17, 448), (s * 19, front.at(425) + 21, 424)], [6.5, 10])
        for s in SIDES
    ]
    bridge = tube(
        [(s * x, front.at(424) + y, 424) for s, x, y in ((-1, 17, 24), (-1, 0, 32), (1, 17, 24))],
        4.5,
    )
    return [
        Part(126, Union((*thyroid, bridge)), 0.6),
        Part(11, tube(gullet, 7.0), 0.5),
        Part(132, Union(tuple(_bronchi(carina))), 0.2, over=LOBES | {BODY}),
        Part(57, Union((tube(pipe, 8.8), *main)), 0.2),
    ]


def _bronchi(carina: Point) -> list[Shape]:
    y = carina[1] - 8
    out: list[Shape] = []
    for side in SIDES:
        hilum: Point = (side * 42.0, y, 292.0)
        out += [
            tube([hilum, (side * 54, y + 10, 308), (side * 64, y + 16, 340)], [5.5, 4, 3]),
            tube([hilum, (side * 58, y - 4, 268), (side * 70, y - 14, 236)], [6, 4.5, 3.2]),
            tube([hilum, (side * 60, y + 20, 272), (side * 70, y + 45, 252)], [5.5, 4, 3]),
        ]
    return out


def vessel_parts(torso: Torso) -> list[Part]:
    """Aorta and its branches at the neck, superior vena cava and brachiocephalic veins."""
    front = torso.spine_front
    dz = -0.6 * torso.person.breath_mm
    width = torso.person.factor("aorta", 0.07)
    arch: list[tuple[Point, float]] = [
        ((2, 84, 288 + dz), 15), ((10, 86, 318), 15), ((8, 78, 344), 14.5), ((-4, 62, 358), 13.5),
        ((-15, 44, 354), 13), ((-22, front.at(330) + 6, 332), 12.5),
        ((-24, front.at(300) + 4, 300), 12), ((-21, front.at(260) + 6, 260), 11.5),
        ((-13, front.at(215) + 10, 215), 11), ((-8, front.at(170) + 11, 170), 10.5),
        ((-5, front.at(120) + 10.5, 120), 9.5), ((-4, front.at(80) + 10.5, 80), 9),
        ((-3, front.at(44) + 10.5, 44), 8.5),
    ]  # fmt: skip
    neck = [(27.0, front.at(z) + 13, float(z)) for z in (420, 450, 480, 500)]
    split: Point = (28.0, 62.0, 386.0)
    arteries: list[tuple[int, Shape]] = [
        (109, tube([(6, 68, 358), (18, 66, 372), split], 6.8)),
        (113, tube([split, *neck], 4.8)),
        (124, tube([split, (52, 50, 402), (82, 52, 402), (112, 58, 396)], 5.2)),
        (112, tube([(-8, 58, 360), (-22, 60, 386), *((-x, y, z) for x, y, z in neck)], 4.8)),
        (123, tube([(-17, 46, 358), (-26, 44, 386), (-50, 46, 403), (-112, 58, 396)], 5.2)),
    ]
    veins: list[tuple[int, Shape]] = [
        (125, tube([(30, 68, 368), (32, 66, 330), (29, 68, 284 + dz)], [9.5, 10.5, 10.5])),
        (111, tube([(48, 66, 404), (38, 68, 386), (30, 68, 366)], 7.5)),
        (110, tube([(-48, 70, 400), (-26, 82, 384), (6, 84, 374), (30, 68, 366)], 7)),
    ]
    return [
        *(Part(i, shape, 0.25) for i, shape in veins),
        *(Part(i, shape, 0.25) for i, shape in arteries),
        Part(6, tube([p for p, _ in arch], [r * width for _, r in arch]), 0.3),
    ]


def _rise(torso: Torso) -> float:
    """How far breathing out lifts the upper abdomen, mm."""
    return -torso.person.breath_mm
