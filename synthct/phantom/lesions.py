"""Optional findings: nodule, tumours, cysts, a bone lesion, hepatic vessels."""

from __future__ import annotations

from collections.abc import Callable

from synthct.labels.groups import BODY
from synthct.phantom.abdomen import liver_shape
from synthct.phantom.chest import heart_parts, mediastinum_parts
from synthct.phantom.part import LEFT, RIGHT, Part, ball
from synthct.phantom.shapes import Point, Shape, Union, tube
from synthct.phantom.spine import vertebrae
from synthct.phantom.torso import Torso

LOBES = frozenset(range(28, 33))
TRIES = 200


def lesion_parts(torso: Torso) -> list[Part]:
    """One to three findings of each kind, each grown inside its organ only."""
    up = -torso.person.breath_mm
    liver = liver_shape(torso, up)
    parts = [
        Part(25, _hepatic_veins(up), 0.2, over=frozenset({1})),
        *_scattered(torso, "lung nodule", 23, _lungs(torso), LOBES, (5, 15)),
        *_scattered(torso, "liver tumour", 26, liver.contains, frozenset({1}), (7, 20)),
    ]
    rng = torso.person.rng("single lesions")
    z = up + 104.0
    parts += [
        Part(24, ball((27, 66, z), rng.uniform(7, 11)), 0.8, over=frozenset({4})),
        Part(
            27, ball((98, 32, rng.uniform(0, 60)), rng.uniform(12, 18)), 1.0, over=frozenset({62})
        ),
        Part(
            116, ball((-84, 8, 0.6 * up + 104), rng.uniform(8, 14)), 0.5, over=frozenset({14, BODY})
        ),
        Part(
            117, ball((82, 10, 0.6 * up + 128), rng.uniform(8, 14)), 0.5, over=frozenset({5, BODY})
        ),
        _in_bone(torso),
    ]
    return parts


def _in_bone(torso: Torso) -> Part:
    rng = torso.person.rng("bone lesion")
    body = vertebrae(torso)[int(rng.integers(2, 9))]
    center = body.place(float(rng.uniform(-6, 6)), 8 + body.half_depth_mm, 0)
    return Part(128, ball(center, float(rng.uniform(6, 9))), 0.5, over=frozenset({body.id}))


def _lungs(torso: Torso) -> Callable[[Point, float], bool]:
    """Whether a ball of this radius lies in a lung, clear of heart, hilum and mediastinum."""
    halves = torso.thorax(LEFT), torso.thorax(RIGHT)
    taken = [part.shape for part in (*heart_parts(torso), *mediastinum_parts(torso))]

    def contains(point: Point, margin_mm: float) -> bool:
        if not any(half.contains(point, margin_mm) for half in halves):
            return False
        return not any(shape.contains(point, -margin_mm - 4) for shape in taken)

    return contains


def _scattered(
    torso: Torso,
    name: str,
    label: int,
    contains: Callable[[Point, float], bool],
    host: frozenset[int],
    radius_mm: tuple[float, float],
) -> list[Part]:
    rng = torso.person.rng(name)
    parts: list[Part] = []
    wanted = int(rng.integers(1, 4))
    for _ in range(TRIES):
        x, y, z = rng.uniform((-110, -30, 70), (110, 120, 390))
        radius = float(rng.uniform(*radius_mm))
        if contains((x, y, z), radius + 2):
            parts.append(Part(label, ball((x, y, z), radius), 0.8, over=host))
        if len(parts) == wanted:
            break
    return parts


def _hepatic_veins(up: float) -> Shape:
    root: Point = (25, 54, 200 + up)
    ends: list[Point] = [(108, 30, 165 + up), (70, 96, 165 + up), (10, 104, 180 + up)]
    trees = []
    for end in ends:
        middle = tuple(0.5 * (a + b) for a, b in zip(root, end, strict=True))
        trees.append(tube([root, (middle[0], middle[1], middle[2] + 6), end], [5, 4, 2.5]))
    porta: list[Point] = [(44, 60, 156 + up), (66, 52, 156 + up), (96, 40, 140 + up)]
    return Union((*trees, tube(porta, [6, 5, 3])))
