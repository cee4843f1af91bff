"""What `--max-memory` leaves to the tiled engine where an autoencoder works alone."""

from __future__ import annotations

from torch import nn

from synthct.errors import MemoryBudgetError
from synthct.models.maisi.spec import AutoencoderSpec
from synthct.workflows.job import FLOAT_BYTES, RUNTIME_BYTES

_LATENTS = 2
"""Held beside the engine: mean and sigma."""


def engine_budget(
    allowed_bytes: int | None,
    network: nn.Module,
    spec: AutoencoderSpec,
    voxels: int,
    volumes: int,
    hint: str,
) -> int | None:
    """Bytes beside the weights, the latents, `volumes` float32 images and, on a CPU, the program.

    Raises:
        MemoryBudgetError: nothing is left; `hint` says what to do.
    """
    if allowed_bytes is None:
        return None
    first = next(network.parameters())
    held = sum(p.numel() * p.element_size() for p in network.parameters())
    if first.device.type == "cpu":
        held += RUNTIME_BYTES
    latent = FLOAT_BYTES * spec.latent_channels * -(-voxels // spec.factor**3)
    held += volumes * FLOAT_BYTES * voxels + _LATENTS * latent
    if held >= allowed_bytes:
        raise MemoryBudgetError(
            f"{voxels} voxels, the program and the weights alone take {held / 2**30:.2f} GiB, "
            f"--max-memory allows {allowed_bytes / 2**30:.2f}",
            hint,
        )
    return allowed_bytes - held
