"""A whole label map from a region, a spacing and a seed."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from synthct.geometry import Geometry, Shape, Spacing
from synthct.labels.groups import BODY, LUNG_LOBES
from synthct.phantom.anatomy import anatomy
from synthct.phantom.canvas import Canvas
from synthct.phantom.person import Person
from synthct.phantom.regions import region_grid
from synthct.phantom.tissue import NO_TISSUE, VISCERAL_FAT, TissueMap, mark_gas, outline, tissue_map
from synthct.phantom.torso import Torso
from synthct.volume.volume import LabelVolume

Labels = npt.NDArray[np.uint8]

SLAB_VOXELS = 3_000_000
SCATTERED = frozenset({23, 25, 26, 27, 114, 116, 117, 119, 128, 132})
"""Ids that may come in several pieces: lesions, cartilages, pulmonary veins, bronchi."""
TOUCHING = np.ones((3, 3, 3), dtype=bool)


def make_phantom(
    region: str,
    spacing_mm: Spacing,
    seed: int,
    *,
    lesions: bool = False,
    shape: Shape | None = None,
) -> LabelVolume:
    """A label map of MAISI ids (uint8, scheme `maisi`, RAS), the body filled with 200.

    Args:
        region: one of `regions.REGIONS`.
        spacing_mm: voxel size along i (to the right), j (anterior), k (superior).
        seed: whoever has this seed is the same person in every region and at every spacing.
        lesions: add nodules, tumours, cysts and hepatic vessels.
        shape: voxels along i, j, k; None: what the region needs, with air around.

    Raises:
        UsageError: no such region.
        GridError: a spacing or size outside of what is possible.

    >>> make_phantom("head", (8.0, 8.0, 8.0), seed=0).geometry.orientation
    'RAS'
    """
    return make_phantom_with_tissues(region, spacing_mm, seed, lesions=lesions, shape=shape)[0]


def make_phantom_with_tissues(
    region: str,
    spacing_mm: Spacing,
    seed: int,
    *,
    lesions: bool = False,
    shape: Shape | None = None,
) -> tuple[LabelVolume, TissueMap]:
    """`make_phantom`, and what the voxels labelled 200 are (see `tissue.TISSUE_NAMES`).

    The tissue map is 0 wherever the label is not 200, but for gas in stomach and bowel.
    """
    person = Person.from_seed(seed, arms_raised=False if region == "head" else None)
    torso = Torso(person)
    geometry = region_grid(region, torso, spacing_mm, shape)
    parts = anatomy(torso, lesions=lesions)
    labels = np.zeros(geometry.shape, dtype=np.uint8)
    tissue = np.zeros(geometry.shape, dtype=np.uint8)
    for planes, canvas in _canvases(person, geometry):
        skin = outline(canvas, torso)
        canvas.labels[skin.body] = BODY
        for part in parts:
            canvas.paint(part)
        labels[:, :, planes] = canvas.labels
        found = tissue_map(canvas, torso, skin)
        found[canvas.labels != BODY] = NO_TISSUE
        mark_gas(canvas, found)
        tissue[:, :, planes] = found
    drop_islands(labels)
    tissue[(labels == BODY) & (tissue == NO_TISSUE)] = VISCERAL_FAT
    return LabelVolume(labels, geometry, scheme="maisi"), tissue


def _canvases(person: Person, geometry: Geometry) -> Iterator[tuple[slice, Canvas]]:
    """Slabs along z, so that fine grids fit into memory."""
    i, j, k = geometry.shape
    x, y, z = (
        (geometry.affine[a, 3] + geometry.spacing_mm[a] * np.arange(n)).astype(np.float32)
        for a, n in enumerate((i, j, k))
    )
    step = max(1, SLAB_VOXELS // (i * j))
    for start in range(0, k, step):
        planes = slice(start, min(start + step, k))
        yield planes, Canvas(person, (x, y, z[planes]))


def drop_islands(labels: Labels) -> None:
    """Leave the largest piece of every structure, and those that the scan's border cuts off.

    What else broke away becomes body, or the lobe that it touches where it is lung (in place).
    """
    from scipy import ndimage

    for label, at in enumerate(ndimage.find_objects(labels), 1):
        if at is None or label in SCATTERED or label == BODY:
            continue
        pieces, count = ndimage.label(labels[at] == label, TOUCHING)
        if count == 1:
            continue
        sizes = np.bincount(pieces.ravel())
        kept = {int(sizes[1:].argmax()) + 1} | _cut_by_border(pieces, at, labels.shape)
        for piece in set(range(1, count + 1)) - kept:
            mask = pieces == piece
            labels[at][mask] = _lobe_around(labels[at], mask) if label in LUNG_LOBES else BODY


def _cut_by_border(
    pieces: npt.NDArray[np.int32], at: tuple[slice, ...], shape: tuple[int, ...]
) -> set[int]:
    """The pieces in the box `at` that lie at the border of an array of this `shape`."""
    found: set[int] = set()
    for axis, (span, length) in enumerate(zip(at, shape, strict=True)):
        for touches, plane in ((span.start == 0, 0), (span.stop == length, -1)):
            if touches:
                found |= set(np.unique(pieces.take(plane, axis=axis)).tolist())
    return found - {0}


def _lobe_around(view: Labels, piece: npt.NDArray[np.bool_]) -> int:
    """The lobe that most of the rim of a piece belongs to, or body."""
    from scipy import ndimage

    rim = view[ndimage.binary_dilation(piece, TOUCHING) & ~piece]
    lobes, counts = np.unique(rim[np.isin(rim, LUNG_LOBES)], return_counts=True)
    return int(lobes[counts.argmax()]) if len(lobes) else BODY
