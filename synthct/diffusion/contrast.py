"""A region-specific contrastive loss: what the condition says of a region must show there alone.

MAISI's second version (Zhao et al., arXiv 2508.05772) compares the prediction under the true mask
with that under a mask in which a region's label was taken away. Inside the region the two are
pushed apart, up to a margin; outside, where the masks agree, they are held together.
"""

from __future__ import annotations

import torch
from torch.nn import functional

MARGIN = 2.0


def region_contrast(
    told: torch.Tensor, untold: torch.Tensor, region: torch.Tensor, margin: float = MARGIN
) -> torch.Tensor:
    """Two predictions (N, C, x, y, z) of the same noisy latents → a scalar, zero where all is well.

    Args:
        told: with the region's label in the mask.
        untold: without it.
        region: where the masks differ, 0 to 1, (1, 1, x, y, z); nothing is lost where it is empty.
        margin: mean absolute difference inside the region from which on it is enough.
    """
    inside = region.expand_as(told)
    total = inside.sum()
    if float(total) == 0:
        return told.new_zeros(())
    apart = (told - untold).abs()
    within = (apart * inside).sum() / total
    rest = (1 - inside).sum().clamp_min(1.0)
    outside = (apart * (1 - inside)).sum() / rest
    return functional.relu(margin - within) + outside
