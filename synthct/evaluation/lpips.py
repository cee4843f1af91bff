"""LPIPS (Zhang 2018) of one volume against another, where its weights are given.

No weights come with this project. A file is either TorchScript (two batches of images in −1..1 → a
distance each) or the tensors of `lpips.LPIPS(net="alex")`. Volumes are compared slice by slice over
three planes; published figures differ by network, planes and ranges.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from synthct.checkpoints.load import finite, read_tensors, require_same_keys
from synthct.errors import InputError
from synthct.evaluation.extractors import Network, is_torchscript, load_torchscript
from synthct.record import sha256_of

Array = npt.NDArray[np.floating]
Mask = npt.NDArray[np.bool_]

LEAST_SIDE = 64  # smaller slices do not survive AlexNet's strides
_BATCH = 8
_CONVOLUTIONS = (  # slice, place in AlexNet's list, in, out, kernel, stride, padding
    (1, 0, 3, 64, 11, 4, 2),
    (2, 3, 64, 192, 5, 1, 2),
    (3, 6, 192, 384, 3, 1, 1),
    (4, 8, 384, 256, 3, 1, 1),
    (5, 10, 256, 256, 3, 1, 1),
)
_POOLED_BEFORE = (2, 3)
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)


@dataclass(frozen=True, eq=False)
class Lpips:
    """A perceptual distance with the name and hash of its file."""

    name: str
    sha256: str
    network: Network

    @classmethod
    def load(cls, path: Path) -> Lpips:
        """Read it.

        Raises:
            WeightsError: missing, damaged, or not those of LPIPS with AlexNet.
        """
        if path.suffix in (".ts", ".torchscript") or is_torchscript(path):
            network: Network = load_torchscript(path, torch.device("cpu"))
        else:
            network = _alexnet(read_tensors(path), path)
        return cls(path.name, sha256_of(path), network)

    def distance(self, found: Array, true: Array, *, every: int = 4) -> float:
        """Mean over every fourth slice of the three planes of volumes (i, j, k) in 0..1.

        Raises:
            InputError: the network does not take slices.
        """
        total, count = 0.0, 0
        for x, y in _batches(found, true, every):
            try:
                with torch.inference_mode():
                    values = torch.as_tensor(self.network(x, y)).reshape(-1)
            except (RuntimeError, TypeError) as error:
                raise InputError(f"{self.name} takes no pair of slices {tuple(x.shape)}") from error
            total += float(values.double().mean()) * len(x)
            count += len(x)
        return total / count

    def in_body(self, found: Array, true: Array, body: Mask, *, every: int = 4) -> float:
        """`distance` within the smallest box around the body."""
        box = tuple(
            slice(int(at.min()), int(at.max()) + 1)
            for at in (np.flatnonzero(body.any(axis=_others(axis))) for axis in range(3))
        )
        return self.distance(found[box], true[box], every=every)


class AlexDistance(nn.Module):
    """LPIPS v0.1 over AlexNet's five activations: (n, 3, h, w) twice, in −1..1 → (n,)."""

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(
            nn.Conv2d(i, o, k, stride, padding) for _, _, i, o, k, stride, padding in _CONVOLUTIONS
        )
        self.weights = nn.ParameterList(
            nn.Parameter(torch.zeros(1, o, 1, 1)) for _, _, _, o, *_ in _CONVOLUTIONS
        )

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        total = x.new_zeros(len(x))
        for a, b, weight in zip(self._maps(x), self._maps(y), self.weights, strict=True):
            square = (_normed(a) - _normed(b)).square()
            total = total + (square * weight).sum(dim=1).mean(dim=(1, 2))
        return total

    def _maps(self, x: Tensor) -> Iterator[Tensor]:
        shift, scale = (torch.tensor(v, device=x.device).view(1, 3, 1, 1) for v in (_SHIFT, _SCALE))
        x = (x - shift) / scale
        for number, convolution in enumerate(self.convolutions, start=1):
            if number in _POOLED_BEFORE:
                x = F.max_pool2d(x, 3, 2)
            x = torch.relu(convolution(x))
            yield x


def _alexnet(tensors: Mapping[str, Tensor], path: Path) -> AlexDistance:
    """From the names of the package `lpips`; its second set of the same weights is left out."""
    names = {}
    for n, (part, place, *_) in enumerate(_CONVOLUTIONS):
        names[f"net.slice{part}.{place}.weight"] = f"convolutions.{n}.weight"
        names[f"net.slice{part}.{place}.bias"] = f"convolutions.{n}.bias"
        names[f"lin{n}.model.1.weight"] = f"weights.{n}"
    left_out = ("lins.", "scaling_layer.")
    kept = {k: v for k, v in tensors.items() if not k.startswith(left_out)}
    network = AlexDistance()
    own = network.state_dict()
    require_same_keys(
        {old: tuple(own[new].shape) for old, new in names.items()},
        {key: tuple(value.shape) for key, value in kept.items()},
        path,
    )
    state = {names[key]: finite(key, value, torch.float32, path) for key, value in kept.items()}
    network.load_state_dict(state, strict=True)
    return network.eval()


def _normed(features: Tensor) -> Tensor:
    return features / (features.square().sum(dim=1, keepdim=True).sqrt() + 1e-10)


def _batches(found: Array, true: Array, every: int) -> Iterator[tuple[Tensor, Tensor]]:
    for axis in range(3):
        wanted = range(min(every // 2, found.shape[axis] - 1), found.shape[axis], every)
        for first in range(0, len(wanted), _BATCH):
            at = wanted[first : first + _BATCH]
            yield _slices(found, axis, at), _slices(true, axis, at)


def _slices(volume: Array, axis: int, at: range) -> Tensor:
    """(n, 3, h, w) in −1..1, padded with air to the least side."""
    stack = np.moveaxis(np.take(volume, at, axis=axis), axis, 0).astype(np.float32)
    x = torch.from_numpy(stack)[:, None] * 2 - 1
    h, w = x.shape[2:]
    x = F.pad(x, (0, max(0, LEAST_SIDE - w), 0, max(0, LEAST_SIDE - h)), value=-1.0)
    return x.expand(-1, 3, -1, -1)


def _others(axis: int) -> tuple[int, ...]:
    return tuple(a for a in range(3) if a != axis)
