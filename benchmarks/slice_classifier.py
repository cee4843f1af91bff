"""A small classifier of real against synthetic slices: how often is it right?

0.5: it cannot tell; 1: it always can. Cases, not slices, are split in two halves; each half is told
by a network that was trained on the other, so no slice is told by one that saw its case.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from synthct.evaluation.case import Case
from synthct.evaluation.slices import PLANES, Slicing, sliced

Float32 = npt.NDArray[np.float32]

SLICING = Slicing(spacing_mm=2.0, side=128, share=0.4)
EVERY = 4  # of the middle slices of each plane
STEPS, BATCH = 300, 32


@dataclass(frozen=True)
class Told:
    """Shares of right answers, real and synthetic weighing the same.

    `cases`: a case is what most of its slices are called.
    """

    slices: float
    cases: float
    planes: dict[str, float]
    slice_count: int
    case_count: int


def tell_apart(
    real: Sequence[Case], synthetic: Sequence[Case], seed: int = 0, steps: int = STEPS
) -> Told:
    """Accuracy over both halves. At least two cases of each."""
    shown = [[slices_of(case) for case in cases] for cases in (real, synthetic)]
    answers: list[list[Float32]] = [[], []]
    for fold in (0, 1):
        network = trained([_stacked(cases[1 - fold :: 2]) for cases in shown], seed + fold, steps)
        for kind, cases in enumerate(shown):
            answers[kind] += [answered(network, case, kind) for case in cases[fold::2]]
    return _told(answers)


def slices_of(case: Case) -> Float32:
    """(planes, n, side, side) in 0..1: every fourth of the middle slices of three planes."""
    found = sliced(case, SLICING)
    stacks = [np.concatenate(list(found.batches(plane, 64)))[::EVERY] for plane in PLANES]
    count = min(map(len, stacks))
    return np.stack([stack[:count] for stack in stacks])


def trained(classes: Sequence[Float32], seed: int, steps: int = STEPS) -> nn.Module:
    """A network that tells class 1 from class 0, each shown as often."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = _network()
        rng = np.random.default_rng([seed, steps])
        optimiser = torch.optim.AdamW(network.parameters(), 2e-3, weight_decay=1e-2)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
        truth = torch.arange(2).repeat_interleave(BATCH // 2)
        for _ in range(steps):
            drawn = [c[rng.integers(len(c), size=BATCH // 2)] for c in classes]
            loss = F.cross_entropy(network(_varied(np.concatenate(drawn), rng)), truth)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            schedule.step()
    return network.eval()


@torch.inference_mode()
def answered(network: nn.Module, case: Float32, truth: int) -> Float32:
    """(planes, n): 1 where a slice was called what it is."""
    scores = network(_tensor(case.reshape(-1, *case.shape[2:])))
    right = (scores.argmax(dim=1) == truth).float().numpy()
    return right.reshape(case.shape[:2])


def _network() -> nn.Module:
    layers: list[nn.Module] = []
    for into, out in ((1, 16), (16, 32), (32, 64), (64, 64)):
        layers += [nn.Conv2d(into, out, 3, 2, 1), nn.GroupNorm(4, out), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 2))


def _varied(stack: Float32, rng: np.random.Generator) -> Tensor:
    """Brightness and contrast vary, so that they alone do not tell."""
    gain = rng.uniform(0.85, 1.15, (len(stack), 1, 1)).astype(np.float32)
    return _tensor(np.clip(stack * gain, 0, 1))


def _tensor(stack: Float32) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(stack))[:, None]


def _stacked(cases: Sequence[Float32]) -> Float32:
    return np.concatenate([case.reshape(-1, *case.shape[2:]) for case in cases])


def _told(answers: Sequence[Sequence[Float32]]) -> Told:
    def balanced(share: Any) -> float:
        return float(np.mean([np.mean([share(case) for case in kind]) for kind in answers]))

    return Told(
        slices=balanced(lambda case: case.mean()),
        cases=balanced(lambda case: float(case.mean() > 0.5)),
        planes={p: balanced(lambda case, n=n: case[n].mean()) for n, p in enumerate(PLANES)},
        slice_count=sum(case.size for kind in answers for case in kind),
        case_count=sum(map(len, answers)),
    )
