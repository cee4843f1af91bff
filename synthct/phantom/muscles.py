"""The muscles with a label: back, buttocks, hip flexors. The others are hidden tissue."""

from __future__ import annotations

import numpy as np

from synthct.phantom.part import LEFT, SIDES, Part, mirrored
from synthct.phantom.shapes import Ellipsoid, Point, Shape, Union, tube
from synthct.phantom.torso import Torso


def muscle_parts(torso: Torso) -> list[Part]:
    """Autochthonous back muscles, iliopsoas, the three glutei of each side."""
    parts: list[Part] = []
    for side in SIDES:
        step = 0 if side == LEFT else 1
        shapes = {
            98: _gluteus_maximus(side),
            100: Ellipsoid((side * 126, 4, -56), (21, 54, 62), (0, side * -14, side * 16)),
            102: Ellipsoid((side * 115, 28, -78), (13, 40, 44), (0, side * -20, side * 14)),
            104: back_muscle(torso, side),
            106: _iliopsoas(torso, side),
        }
        for label, shape in shapes.items():
            parts.append(Part(label + step, shape, 1.0, clip=torso.muscle_limit))
    return parts


def _gluteus_maximus(side: int) -> Shape:
    """A thick sheet from the sacrum and the back of the iliac crest down to the femur."""
    return Union(
        (
            Ellipsoid((side * 74, -50, -92), (70, 21, 62), (10, side * 24, side * 16)),
            Ellipsoid((side * 98, -42, -142), (54, 20, 58), (6, side * 30, side * 20)),
        )
    )


def back_muscle(torso: Torso, side: int) -> Shape:
    """Erector spinae and its kin, from the sacrum up to the neck."""
    rows = (
        (-52, 14, 20, 9), (-20, 24, 26, 15), (20, 32, 30, 17), (60, 36, 30, 18),
        (100, 35, 29, 17.5), (140, 32, 28, 16), (190, 28, 27, 14), (250, 25, 26, 13),
        (310, 23, 26, 12.5), (360, 22, 27, 13), (410, 22, 30, 14), (440, 22, 32, 16),
        (500, 22, 32, 18), (550, 22, 30, 16),
    )  # fmt: skip
    points = [
        (torso.cord_x.at(z) + side * (x * 0.78), torso.cord_y.at(z) - back, float(z))
        for z, x, back, _ in rows
    ]
    return tube(points, [r for *_, r in rows], flatten=(1.28, 0.95, 1.0))


def _iliopsoas(torso: Torso, side: int) -> Shape:
    y = torso.spine_front.at
    psoas: list[tuple[Point, float]] = [
        ((26, y(140) - 22, 142), 6), ((34, y(105) - 22, 105), 12), ((42, y(65) - 20, 65), 17),
        ((50, y(20) - 14, 20), 20), ((60, 24, -25), 20), ((74, 48, -70), 19), ((82, 58, -104), 17),
        ((88, 46, -140), 15), ((100, 10, -182), 10),
    ]  # fmt: skip
    points = mirrored([p for p, _ in psoas], side)
    iliacus = Ellipsoid((side * 98, 34, -28), (16, 38, 48), (0, side * 20, side * -14))
    return Union((tube(points, [r for _, r in psoas]), iliacus))


def hidden_muscles(torso: Torso) -> list[Shape]:
    """Muscles without a label, and the discs, that lie inside the cavities' outlines."""
    out: list[Shape] = []
    for side in SIDES:
        cord = torso.cord_y.at
        loin = [(side * (58 + 0.12 * z), cord(z) - 8, float(z)) for z in (125, 80, 40, 10)]
        out.append(tube(loin, [8, 12, 14, 12], flatten=(1.3, 0.8, 1.0)))
        out.append(tube(mirrored([(64, 30, -96), (62, 6, -110), (70, -14, -128)], side), 9))
        crus = [(side * 14.0, torso.spine_front.at(z) + 4, float(z)) for z in (190, 150, 100)]
        out.append(tube(crus, [7, 6, 4]))
        out.append(tube(mirrored([(20, -40, -82), (60, -34, -96), (110, -10, -112)], side), 9))
    heights = np.arange(-20.0, 440.0, 20.0)
    between = [
        (torso.cord_x.at(z), 0.55 * torso.spine_front.at(z) + 0.45 * torso.cord_y.at(z) + 2, z)
        for z in heights
    ]
    out.append(tube(between, 12.5, flatten=(1.4, 1.1, 1.0)))  # the discs
    behind = [(torso.cord_x.at(z), torso.cord_y.at(z) - 17, z) for z in heights]
    out.append(tube(behind, 18, flatten=(1.1, 1.3, 1.0)))
    out.append(Ellipsoid((0, 0, -166), (44, 52, 9), (18, 0, 0)))
    return out
