"""Ways to walk dx/ds = f(x, s) from one end of a list of times to the other.

`euler` is what the published models use. The others are of second order: `heun` and `midpoint` ask
the network twice a step, `adams` once (Hairer, Nørsett, Wanner, "Solving Ordinary Differential
Equations I", II.1 and III.1, steps of varying width in III.5).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Literal

import torch

Slope = Callable[[torch.Tensor, float], torch.Tensor]
Solver = Literal["euler", "heun", "midpoint", "adams"]

PREDICTIONS = {"euler": 1, "heun": 2, "midpoint": 2, "adams": 1}
"""Calls of the network per step."""


def walk(
    slope: Slope, start: torch.Tensor, times: Sequence[float], solver: Solver
) -> Iterator[torch.Tensor]:
    """The states after each step of `times`; `slope` is dx/ds with s falling or rising alike."""
    state, last = start, None
    for now, after in pairwise(times):
        width = after - now
        here = slope(state, now)
        if solver == "heun":
            there = slope(state + width * here, after)
            step = (here + there) / 2
        elif solver == "midpoint":
            step = slope(state + width / 2 * here, now + width / 2)
        elif solver == "adams" and last is not None:
            ratio = width / last[1]
            step = (1 + ratio / 2) * here - ratio / 2 * last[0]
        else:
            step = here
        last = here, width
        state = state + width * step
        yield state
