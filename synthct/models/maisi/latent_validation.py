"""Whole unseen scans for the diffusion stages: noise put on their latents and taken off again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from monai.apps.generation.maisi.networks.autoencoderkl_maisi import AutoencoderKlMaisi

from synthct.models.maisi import data
from synthct.models.maisi.objective import error, noised
from synthct.models.maisi.spec import MaisiSpec
from synthct.models.maisi.vae_validation import MOST_CASES, middle, side_by_side, stacked
from synthct.training.device import moved
from synthct.training.validation import Validation

TIMES = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Before the shift, the same at every look; the pictures are of the middle one."""


class HasLatent(Protocol):
    @property
    def latent(self) -> torch.Tensor: ...


Batch = TypeVar("Batch", bound=HasLatent)
Predict = Callable[[torch.Tensor, torch.Tensor, Batch], torch.Tensor]
"""(noisy latent, timestep, batch) → prediction."""


@dataclass(frozen=True)
class Unseen:
    """A validation scan's latent, (1, C, x, y, z), and what is known of it."""

    latent: torch.Tensor
    labels: npt.NDArray[np.uint8] | None
    """(X, Y, Z); None where it has no label map."""
    spacing_mm: tuple[float, float, float]
    meta: dict[str, Any]


@torch.no_grad()
def unseen(folder: Path | None, autoencoder: AutoencoderKlMaisi, spec: MaisiSpec) -> list[Unseen]:
    """The first validation scans, encoded as the training scans are; none where there are none."""
    if folder is None or not any(folder.glob("*.npz")):
        return []
    return [_encoded(case, autoencoder, spec) for case in data.cases_in(folder)[:MOST_CASES]]


def _encoded(case: data.Case, autoencoder: AutoencoderKlMaisi, spec: MaisiSpec) -> Unseen:
    image, labels = middle(case.arrays["image"], spec.grid_multiple, data.AIR[case.modality]), None
    if "labels" in case.arrays:
        labels = middle(case.arrays["labels"], spec.grid_multiple, 0)
        image = np.where(labels == 0, data.AIR[case.modality], image)
    tensor = torch.from_numpy(image.astype(np.float32))[None, None]
    latent, _ = autoencoder.encode(data.unit_image(tensor, case.modality))
    i, j, k = (float(mm) for mm in case.spacing_mm)
    return Unseen(latent.float(), labels, (i, j, k), case.meta)


@torch.no_grad()
def denoised(
    predict: Predict[Batch],
    examples: Sequence[Batch],
    spec: MaisiSpec,
    autoencoder: AutoencoderKlMaisi,
    scale_factor: float,
    *,
    device: torch.device,
) -> Validation | None:
    """The mean squared error of predictions at fixed times and noises; None without examples.

    Args:
        autoencoder: on the CPU, for the pictures.
        scale_factor: what the examples' latents are multiplied with.
        device: where `predict` wants its input.

    Returns:
        `error` and, by time, `error_0.1` to `error_0.9`; beside each scan, decoded, what is left
        of it after noise of the middle time and one prediction.
    """
    rows, pictures = [], []
    for number, example in enumerate(examples):
        here = moved(example, device)
        noise = _noise(here.latent, number)
        row = {}
        for time in TIMES:
            drawn = noised(here.latent, spec, torch.tensor([time]), noise)
            predicted = predict(drawn.noisy, drawn.timestep, here)
            row[time] = float(error(predicted, drawn.target, l1=False).mean())
            if time == TIMES[len(TIMES) // 2]:
                both = (here.latent, drawn.latent(predicted.float()))
                images = (autoencoder.decode(one.cpu() / scale_factor) for one in both)
                pictures.append(side_by_side(*images))
        rows.append(row)
    if not rows:
        return None
    by_time = {f"error_{time}": float(np.mean([row[time] for row in rows])) for time in TIMES}
    score = float(np.mean(list(by_time.values())))
    return Validation({"error": score, **by_time}, score, stacked(pictures))


def _noise(latent: torch.Tensor, seed: int) -> torch.Tensor:
    """Drawn on the CPU: the same on every device."""
    drawn = torch.randn(latent.shape, generator=torch.Generator().manual_seed(seed))
    return drawn.to(latent)
