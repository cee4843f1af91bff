"""A generated label map tidied up: one body, whole organs, only the lesion that was wished for.

A network that labels voxel by voxel leaves islands, holes and lesions that nobody asked for. The
reference tidies its generated masks up as well; here is the same intent in our own steps, so that
masks agree in kind and not voxel by voxel:

1. voxels outside the largest body, once thin bridges are cut, are air;
2. a lesion that was not wished for becomes the organ around it; the wished one is closed, and one
   piece where it is of lung, pancreas or colon;
3. of an organ the largest piece stays, the rest is body; small holes and notches are closed where
   body stood;
4. bowel that hangs on nothing is body; vessels inside the liver are liver.

Ids are MAISI's. No torch.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from synthct.labels.groups import BODY, LESION_HOSTS, LUNG_LOBES, TUMOURS, VERTEBRAE

Labels = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
Box = tuple[slice, ...]

BOWEL = (12, 13, 19, 62)  # stomach, duodenum, small bowel, colon
LOOSE_BOWEL = (19, 62)
WHOLE_ORGANS = (*LUNG_LOBES, 1, 3, 4, 5, 6, 7, 8, 9, 10, 12, 13, 14)
WHOLE_BONES = (*VERTEBRAE, 57, 58, 59)  # and what lies next in the published order
MANY_PIECES = (26, 128)
"""Hepatic tumours and bone lesions come in several pieces."""
HEPATIC_VESSEL, LIVER, BONE_LESION = 25, 1, 128
_CUBE = np.ones((3, 3, 3), dtype=bool)
_CLOSINGS = 2
_RIM = 3


def refine(labels: Labels, lesion: int | None = None) -> Labels:
    """`labels` (i, j, k) tidied up; `lesion` is the one that was wished for.

    >>> import numpy as np
    >>> island = np.zeros((12, 12, 12), np.uint8)
    >>> island[1:9, 1:9, 1:9] = 200
    >>> island[10:, 10:, 10:] = 1
    >>> sorted(set(refine(island).ravel().tolist()))
    [0, 200]
    """
    found = np.where(_body(labels > 0), labels, 0).astype(np.uint8)
    _lesions(found, lesion)
    bones = () if lesion == BONE_LESION else WHOLE_BONES
    for organ in (*WHOLE_ORGANS, *bones):
        _one_piece(found, organ)
    _tie_bowel(found)
    for organ in (*WHOLE_ORGANS, *bones):
        _close(found, organ)
    found[found == HEPATIC_VESSEL] = LIVER
    return found


def _body(inside: Mask) -> Mask:
    """The largest piece once bridges thinner than three voxels are cut, as wide as before."""
    opened: Mask = _largest(ndimage.binary_erosion(inside, _CUBE))
    widened: Mask = ndimage.binary_dilation(opened, _CUBE) & inside
    return widened


def _lesions(found: Labels, wished: int | None) -> None:
    for lesion in TUMOURS:
        box = _box_of(found == lesion, found.shape)
        if box is None:
            continue
        if lesion != wished:
            _to_host(found[box], lesion)
            continue
        _grow_closed(found[box], lesion)
        if lesion not in MANY_PIECES:
            _one_piece(found, lesion)


def _to_host(part: Labels, lesion: int) -> None:
    """Each piece becomes the host that most of its rim is; body where none is there."""
    pieces, count = ndimage.label(part == lesion, _CUBE)
    for number, place in enumerate(ndimage.find_objects(pieces, count), start=1):
        near = _grown(place, part.shape)
        inside = pieces[near] == number
        rim = part[near][ndimage.binary_dilation(inside, _CUBE) & ~inside]
        hosts = [host for host in LESION_HOSTS[lesion] if (rim == host).any()]
        most = max(hosts, key=lambda host: int((rim == host).sum()), default=BODY)
        part[near][inside] = most


def _grow_closed(part: Labels, lesion: int) -> None:
    """Notches of the wished lesion are closed over whatever stands there in the body."""
    closed = ndimage.binary_closing(part == lesion, _CUBE, iterations=_CLOSINGS)
    part[closed & (part > 0)] = lesion


def _one_piece(found: Labels, organ: int) -> None:
    box = _box_of(found == organ, found.shape)
    if box is not None:
        part = found[box]
        part[(part == organ) & ~_largest(part == organ)] = BODY


def _tie_bowel(found: Labels) -> None:
    """Small bowel and colon that touch neither the rest of the bowel nor the stomach are body."""
    box = _box_of(np.isin(found, BOWEL), found.shape)
    if box is not None:
        part = found[box]
        tied = _largest(np.isin(part, BOWEL))
        part[np.isin(part, LOOSE_BOWEL) & ~tied] = BODY


def _close(found: Labels, organ: int) -> None:
    box = _box_of(found == organ, found.shape)
    if box is not None:
        part = found[box]
        closed = ndimage.binary_closing(part == organ, _CUBE, iterations=_CLOSINGS)
        part[closed & (part == BODY)] = organ


def _largest(inside: Mask) -> Mask:
    """The largest piece, touching by corners too; nothing of nothing."""
    pieces, count = ndimage.label(inside, _CUBE)
    if count == 0:
        return np.zeros(inside.shape, dtype=bool)
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    largest: Mask = pieces == int(sizes.argmax())
    return largest


def _box_of(inside: Mask, shape: tuple[int, ...]) -> Box | None:
    """The box of what is inside with a rim for closings; None where nothing is."""
    places = ndimage.find_objects(inside.astype(np.uint8))
    return _grown(places[0], shape) if places and places[0] is not None else None


def _grown(place: Any, shape: tuple[int, ...]) -> Box:
    return tuple(
        slice(max(0, s.start - _RIM), min(n, s.stop + _RIM))
        for s, n in zip(place, shape, strict=True)
    )
