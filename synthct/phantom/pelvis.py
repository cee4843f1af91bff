"""Hip bones, femora, iliac vessels, bladder, prostate; the pelvic soft tissue of either sex."""

from __future__ import annotations

from synthct.phantom.part import LEFT, SIDES, Part, ball, mirrored
from synthct.phantom.shapes import Ellipsoid, Intersection, Point, Shape, Union, sheet, tube
from synthct.phantom.torso import Torso


def femoral_head(side: int) -> Point:
    return side * 88.0, 24.0, -118.0


def pelvic_bone_parts() -> list[Part]:
    """Hip bones and femora."""
    parts: list[Part] = []
    for side in SIDES:
        left = side == LEFT
        parts.append(Part(95 if left else 96, _hip(side), 0.4))
        parts.append(Part(93 if left else 94, _femur(side), 0.4))
    return parts


def _hip(side: int) -> Shape:
    crest: list[Point] = [
        (112, 80, -22), (130, 62, 8), (134, 28, 26), (112, -8, 30), (80, -38, 16), (46, -58, -14)
    ]  # fmt: skip
    lower: list[Point] = [
        (100, 52, -66), (100, 40, -84), (94, 18, -88), (82, -4, -76), (66, -24, -60), (48, -46, -48)
    ]  # fmt: skip
    wing = sheet(mirrored(lower, side), mirrored(crest, side), 4.8)
    rim = tube(mirrored(crest, side), [7, 7.5, 7, 6.5, 7, 8])
    brim = tube(mirrored(lower, side), [9, 11, 13, 12, 10, 8])
    joint = sheet(mirrored([(60, -20, -18), (50, -48, -22)], side), mirrored(lower[4:], side), 7)
    head = femoral_head(side)
    cup = Intersection((ball(head, 33),), without=(_mouth(side),))
    ischium = tube(
        mirrored([(80, 2, -112), (68, -18, -140), (60, -28, -166), (54, -20, -184)], side),
        [17, 14, 14, 13],
    )
    ramus = tube(
        mirrored([(54, -20, -186), (34, 12, -178), (18, 42, -158), (9, 62, -138)], side),
        [10, 7, 7, 9],
    )
    pubis = tube(
        mirrored([(78, 44, -100), (48, 66, -104), (24, 74, -112), (8, 68, -126)], side),
        [13, 8, 8.5, 10],
    )
    return Union((*wing.members, rim, brim, joint, cup, ischium, ramus, pubis))


def _mouth(side: int) -> Shape:
    """The opening of the acetabulum: outwards, forwards and down."""
    x, y, z = femoral_head(side)
    return Ellipsoid((x + side * 30, y + 8, z - 20), (34, 32, 34))


def _femur(side: int) -> Shape:
    head = femoral_head(side)
    neck = tube([head, *mirrored([(112, 16, -130), (130, 6, -148)], side)], [18, 15, 18])
    trochanter = tube(
        mirrored([(140, -4, -130), (138, 0, -152), (128, 6, -172)], side), [12, 16, 18]
    )
    shaft = tube(
        mirrored([(130, 6, -150), (124, 8, -190), (116, 12, -260), (108, 16, -340)], side),
        [18, 17, 15, 14],
    )
    lesser = ball((side * 110.0, -6.0, -188.0), 9)
    return Union((ball(head, 23.5), neck, trochanter, shaft, lesser))


def pelvic_vessel_parts(torso: Torso) -> list[Part]:
    """Common and external iliac arteries and veins down to the groin."""
    front = torso.spine_front
    out: list[Part] = []
    for side in SIDES:
        left = side == LEFT
        groin: list[tuple[float, float, float]] = [
            (42, 30, -30),
            (57, 56, -70),
            (66, 85, -108),
            (67, 82, -140),
        ]
        split = (-3.0, front.at(44) + 10.5, 44.0)
        artery = tube(
            [split, (side * 22, front.at(8) + 12, 8), *mirrored(groin, side)],
            [7, 6, 5.5, 5.2, 5, 5],
        )
        inner = tube([(side * 44, 31, -33), (side * 48, 0, -60), (side * 50, -14, -80)], 4)
        behind = (9.0, 9.0, 4.0, 4.0)
        veins = [(x - 11, y - back, z) for (x, y, z), back in zip(groin, behind, strict=True)]
        root = (13.0, front.at(30) + 9, 30.0)
        vein = tube(
            [root, (side * 20 + 4, front.at(0) + 7, 0), *mirrored(veins, side)],
            [8, 7.5, 6.5, 6.5, 6.5, 6.5],
        )
        deep = tube([(side * 31, 18, -26), (side * 32, -6, -58), (side * 34, -20, -82)], 4.5)
        out.append(Part(60 if left else 61, Union((vein, deep)), 0.25))
        out.append(Part(58 if left else 59, Union((artery, inner)), 0.25))
    return out


def pelvic_organ_parts(torso: Torso) -> list[Part]:
    """Bladder, and the prostate of men."""
    fill = float(torso.person.rng("bladder").uniform(0.7, 1.15))
    bladder = Ellipsoid((0, 42, -122 + 26 * fill), (40 * fill, 34 * fill, 30 * fill), (12, 0, 0))
    parts = [Part(15, bladder, 0.8, halo_mm=2.0)]
    if torso.person.male:
        parts.append(Part(118, Ellipsoid((0, 16, -140), (23, 17, 17)), 0.5))
    return parts


def uterus(torso: Torso) -> tuple[Shape, ...]:
    """The soft tissue behind a woman's bladder; the label scheme has no id for it."""
    if torso.person.male:
        return ()
    womb = tube([(0, 2, -128), (2, 6, -104), (4, 26, -84)], [13, 18, 22], flatten=(1.3, 1.0, 1.0))
    return (womb,)
