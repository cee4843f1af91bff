"""Where to cut an axis: every plane in exactly one slab, whatever the size."""

from __future__ import annotations

from itertools import pairwise

Cut = tuple[int, int]  # first plane, one past the last
_PAIR = 2


def even(planes: int, count: int) -> tuple[Cut, ...]:
    """Cut `planes` into `count` slabs whose thickness differs by at most one plane.

    There are never more slabs than planes.

    >>> even(7, 3)
    ((0, 3), (3, 5), (5, 7))
    """
    if planes < 1 or count < 1:
        raise ValueError(f"cannot cut {planes} planes into {count} slabs; both must be at least 1")
    count = min(count, planes)
    thin, extra = divmod(planes, count)
    edges = [slab * thin + min(slab, extra) for slab in range(count + 1)]
    return tuple(pairwise(edges))


def at_most(planes: int, thickness: int) -> tuple[Cut, ...]:
    """Cut `planes` into the fewest even slabs of at most `thickness` planes.

    >>> at_most(7, 3)
    ((0, 3), (3, 5), (5, 7))
    """
    if thickness < 1:
        raise ValueError(f"a slab of {thickness} planes holds nothing; use at least 1")
    return even(planes, -(-planes // thickness))


def in_pairs(planes: int, thickness: int) -> tuple[Cut, ...]:
    """As `at_most`, with an even number of planes in every slab but the last, where 2 fit.

    >>> in_pairs(11, 5)
    ((0, 4), (4, 8), (8, 11))
    """
    if thickness < _PAIR:
        return at_most(planes, thickness)
    pairs = at_most(-(-planes // _PAIR), thickness // _PAIR)
    return tuple((_PAIR * first, min(_PAIR * stop, planes)) for first, stop in pairs)
