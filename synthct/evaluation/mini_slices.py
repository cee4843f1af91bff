"""`mini-slices`: the small 2D network whose features the embedded fidelity metrics compare.

Four stages of convolutions halve the slice each; the means of the last three stages are the
features, 192 numbers, each divided by its spread over the slices it was trained on. It was trained
on scans to tell what a slice shows and how it was spoilt (`benchmarks/feature_network.py`,
`weights/mini-slices/CARD.md`). Distances in its space are comparable with one another alone, never
with Inception's or RadImageNet's.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

WIDTHS = (16, 32, 64, 96)
FEATURES = sum(WIDTHS[1:])


class Stage(nn.Module):
    """A convolution of stride 2, and a residual block of two."""

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        self.down = nn.Sequential(
            nn.Conv2d(channels_in, channels, 3, 2, 1, bias=False), nn.BatchNorm2d(channels)
        )
        self.block = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, 1, 1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, 1, 1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.down(x)
        return torch.relu(x + self.block(x))


class MiniSlices(nn.Module):
    """(n, 1, rows, columns) in 0..1 → (n, 192). Any size from 32 x 32 up."""

    centre: Tensor
    spread: Tensor

    def __init__(self) -> None:
        super().__init__()
        first = WIDTHS[0]
        self.stem = nn.Sequential(
            nn.Conv2d(1, first, 5, 2, 2, bias=False), nn.BatchNorm2d(first), nn.ReLU()
        )
        self.stages = nn.ModuleList(Stage(a, b) for a, b in pairwise(WIDTHS))
        self.register_buffer("centre", torch.zeros(FEATURES))
        self.register_buffer("spread", torch.ones(FEATURES))

    def maps(self, x: Tensor) -> list[Tensor]:
        """The feature maps of the last three stages, (n, 32 | 64 | 96, rows/4 | 8 | 16, …)."""
        x = self.stem(x)
        found = []
        for stage in self.stages:
            x = stage(x)
            found.append(x)
        return found

    def forward(self, x: Tensor) -> Tensor:
        pooled = torch.cat([m.mean(dim=(2, 3)) for m in self.maps(x)], dim=1)
        return (pooled - self.centre) / self.spread
