"""Liver, gallbladder, spleen, stomach, pancreas, bowel, kidneys, adrenals and their vessels."""

from __future__ import annotations

import numpy as np

from synthct.labels.groups import BODY
from synthct.phantom.part import LEFT, RIGHT, Part
from synthct.phantom.shapes import (
    Ellipsoid,
    Half,
    Intersection,
    Point,
    Shape,
    Union,
    smooth_curve,
    tube,
)
from synthct.phantom.torso import Torso

FAT_AND_MUSCLE = frozenset({BODY, *range(98, 108)})


def abdomen_parts(torso: Torso) -> list[Part]:
    """In painting order: what is painted later lies before what it touches."""
    room = torso.below_diaphragm(3.0)
    up = -torso.person.breath_mm
    return [
        *_liver(torso, room, up),
        *_spleen_and_stomach(torso, room, up),
        *_bowel(torso, up),
        *_kidneys(torso, up),
        *_pancreas(torso, up),
        *_vessels(torso, up),
    ]


def liver_shape(torso: Torso, up: float) -> Shape:
    """The wedge under the right dome: two lobes, cut off by the visceral surface."""
    size = torso.person.factor("liver", 0.05)
    lobes = Union(
        (
            Ellipsoid((74, 42, 150 + up), (66 * size, 86 * size, 82 * size), (0, -12, 0)),
            Ellipsoid((8, 92, 178 + up), (74 * size, 50 * size, 36 * size), (0, 14, 0)),
        )
    )
    underside = _half((0.52, 0.12, 0.84), (70, 40, 104 + up))
    medial = _half((0.83, 0.52, -0.15), (28, 12, 150 + up))
    behind_stomach = Ellipsoid((-34, 46, 150 + up), (50, 60, 50))
    return Intersection((lobes,), without=(underside, medial, behind_stomach))


def _half(normal: Point, through: Point) -> Half:
    """The half-space on the side of −`normal` of the plane through a point."""
    n = np.asarray(normal) / np.linalg.norm(normal)
    return Half((float(n[0]), float(n[1]), float(n[2])), float(n @ np.asarray(through)))


def _liver(torso: Torso, room: Shape, up: float) -> list[Part]:
    bladder = tube(
        [(52, 70, 132 + up), (62, 84, 122 + up), (72, 104, 106 + up)],
        [5, 10, 13 * torso.person.factor("gallbladder", 0.15)],
    )
    return [
        Part(1, liver_shape(torso, up), 1.8, clip=room),
        Part(10, bladder, 0.6, clip=room),
    ]


def _spleen_and_stomach(torso: Torso, room: Shape, up: float) -> list[Part]:
    size = torso.person.factor("spleen", 0.09)
    spleen = Intersection(
        (Ellipsoid((-104, 16, 162 + up), (36 * size, 56 * size, 54 * size), (32, 0, 16)),),
        without=(Ellipsoid((-58, 40, 160 + up), (36, 46, 62)),),
    )
    full = torso.person.factor("stomach", 0.14)
    stomach = tube(
        [(-62, 36, 190 + up), (-64, 54, 178 + up), (-56, 84, 158 + up), (-40, 106, 130 + up),
         (-12, 108, 116 + up), (10, 98, 122 + up), (22, 86, 128 + up)],
        [27 * full, 30 * full, 27 * full, 24 * full, 18, 14, 9],
    )  # fmt: skip
    return [
        Part(3, spleen, 1.2, clip=room),
        Part(12, stomach, 1.5, clip=room),
    ]


def _bowel(torso: Torso, up: float) -> list[Part]:
    wall = Union((torso.belly, torso.basin, torso.below_diaphragm(4.0)))
    duodenum: list[Point] = [
        (22, 86, 128 + up), (36, 72, 128 + up), (43, 60, 112 + up), (42, 52, 88), (32, 48, 72),
        (8, 52, 66), (-18, 50, 74), (-32, 54, 94),
    ]  # fmt: skip
    return [
        Part(19, _small_bowel(torso), 0.8, clip=wall, over=FAT_AND_MUSCLE),
        Part(62, _colon(torso, up), 0.8, clip=wall, halo_mm=2.0),
        Part(13, tube(duodenum, [11, 12, 12, 12, 11.5, 11, 11, 11]), 0.7, clip=wall),
    ]


def _colon(torso: Torso, up: float) -> Union:
    rng = torso.person.rng("colon")
    sag = float(rng.uniform(-22, 16))
    wide = float(rng.uniform(0.85, 1.2))
    frame: list[tuple[Point, float]] = [
        ((78, 60, -28), 21), ((92, 46, 2), 24), ((97, 22, 35), 23), ((101, 20, 60), 21),
        ((98, 42, 80 + 0.4 * up), 20), ((80, 80, 74 + 0.4 * up), 19), ((48, 100, 66 + sag), 19),
        ((4, 106, 62 + sag), 20), ((-44, 104, 72 + sag), 19), ((-84, 78, 104), 18),
        ((-102, 62, 112 + 0.4 * up), 17), ((-113, 28, 96 + 0.3 * up), 16), ((-112, 8, 66), 14.5),
        ((-108, 14, 25), 14), ((-94, 46, -14), 14), ((-74, 64, -42), 14), ((-44, 60, -62), 15),
        ((-8, 50, -58), 15), ((18, 26, -62), 15), ((12, -6, -82), 15), ((0, -26, -104), 17),
        ((0, -28, -126), 18), ((0, -20, -148), 14), ((0, -26, -166), 9),
    ]  # fmt: skip
    knots = np.array([(*p, r * wide) for p, r in frame])
    knots[:, :3] += rng.normal(0, 2.5, (len(knots), 3))
    return _haustra(knots)


