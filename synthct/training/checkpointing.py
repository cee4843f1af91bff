"""Gradient checkpointing: a block's inner maps are made again in backward instead of kept."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint


def checkpoint_blocks(blocks: Iterable[nn.Module]) -> None:
    """Let each block keep only its inputs for backward. Names of weights stay as they are.

    Wrong for a block whose inputs are changed in place between forward and backward.
    """
    for block in blocks:
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)
