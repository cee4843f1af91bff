"""Which maps to keep: every trade of memory against work that is worth considering.

A shortest path over the boundaries: an edge from one kept boundary to the next costs the work of
its sweeps, and asks for a certain memory. For every memory limit there is a cheapest path; the
distinct ones are the candidates, from keeping everything to keeping almost nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from weakref import WeakKeyDictionary

from synthct.tiling.layers import flow
from synthct.tiling.pipeline import multiply_adds, slab_elements
from synthct.tiling.schedule import Network


@dataclass(frozen=True)
class Edge:
    first: int
    last: int
    work: int  # multiply-adds of all sweeps of the segment
    elements: int  # alive during the hungriest of them, with slabs of one plane


_found: WeakKeyDictionary[Network, list[frozenset[int]]] = WeakKeyDictionary()


def candidates(net: Network) -> list[frozenset[int]]:
    """Sets of boundaries to keep, no two alike; the one that keeps everything comes first."""
    if net not in _found:
        _found[net] = _searched(net)
    return _found[net]


def _searched(net: Network) -> list[frozenset[int]]:
    edges = _edges(net)
    everything = frozenset(range(1, len(net.passes)))
    found: dict[frozenset[int], None] = {everything: None}
    for limit in sorted({edge.elements for edge in edges}, reverse=True):
        path = _cheapest(net, [edge for edge in edges if edge.elements <= limit])
        if path is None:
            break
        found.setdefault(path)
    return list(found)


def _edges(net: Network) -> list[Edge]:
    count = len(net.passes)
    barriers = sorted(net.barriers)
    return [
        _edge(net, first, last)
        for first in range(count)
        for last in range(first + 1, count + 1)
        if not any(first < barrier < last for barrier in barriers)
    ]


def _edge(net: Network, first: int, last: int) -> Edge:
    measured = [b for b in range(first + 1, last) if net.passes[b].needs_statistics]
    work = sum(multiply_adds(net, first, b, stores=False) for b in measured)
    slabs = [slab_elements(net, first, b, 1, stores=False) for b in measured]
    before, after = _stored(net, first), _stored(net, last)
    shared = net.keeps_grid(first, last)
    together = max(before, after) if shared else before + after
    reading = before + max(slabs, default=0)
    storing = together + slab_elements(net, first, last, 1)
    return Edge(first, last, work + multiply_adds(net, first, last), max(reading, storing))


def _stored(net: Network, boundary: int) -> int:
    """Elements kept at a boundary: the map, and the skip of a block that is open there."""
    if boundary in (0, len(net.passes)):
        return 0
    channels, size = net.maps[boundary]
    opened = net.opened[boundary]
    if opened is not None:
        channels += flow(net.passes[opened].shortcut, *net.maps[opened])[0]
    return channels * prod(size)


def _cheapest(net: Network, edges: list[Edge]) -> frozenset[int] | None:
    """Boundaries of the path of least work; of two alike the one that keeps more. None: no path."""
    best: dict[int, tuple[int, int, frozenset[int]]] = {0: (0, 0, frozenset())}
    for edge in sorted(edges, key=lambda e: e.last):
        if edge.first in best:
            work, kept, path = best[edge.first]
            offer = (work + edge.work, kept - 1, path | {edge.last})
            if edge.last not in best or offer[:2] < best[edge.last][:2]:
                best[edge.last] = offer
    end = len(net.passes)
    return best[end][2] - {end} if end in best else None
