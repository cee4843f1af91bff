"""A start for the ControlNet's mask encoder: channels that light up on groups of labels.

The mask comes as the 8 bits of its ids, so that what differs in everything may differ in one bit
alone: left rib 1 is 63, colon 62, the iliac veins are 60 and 61, the trachea is 57 and the first
cervical vertebra 56. A narrow encoder learns to tell these apart last of all. Here its last
channels begin as what it needs for that: each is on for one run of ids, and off for all others.
"""

from __future__ import annotations

import torch
from torch import nn

RUNS: tuple[tuple[int, int], ...] = (
    (200, 1),  # body
    (64, 32),  # ribs, girdles, hips
    (32, 16),  # lumbar and thoracic vertebrae
    (48, 8),  # thoracic and cervical vertebrae
    (28, 4),  # lungs
    (32, 1),  # right lower lobe, among the vertebrae above
    (57, 1),  # trachea
    (56, 1),  # C1
    (58, 2),  # iliac arteries
    (60, 2),  # iliac veins
    (62, 1),  # colon
    (63, 1),  # left rib 1
    (96, 2),  # right hip, sacrum
    (8, 2),  # adrenal glands
    (121, 1),  # spinal cord
    (122, 1),  # sternum
)
"""First id and number of ids: powers of two, aligned, so that each is a pattern of bits."""
SHARPNESS = 8.0
"""Input of the activation: half of it inside a run, minus half of it one bit outside."""


@torch.no_grad()
def start_mask_encoder(encoder: nn.Module) -> None:
    """Let the last channels of every level carry `RUNS`; the others stay as they are.

    Args:
        encoder: MONAI's `ControlNetConditioningEmbedding`, with 8 bits as input.

    An encoder with fewer than twice as many channels as there are runs is left alone.
    """
    convs = [m for m in encoder.modules() if isinstance(m, nn.Conv3d)][:-1]
    if min(conv.out_channels for conv in convs) < 2 * len(RUNS):
        return
    _indicators(convs[0])
    for conv in convs[1:]:
        _passed_on(conv)


def _indicators(conv: nn.Conv3d) -> None:
    first = conv.out_channels - len(RUNS)
    bias = _bias(conv)
    for channel, (low, count) in enumerate(RUNS, first):
        conv.weight[channel] = 0.0
        ones = 0
        for bit in range(8):
            if count >> (bit + 1):
                continue  # this bit takes both values inside the run
            on = low >> bit & 1
            ones += on
            conv.weight[channel, bit, 1, 1, 1] = SHARPNESS if on else -SHARPNESS
        bias[channel] = -SHARPNESS * (ones - 0.5)


def _passed_on(conv: nn.Conv3d) -> None:
    """Each run's channel reads its own channel of the level before; a stride averages it."""
    first_out, first_in = conv.out_channels - len(RUNS), conv.in_channels - len(RUNS)
    bias = _bias(conv)
    for n in range(len(RUNS)):
        conv.weight[first_out + n] = 0.0
        bias[first_out + n] = 0.0
        if conv.stride[0] == 1:
            conv.weight[first_out + n, first_in + n, 1, 1, 1] = 1.0
        else:  # padding 1 and stride 2: taps 1 and 2 are the two voxels of the coarse one
            conv.weight[first_out + n, first_in + n, 1:, 1:, 1:] = 1 / 8


def _bias(conv: nn.Conv3d) -> torch.Tensor:
    assert conv.bias is not None, "MONAI's mask encoder has a bias in every convolution"
    return conv.bias
