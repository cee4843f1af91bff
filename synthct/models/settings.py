"""How a sample is drawn: the same words for every family."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from synthct.errors import UsageError

SamplerName = Literal["rflow", "ancestral", "heun", "midpoint", "adams", "ddpm", "ddim", "dpm++"]
Precision = Literal["float32", "bfloat16"]
Part = Literal["embedding", "sampling"]
"""Of the work before decoding: what memory may run out in."""

SEVERAL = re.compile(r"cpu(,cpu)+|cuda(:\d+)?(,cuda(:\d+)?)+")
"""Devices that a decoding may be spread over: of one kind."""


def split_devices(name: str) -> tuple[str, ...]:
    """`cuda:0,cuda:1` → its parts; one name as it is.

    Raises:
        UsageError: several of different kinds, the same GPU twice, or a kind that stays alone.
    """
    parts = tuple(part.strip() for part in name.split(","))
    numbered = ["cuda:0" if part == "cuda" else part for part in parts]
    if len(parts) > 1:
        twice = parts[0] != "cpu" and len(set(numbered)) < len(parts)
        if twice or not SEVERAL.fullmatch(",".join(parts)):
            raise UsageError(
                f"{name!r} is no list of devices that share a decoding",
                "give GPUs, each once (cuda:0,cuda:1), or the CPU several times (cpu,cpu)",
            )
    return parts


BODY_MARGIN = 2
"""Voxels of air kept around the box of the body, which alone is sampled."""


@dataclass(frozen=True)
class Execution:
    """How the work is done so that it keeps to a memory budget; chosen by the planner."""

    sampling: Precision
    """bfloat16: autocast around float32 weights."""
    mask_tile: int
    """Voxels along the side of a tile of the mask's embedding."""
    together: bool = False
    """The branches of guidance are one batch; otherwise they run one after the other."""
    decoding: Precision = "float32"
    """Of the maps that the decoder stores; its statistics are float32 in any case."""
    decoding_bytes: int | None = None
    """What decoding may allocate on the device; None: the plan with the least work."""
    host_bytes: int = 0
    """Host memory for maps of another device."""
    spill_bytes: int = 0
    """Disk that maps may be moved to, in a temporary file in `spill_folder`."""
    spill_folder: Path | None = None
    """Also of a streamed image."""
    streamed: bool = False
    """The image goes slab by slab into a temporary int16 file, and memory never holds it."""
    devices: tuple[str, ...] = ()
    """That share the decoding, where they are several."""


@dataclass(frozen=True)
class Sampling:
    """Noise and its removal. `[seed, attempt]` alone determines all noise."""

    seed: int
    attempt: int
    steps: int
    sampler: SamplerName
    tumor_guidance: float = 0.0
    """How much the lesions of the mask are pushed; 0 and 1: not at all."""
    modality_guidance: float = 0.0
    """The same of the modality class."""
    mask_guidance: float = 0.0
    """The same of the whole mask, against the U-Net without it."""
    modality_class: int | None = None
    """The network's code of the modality and contrast; None: its own default."""
    reference_times: bool = False
    """The reference's truncated time steps instead of the exact ones (rectified flow)."""
    whole: bool = False
    """Sample the whole grid, not only the box of the body: for models of fixed sizes."""
    compile: bool = False
    """Let torch.compile fuse the U-Net's blocks before the first step."""
    execution: Execution | None = None
    """None: the model's own choice."""
