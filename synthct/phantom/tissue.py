"""The body's outline in layers, and what lies where no organ has a label.

A label map calls all of this body (200). A renderer that wants to draw a scan needs to know what
it is: fat, muscle, skin, the fat between organs, or gas.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from synthct.phantom.canvas import Canvas, Mask
from synthct.phantom.fields import Array
from synthct.phantom.head import air_spaces, eyes, facial_fat, head_outline
from synthct.phantom.muscles import hidden_muscles
from synthct.phantom.part import SIDES, mirrored
from synthct.phantom.pelvis import uterus
from synthct.phantom.ribcage import arm_axis
from synthct.phantom.shapes import Ellipsoid, Shape, Union, tube
from synthct.phantom.torso import FAT, Profile, Torso

NO_TISSUE, FAT_TISSUE, MUSCLE, SKIN, VISCERAL_FAT, GAS = range(6)
TISSUE_NAMES = ("none", "fat", "unlabelled muscle", "skin", "visceral fat", "gas")
SKIN_MM = 2.0
GAS_THRESHOLDS = {12: 0.9, 19: 2.2, 62: 0.4}
"""Stomach, small bowel, colon: the higher, the less gas."""
TissueMap = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Outline:
    """`depth_mm`: distance from the muscles (negative in them); `fat_mm`: how deep the fat is."""

    depth_mm: Array
    fat_mm: Array
    extra: Mask

    @property
    def body(self) -> Mask:
        return (self.depth_mm < self.fat_mm) | self.extra


def outline(canvas: Canvas, torso: Torso) -> Outline:
    """The body on this canvas, limbs and head included."""
    fat = fat_thickness(canvas, torso)
    depth = np.full(canvas.labels.shape, np.float32(1e3))
    reach = float(fat.max(initial=0)) + 2
    for piece in lean_shape(torso).pieces:
        at = canvas.slices(piece, reach)
        if at is not None:
            near = piece.distance(*(c[at] for c in canvas.model))
            depth[at] = np.minimum(depth[at], near)
    extra = np.zeros(depth.shape, dtype=bool)
    for breast in breasts(torso):
        found = canvas.inside(breast)
        if found is not None:
            extra[found[0]] |= found[1]
    return Outline(depth, fat, extra)


def fat_thickness(canvas: Canvas, torso: Torso) -> Array:
    """Thickness of the fat under the skin in mm, thicker in front and at the hips."""
    _, y, z = canvas.model
    center = Profile([(-240, 0), (0, 22), (200, 45), (400, 30), (560, 45), (760, 60)])(z)
    forward = np.clip((y - center) / 110, -1, 1)
    belly = np.exp(-(((z - 40) / 110) ** 2))
    swell = 1 + 0.35 * forward * belly
    base = Profile(FAT)(z) * np.float32(torso.person.fat_mm)
    return np.asarray(np.maximum(base * swell, 3.5), dtype=np.float32)


def lean_shape(torso: Torso) -> Union:
    """Trunk, neck, head, arms and thighs without fat and skin."""
    floor = Ellipsoid((0, 10, -136), (100, 74, 46))
    members: list[Shape] = [torso.lean, floor, head_outline(torso)]
    raised = torso.person.arms_raised
    for side in SIDES:
        axis = arm_axis(torso, side)
        root = (side * 112.0, 16.0, 388.0)
        radii = [40, 45, 43, 40, 37, 34] if raised else [38, 44, 41, 37, 34, 30, 27]
        members.append(tube([root, *axis], radii))
        thigh = mirrored([(84, 14, -140), (88, 8, -190), (92, 10, -260), (94, 14, -340)], side)
        members.append(tube(thigh, [72, 77, 74, 68]))
        members.append(Ellipsoid((side * 74, -34, -118), (74, 44, 74)))
    return Union(tuple(members))


def breasts(torso: Torso) -> tuple[Ellipsoid, ...]:
    """Outside the muscles of a woman's chest; flattened by lying on the back."""
    person = torso.person
    if person.male:
        return ()
    size = 0.72 + 0.018 * person.fat_mm
    y = torso.lean.front.at(300) - 20
    return tuple(
        Ellipsoid((s * 88, y, 290), (62 * size, 42 * size, 58 * size), (0, 0, s * -28))
        for s in SIDES
    )


def tissue_map(canvas: Canvas, torso: Torso, skin: Outline) -> TissueMap:
    """What every voxel of the body would be if no organ lay there (0 outside of the body)."""
    body = skin.body
    tissue = np.where(body, FAT_TISSUE, NO_TISSUE).astype(np.uint8)
    tissue[body & (skin.depth_mm < _marbled(canvas))] = MUSCLE
    _lay(canvas, tissue, torso.cavity, VISCERAL_FAT)
    for shape in facial_fat(torso):
        _lay(canvas, tissue, shape, FAT_TISSUE)
    soft = (torso.diaphragm, *hidden_muscles(torso), *_glands(torso), *uterus(torso), *eyes(torso))
    for shape in soft:
        _lay(canvas, tissue, shape, MUSCLE)
    for space in air_spaces(torso):
        _lay(canvas, tissue, space, GAS)
    on_edge = body & ~skin.extra & (skin.depth_mm > skin.fat_mm - SKIN_MM)
    tissue[on_edge | _border(body)] = SKIN
    return tissue


def _marbled(canvas: Canvas) -> Array:
    """Where muscle begins: with fat between the bundles."""
    return np.where(canvas.noise > 2.2, np.float32(-1e3), np.float32(0.0))


def _glands(torso: Torso) -> list[Shape]:
    return [
        Ellipsoid(b.center, tuple(0.55 * r for r in b.radii_mm), b.turn_deg)  # type: ignore[arg-type]
        for b in breasts(torso)
    ]


def _lay(canvas: Canvas, tissue: TissueMap, shape: Shape, value: int) -> None:
    found = canvas.inside(shape, rough_mm=0.8)
    if found is not None:
        at, mask = found
        view = tissue[at]
        view[mask & (view > 0)] = value


def mark_gas(canvas: Canvas, tissue: TissueMap) -> None:
    """Gas in stomach and bowel: it gathers in front of someone who lies on the back (in place)."""
    _, y, _ = canvas.model
    pocket = canvas.noise + (y - 70) / 45
    for label, threshold in GAS_THRESHOLDS.items():
        tissue[(canvas.labels == label) & (pocket > threshold)] = GAS


def _border(body: Mask) -> Mask:
    """Voxels of the body that touch air within a slice (the cut ends of the scan do not count)."""
    inner = body.copy()
    for axis in (0, 1):
        ahead = [slice(None)] * 3
        behind = [slice(None)] * 3
        ahead[axis], behind[axis] = slice(1, None), slice(None, -1)
        inner[tuple(ahead)] &= body[tuple(behind)]
        inner[tuple(behind)] &= body[tuple(ahead)]
    return body & ~inner
