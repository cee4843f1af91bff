"""Whole unseen scans through the autoencoder and back: how far off, and what it looks like."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from synthct.models.maisi import data
from synthct.models.maisi.spec import MaisiSpec
from synthct.training.validation import Validation

MOST_CASES = 4
MOST_VOXELS = 2**22
"""Of a scan's middle; more would not fit beside the training."""
BODY_ABOVE = {"CT": 0.25, "MR": 0.05}
"""Network units above which a voxel counts as the patient: −500 HU; 5 % of MR's range."""


@torch.no_grad()
def reconstructions(
    autoencoder: nn.Module, cases: Sequence[data.Case], spec: MaisiSpec
) -> Validation:
    """Means over the first cases: L1 everywhere; PSNR and bias in the body (range 1)."""
    device = next(autoencoder.parameters()).device
    rows, pictures = [], []
    for case in cases[:MOST_CASES]:
        image = _image(case, spec.grid_multiple).to(device)
        mean, _ = autoencoder.encode(image)  # type: ignore[operator]
        back = autoencoder.decode(mean)  # type: ignore[operator]
        rows.append(_figures(back, image, case.modality))
        pictures.append(side_by_side(image, back))
    figures = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
    return Validation(figures, figures["l1"], stacked(pictures))


def _figures(back: torch.Tensor, image: torch.Tensor, modality: str) -> dict[str, float]:
    body = image > BODY_ABOVE[modality]
    error = (back - image)[body] if bool(body.any()) else (back - image).flatten()
    mse = float(error.square().mean())
    return {
        "l1": float(functional.l1_loss(back, image)),
        "psnr_db": -10 * math.log10(max(mse, 1e-12)),
        "bias": float(error.mean()),
    }


def _image(case: data.Case, multiple: int) -> torch.Tensor:
    """The scan's middle in network units, (1, 1, X, Y, Z)."""
    array = middle(case.arrays["image"], multiple, data.AIR[case.modality])
    return data.unit_image(torch.from_numpy(array.astype(np.float32))[None, None], case.modality)


def middle(stored: npt.NDArray[Any], multiple: int, fill: float) -> npt.NDArray[Any]:
    """(i, j, k) padded with `fill` at its ends to multiples; its middle planes where large."""
    most = max(1, MOST_VOXELS // (stored.shape[0] * stored.shape[1]))
    first = max(0, (stored.shape[2] - most) // 2)
    array = stored[:, :, first : first + most]
    return np.pad(array, [(0, -n % multiple) for n in array.shape], constant_values=fill)


def side_by_side(image: torch.Tensor, back: torch.Tensor) -> npt.NDArray[np.float32]:
    """The middle axial plane of both, anterior at the top."""
    k = image.shape[4] // 2
    planes = [volume[0, 0, :, :, k].cpu().numpy().T[::-1] for volume in (image, back)]
    both: npt.NDArray[np.float32] = np.concatenate(planes, axis=1).astype(np.float32)
    return both


def stacked(pictures: Sequence[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
    """One above the other."""
    width = max(p.shape[1] for p in pictures)
    wide = [np.pad(p, [(0, 0), (0, width - p.shape[1])]) for p in pictures]
    stacked: npt.NDArray[np.float32] = np.concatenate(wide, axis=0)
    return stacked
