"""Brain, skull and jaw, and the outline of head and neck."""

from __future__ import annotations

from synthct.phantom.part import SIDES, Part, ball, mirrored
from synthct.phantom.shapes import Ellipsoid, Grown, Half, Intersection, Point, Shape, Union, tube
from synthct.phantom.torso import Torso


def brain_shape(torso: Torso) -> Union:
    """Cerebrum, temporal lobes, cerebellum and brain stem."""
    size = torso.person.factor("brain", 0.025)
    above_face = Half((0.0, 0.30, -0.954), -556.0)
    cerebrum = Intersection(
        (Ellipsoid((0, 58, 638), (67 * size, 85 * size, 66 * size)), above_face)
    )
    return Union(
        (
            cerebrum,
            *(Ellipsoid((s * 42, 68, 603), (24, 40, 23), (-8, 0, 0)) for s in SIDES),
            *(Ellipsoid((s * 24, 14, 590), (30, 32, 24)) for s in SIDES),
            tube([(0, 48, 612), (0, 42, 585), (0, 37, 564)], [17, 14, 9]),
        )
    )


def head_parts(torso: Torso) -> list[Part]:
    """The skull as one closed shell with the face on it, then the brain inside."""
    brain = brain_shape(torso)
    thick = 7.0 * torso.person.factor("skull", 0.1)
    shell = [Grown(lobe, thick) for lobe in brain.members[:-1]]
    return [
        Part(120, Union((*shell, *_face())), 0.5),
        Part(22, brain, 0.7),
    ]


def _face() -> list[Shape]:
    out: list[Shape] = []
    for side in SIDES:
        courses: list[tuple[list[Point], float]] = [
            ([(54, 62, 588), (50, 64, 560), (46, 74, 536)], 5.5),  # ramus of the mandible
            ([(46, 74, 536), (40, 102, 524), (22, 126, 516), (0, 134, 515)], 7.5),
            ([(64, 58, 592), (66, 90, 590), (56, 116, 588), (42, 128, 590)], 5.0),  # zygoma
            ([(42, 128, 590), (48, 126, 606), (50, 118, 624), (44, 126, 634)], 5.0),
            ([(44, 128, 632), (28, 138, 634), (8, 140, 630)], 5.5),  # brow
            ([(42, 128, 590), (30, 132, 586), (16, 134, 596), (9, 138, 626)], 4.5),
            ([(34, 98, 552), (30, 118, 550), (16, 134, 549), (0, 138, 549)], 7.5),  # upper teeth
            ([(38, 124, 586), (32, 122, 568), (26, 122, 552)], 5.0),
            ([(14, 134, 596), (14, 134, 575), (12, 132, 552)], 4.0),
            ([(18, 78, 592), (18, 86, 566), (26, 96, 552)], 4.5),  # pterygoid
            ([(62, 40, 590), (60, 34, 572), (56, 40, 560)], 8.0),  # mastoid
            ([(14, 96, 612), (16, 110, 606), (15, 128, 606)], 3.2),  # medial wall of the orbit
        ]
        out += [tube(mirrored(points, side), radius) for points, radius in courses]
    nose: list[Point] = [(0, 140, 630), (0, 148, 612), (0, 153, 600)]
    out += [tube(nose, [6, 5, 3]), Ellipsoid((0, 108, 553), (27, 26, 4))]
    out.append(tube([(0, 112, 612), (0, 122, 590), (0, 126, 560)], 2.6))
    out.append(Ellipsoid((0, 62, 583), (30, 28, 9), (-20, 0, 0)))
    return out


def head_outline(torso: Torso) -> Union:
    """Scalp, face and jaw without fat and skin."""
    brain = brain_shape(torso)
    scalp = [Grown(lobe, 12.0) for lobe in brain.members[:-1]]
    soft = [
        Ellipsoid((0, 90, 580), (73, 56, 58)),
        Ellipsoid((0, 92, 556), (60, 56, 54)),
        Ellipsoid((0, 112, 535), (42, 36, 30)),
        tube([(0, 134, 624), (0, 144, 600), (0, 146, 587)], [9, 11, 12]),
        Ellipsoid((0, 40, 566), (68, 62, 40)),
    ]
    ears = [Ellipsoid((s * 74, 48, 600), (9, 15, 26), (-10, 0, s * 14)) for s in SIDES]
    return Union((*scalp, *soft, *ears))


def air_spaces(torso: Torso) -> list[Shape]:
    """Pharynx and sinuses: gas without a label."""
    front = torso.spine_front.at
    out: list[Shape] = [
        tube(
            [(0, 132, 576), (0, 100, 572), (0, 80, 566), (0, front(530) + 12, 530),
             (0, front(490) + 16, 490), (0, front(462) + 20, 462)],
            [5, 8, 9, 8, 7, 8],
            flatten=(1.1, 0.8, 1.0),
        ),
        Ellipsoid((0, 96, 596), (10, 16, 9)),
    ]  # fmt: skip
    for side in SIDES:
        out.append(Ellipsoid((side * 27, 110, 570), (12, 14, 14)))
        out.append(tube(mirrored([(7, 130, 590), (7, 104, 582)], side), 4.5))
        out.append(ball((side * 10.0, 118.0, 604.0), 5))
    return out


def facial_fat(torso: Torso) -> list[Shape]:
    """The fat of orbits and cheeks."""
    orbits: list[Shape] = [Ellipsoid((s * 31, 112, 612), (17, 22, 16)) for s in SIDES]
    return [*orbits, *(Ellipsoid((s * 48, 106, 560), (12, 20, 20)) for s in SIDES)]


def eyes(torso: Torso) -> list[Shape]:
    """The globes."""
    return [ball((s * 31.0, 121.0, 612.0), 12.0) for s in SIDES]
