"""How much fine structure a reconstruction has, place by place, beside the real image.

An autoencoder that is trained for small errors leaves out what its latent cannot tell: noise and
the finest strands. Where they lie cannot be recovered, but how strong they are can. This compares
the local deviation of what a 3×3×3 mean takes away, so a decoder learns to draw texture as strong
as the scan's. A decoder of few channels would do it with one pattern a latent voxel, which shows
as a lattice; so what repeats from cell to cell costs as well.
"""

from __future__ import annotations

import torch
from torch.nn import functional

WINDOW, STEP = 8, 4
"""Side and spacing, in voxels, of the places where deviations are compared."""
FLOOR = 0.006
"""Deviation under which nothing is asked for: 3 HU in the soft-tissue window, 12 in the range."""


def texture_distance(
    out: torch.Tensor, image: torch.Tensor, cell: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean absolute log ratio of local deviations, and the lattice's share of the deviation.

    Args:
        out: reconstruction (N, C, i, j, k).
        image: what it should be like, same shape.
        cell: voxels of the image to one of the latent, per axis; divides the sides.

    Returns:
        Both without unit; 0 where the deviations agree, and where nothing repeats.
    """
    fine, real = _fine(out), _fine(image)
    ratio = (_local(fine) / _local(real)).log().abs().mean()
    n, c, *sides = fine.shape
    i, j, k = (side // cell for side in sides)
    cells = fine.reshape(n, c, i, cell, j, cell, k, cell)
    repeated = cells.mean(dim=(2, 4, 6)).square().mean()
    share = repeated / fine.detach().square().mean().clamp_min(FLOOR**2)
    return ratio, (share + 1e-8).sqrt()


def _fine(image: torch.Tensor) -> torch.Tensor:
    """What a mean over 3×3×3 voxels takes away; the border as its neighbours are."""
    padded = functional.pad(image, (1, 1, 1, 1, 1, 1), mode="replicate")
    return image - functional.avg_pool3d(padded, 3, 1)


def _local(fine: torch.Tensor) -> torch.Tensor:
    power = functional.avg_pool3d(fine.square(), WINDOW, STEP)
    return (power + FLOOR**2).sqrt()
