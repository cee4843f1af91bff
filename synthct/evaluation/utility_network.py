"""The small network that the utility study trains here: MONAI's BasicUNet, on any machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from synthct.errors import UsageError

Image = npt.NDArray[np.float32]
Labels = npt.NDArray[np.uint8]

_FEATURES = (8, 8, 16, 32, 32, 8)


@dataclass(frozen=True)
class NetworkSettings:
    """How long and on what.

    Attributes:
        steps: of Adam, each of `batch` crops.
        patch: side of a crop in voxels; a multiple of 16, at least 32.
        batch: crops a step; half of them are centred on an organ.
        learning_rate: at the start; it falls to 0 along a cosine.
        device: where.
    """

    steps: int = 300
    patch: int = 48
    batch: int = 2
    learning_rate: float = 5e-3
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.patch % 16 or self.patch < 32:
            raise UsageError(
                f"patches of {self.patch} voxels; multiples of 16 from 32 are possible"
            )


def train_and_predict(
    train: Sequence[tuple[Image, Labels]],
    test: Sequence[Image],
    classes: int,
    seed: int,
    settings: NetworkSettings,
    told: Callable[[], None] = lambda: None,
) -> list[Labels]:
    """Train a BasicUNet on pairs and segment the test images.

    Args:
        train: images (i, j, k) in 0..1 with class numbers, 0 the background.
        test: images.
        classes: with the background.
        seed: of weights and crops; the caller's own random state is left as it was.
        settings: how long and on what.
        told: called after every step.
    """
    import torch
    from monai.losses import DiceCELoss

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = _network(classes).to(settings.device)
        loss_of = DiceCELoss(to_onehot_y=True, softmax=True, include_background=False)
        optimiser = torch.optim.Adam(network.parameters(), settings.learning_rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, settings.steps)
        network.train()
        for image, labels in _crops(train, settings, seed):
            optimiser.zero_grad(set_to_none=True)
            scores = network(torch.from_numpy(image).to(settings.device))
            loss_of(scores, torch.from_numpy(labels).to(settings.device)).backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
            optimiser.step()
            schedule.step()
            told()
        network.eval()
        return [_segment(network, image, settings) for image in test]


def _network(classes: int) -> Any:
    from monai.networks.nets.basic_unet import BasicUNet

    return BasicUNet(3, 1, classes, _FEATURES, norm=("instance", {"affine": True}))


def _crops(
    train: Sequence[tuple[Image, Labels]], settings: NetworkSettings, seed: int
) -> Iterator[tuple[npt.NDArray[Any], npt.NDArray[Any]]]:
    """Batches (n, 1, patch, patch, patch): every second crop has an organ in its middle."""
    rng = np.random.default_rng([seed, len(train)])
    padded = [_padded(image, labels, settings.patch) for image, labels in train]
    inside = [np.argwhere(labels > 0) for _, labels in padded]
    for _ in range(settings.steps):
        batch = []
        for n in range(settings.batch):
            which = int(rng.integers(len(padded)))
            places = inside[which] if n % 2 == 0 else inside[which][:0]
            batch.append(_crop(*padded[which], places, settings.patch, rng))
        images, labels = (np.stack(part)[:, None] for part in zip(*batch, strict=True))
        yield images.astype(np.float32), labels.astype(np.int64)


def _crop(
    image: Image,
    labels: Labels,
    places: npt.NDArray[np.intp],
    patch: int,
    rng: np.random.Generator,
) -> tuple[Image, Labels]:
    room = np.asarray(image.shape) - patch
    if len(places):
        corner = np.clip(places[rng.integers(len(places))] - patch // 2, 0, room)
    else:
        corner = rng.integers(0, room + 1)
    box = tuple(slice(int(c), int(c) + patch) for c in corner)
    return image[box], labels[box]


def _padded(image: Image, labels: Labels, patch: int) -> tuple[Image, Labels]:
    room = [(0, max(0, patch - n)) for n in image.shape]
    return np.pad(image, room), np.pad(labels, room)


def _segment(network: Any, image: Image, settings: NetworkSettings) -> Labels:
    import torch
    from monai.inferers import sliding_window_inference

    with torch.inference_mode():
        tensor = torch.from_numpy(image)[None, None].to(settings.device)
        roi = (settings.patch,) * 3
        scores = sliding_window_inference(tensor, roi, settings.batch, network, overlap=0.25)
        found: Labels = scores[0].argmax(0).cpu().numpy().astype(np.uint8)
    return found
