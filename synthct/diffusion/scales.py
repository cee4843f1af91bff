"""Which scales of guidance ask for a prediction of their own. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from math import nextafter

NONE = (0.0, 1.0)
"""Scales that strengthen nothing: 0 is off, 1 the plain conditional."""


def worth_running(scales: Sequence[tuple[str, float]]) -> list[tuple[float, frozenset[str]]]:
    """Which conditions are strengthened together, and how much.

    A scale of 0 (off) and of 1 (the plain conditional) strengthen nothing and cost nothing;
    conditions of one scale share a branch: that is the reference's single key for both.

    >>> worth_running([("modality", 10.0), ("lesions", 1.0)])
    [(10.0, frozenset({'modality'}))]
    """
    groups: list[tuple[float, frozenset[str]]] = []
    for name, scale in scales:
        if scale in NONE:
            continue
        if groups and groups[-1][0] == scale:
            groups[-1] = scale, groups[-1][1] | {name}
        else:
            groups.append((scale, frozenset({name})))
    return groups


def within(part: float, whole: float) -> float:
    """The scale of a part of a condition (the lesions of a mask) where the whole has one too.

    Their product, so that more pushes the part more, and a part that is off goes with the whole.

    >>> within(3.0, 0.0), within(1.0, 1.5), within(2.0, 1.5)
    (3.0, 1.0, 3.0)
    """
    if part in NONE or whole in NONE:
        return part
    product = part * whole
    return nextafter(1.0, 2.0) if product == 1.0 else product  # 1 would go with the whole
