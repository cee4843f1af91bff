"""Which scales of guidance ask for a prediction of their own. No torch."""

from __future__ import annotations

from collections.abc import Sequence


def worth_running(scales: Sequence[tuple[str, float]]) -> list[tuple[float, frozenset[str]]]:
    """Which conditions are strengthened together, and how much.

    A scale of 0 (off) and of 1 (the plain conditional) strengthen nothing and cost nothing;
    conditions of one scale share a branch: that is the reference's single key for both.

    >>> worth_running([("modality", 10.0), ("lesions", 1.0)])
    [(10.0, frozenset({'modality'}))]
    """
    groups: list[tuple[float, frozenset[str]]] = []
    for name, scale in scales:
        if scale in (0.0, 1.0):
            continue
        if groups and groups[-1][0] == scale:
            groups[-1] = scale, groups[-1][1] | {name}
        else:
            groups.append((scale, frozenset({name})))
    return groups