def _haustra(knots: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> Union:
    """A tube whose calibre goes in and out every 3 cm."""
    dense = smooth_curve(knots, step_mm=9.0)
    run = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(dense[:, :3], axis=0), axis=1))])
    calibre = dense[:, 3] * (1 + 0.11 * np.sin(run / 4.8))
    return tube(dense[:, :3].tolist(), calibre.tolist())


def _small_bowel(torso: Torso) -> Union:
    """Loops lying in layers from the left upper abdomen down into the pelvis."""
    rng = torso.person.rng("small bowel")
    calibre = 10.8 * torso.person.factor("small bowel", 0.1)
    points: list[list[float]] = [[-32, 54, 94]]
    turn = 1
    for z in (76, 48, 20, -8, -36, -64, -84):
        half = 68 if z > 10 else 58 if z > -40 else 40
        for y in (82, 56) if z > -60 else (62, 42):
            for step, x in enumerate(np.linspace(-half, half, 6) * turn):
                points.append([float(x) - 8, y, z + 8 * (-1) ** step])
            turn = -turn
    loops = np.array(points)
    loops[1:] += rng.normal(0, 1, (len(loops) - 1, 3)) * (5.0, 6.0, 5.0)
    return tube([*loops.tolist(), [62, 46, -38]], calibre)


def _kidneys(torso: Torso, up: float) -> list[Part]:
    parts: list[Part] = []
    for side, label, x, base_z in ((LEFT, 14, 72.0, 122.0), (RIGHT, 5, 70.0, 108.0)):
        size = torso.person.factor("kidney", 0.04) * torso.person.factor(f"kidney {side}", 0.015)
        rng = torso.person.rng(f"kidney place {side}")
        z = base_z + 0.6 * up + float(rng.normal(0, 5))
        y = torso.cord_y.at(z) + 17
        bean = Ellipsoid(
            (side * x, y, z), (27 * size, 26 * size, 53 * size), (14, side * -12, side * 28)
        )
        hilum = Ellipsoid((side * (x - 25), y + 12, z), (21, 15, 17))
        center = Ellipsoid((side * (x - 8), y + 3, z), (8, 8, 20), (14, side * -12, 0))
        kidney = Intersection((bean,), without=(hilum, center))
        parts += [
            Part(BODY, bean.grown(3.5), 0.6, over=frozenset({1, 3, 12, 62, 19})),
            Part(label, kidney, 0.8),
            _adrenal(torso, side, z + 50),
        ]
    return parts


def _adrenal(torso: Torso, side: int, z: float) -> Part:
    y = torso.cord_y.at(z) + 36
    x = 30 if side == RIGHT else 42
    apex: Point = (side * x, y + 8, z)
    limbs = [
        tube([apex, (side * (x + 3), y - 8, z - 6), (side * (x + 4), y - 22, z - 10)], 3.7),
        tube([apex, (side * (x + 9), y - 6, z - 8), (side * (x + 13), y - 16, z - 14)], 3.7),
        tube([apex, (side * (x - 1), y + 2, z + 10)], 3.7),
    ]
    return Part(8 if side == RIGHT else 9, Union(tuple(limbs)), 0.2, halo_mm=2.0)


def _pancreas(torso: Torso, up: float) -> list[Part]:
    size = torso.person.factor("pancreas", 0.08)
    course: list[tuple[Point, float]] = [
        ((26, 60, 84), 10), ((27, 64, 104 + 0.5 * up), 15), ((14, 72, 120 + up), 11),
        ((-8, 76, 130 + up), 10.5), ((-34, 66, 136 + up), 11), ((-60, 48, 142 + up), 10.5),
        ((-82, 30, 150 + up), 8),
    ]  # fmt: skip
    return [Part(4, tube([p for p, _ in course], [r * size for _, r in course]), 1.0)]


def _vessels(torso: Torso, up: float) -> list[Part]:
    front = torso.spine_front
    splenic: list[Point] = [
        (-84, 24, 156 + up), (-58, 38, 146 + up), (-30, 54, 138 + up), (6, 58, 130 + up)
    ]  # fmt: skip
    portal: list[Point] = [(6, 58, 126 + up), (22, 60, 142 + up), (44, 60, 156 + up)]
    mesenteric: list[Point] = [(8, 62, 84), (6, 58, 128 + up)]
    cava: list[tuple[Point, float]] = [
        ((13, front.at(34) + 10, 30), 10), ((15, front.at(70) + 10, 70), 10),
        ((17, front.at(110) + 11, 110), 10.5), ((22, front.at(150) + 16, 150 + 0.5 * up), 11.5),
        ((26, 50, 190 + up), 12), ((24, 58, 222 + up), 12), ((20, 66, 246 + 0.6 * up), 12),
    ]  # fmt: skip
    return [
        Part(7, tube([p for p, _ in cava], [r for _, r in cava]), 0.4),
        Part(17, Union((tube(splenic, 4.5), tube(portal, 7), tube(mesenteric, 5))), 0.3),
    ]
