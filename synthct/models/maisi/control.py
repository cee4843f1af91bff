"""The ControlNet's view of the mask, computed once per sample and tile by tile.

MONAI embeds the mask anew at every step (20-31 % of a step's time, MAISI.md section 5), though it
does not depend on the time, and from eight float channels at the image's full resolution (6.4 GB
at 512×512×768). Its layers are convolutions without norms, so a tile with enough planes around it
gives exactly its part of the whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt
import torch
from monai.apps.generation.maisi.networks.controlnet_maisi import ControlNetMaisi
from torch import nn

from synthct.models.maisi.conditions import label_bits
from synthct.tiling.cuts import Cut, at_most

TILE = 96
"""Voxels along a tile's side unless the planner says otherwise; a multiple of every factor."""

Box = tuple[slice, slice, slice]


@dataclass(frozen=True)
class MaskEmbedding:
    """`embedding` (1, C, x, y, z) of one mask, and the network that it is for."""

    controlnet: ControlNetMaisi
    embedding: torch.Tensor

    @classmethod
    def of(
        cls,
        controlnet: ControlNetMaisi,
        labels: npt.NDArray[np.uint8],
        *,
        device: torch.device | None = None,
        tile: int = TILE,
    ) -> MaskEmbedding:
        """Embed a label map (X, Y, Z), ids 0-255, sides multiples of the network's factor."""
        network = controlnet.controlnet_cond_embedding
        return cls(controlnet, embed(network, labels, device=device, tile=tile))


def embed(
    network: nn.Module,
    labels: npt.NDArray[np.uint8],
    *,
    device: torch.device | None = None,
    tile: int = TILE,
) -> torch.Tensor:
    """What `network` makes of label bits: (1, C, x, y, z); bits exist for one tile at a time."""
    factor, margin = reach(network)
    whole: torch.Tensor | None = None
    for core, halo in tiles(labels.shape, tile, margin, factor):
        part = network(label_bits(labels[halo]).to(device).float())
        if whole is None:
            grid = [n // factor for n in labels.shape]
            whole = torch.empty((1, part.shape[1], *grid), dtype=part.dtype, device=part.device)
        target, inner = _coarse(core, halo, factor)
        whole[(slice(None), slice(None), *target)] = part[(slice(None), slice(None), *inner)]
    assert whole is not None
    return whole


def reach(network: nn.Module) -> tuple[int, int]:
    """Of a chain of convolutions: its factor, and how many voxels around a tile it looks at.

    The margin is rounded up to a multiple of the factor, so that strides fall on the same voxels.
    """
    factor, margin = 1, 0
    for conv in reversed([m for m in network.modules() if isinstance(m, nn.Conv3d)]):
        stride, kernel = conv.stride[0], conv.kernel_size[0]
        factor, margin = factor * stride, margin * stride + kernel // 2
    return factor, -(-margin // factor) * factor


def tiles(shape: tuple[int, ...], tile: int, margin: int, factor: int) -> Iterator[tuple[Box, Box]]:
    """(core, core with its margin inside the volume) for tiles of at most `tile` voxels a side.

    Every voxel is in one core; cores begin at multiples of `factor`.
    """
    for cores in product(*(_cuts(n, tile, factor) for n in shape)):
        wide = [
            (max(0, start - margin), min(n, stop + margin))
            for (start, stop), n in zip(cores, shape, strict=True)
        ]
        yield _box(cores), _box(wide)


def _cuts(voxels: int, tile: int, factor: int) -> tuple[Cut, ...]:
    coarse = at_most(voxels // factor, max(1, tile // factor))
    return tuple((start * factor, stop * factor) for start, stop in coarse)


def _box(cuts: Sequence[Cut]) -> Box:
    i, j, k = (slice(a, b) for a, b in cuts)
    return i, j, k


def _coarse(core: Box, halo: Box, factor: int) -> tuple[Box, Box]:
    """Where the core lies on the coarse grid, and within the tile's own output."""
    target = _box([(c.start // factor, c.stop // factor) for c in core])
    inner = _box(
        [
            ((c.start - h.start) // factor, (c.stop - h.start) // factor)
            for c, h in zip(core, halo, strict=True)
        ]
    )
    return target, inner
