"""What is to be planned: a run's grids, model, device and budget. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Literal

from synthct.geometry import Shape
from synthct.models.maisi.footprint import PLAIN, Cost, parameters
from synthct.models.maisi.spec import MaisiSpec
from synthct.models.settings import Precision

StageName = Literal["sample", "decode"]

RUNTIME_BYTES = 250 * 2**20
"""torch, MONAI and the rest once imported: growth of RssAnon, measured (benchmarks/memory.py)."""
FLOAT_BYTES, IMAGE_BYTES = 4, 2
_LABELS_INNER = 2  # label maps on the network's grid: the whole one, and its box
_LABELS_ASKED = 2  # … on the mask's grid and on the one that is written


@dataclass(frozen=True)
class Job:
    """What is to be planned.

    Attributes:
        fed: voxels that the networks are fed, multiples of `spec.grid_multiple`.
        inner, asked: voxels of the network's whole grid, and of the grid that is written.
        device: kind of device, `cpu`, `cuda` or `mps`.
        devices: that share the decoding; the rest is done by the first.
        guided: what a step compares (`guidance.cost_of`).
        precision: None: the planner's choice.
        stage: only this part of the run; None: all of it.
        budget_bytes: None: unbounded, and the plan is the one with the least work.
        spill_folder: where maps, and the image, may be moved into a file.
        streamable: whether both grids are one but for the order of their axes, so that a decoded
            slab is a slab of what is written.
        kept: finished images of the run that wait in memory while the next is made.
    """

    spec: MaisiSpec
    fed: Shape
    inner: Shape
    asked: Shape
    steps: int
    device: str = "cpu"
    precision: Precision | None = None
    guided: Cost = PLAIN
    masked: bool = True
    stage: StageName | None = None
    budget_bytes: int | None = None
    spill_folder: Path = Path(".")
    streamable: bool = True
    kept: int = 0
    devices: int = 1

    @property
    def latent(self) -> Shape:
        i, j, k = (n // self.spec.autoencoder.factor for n in self.fed)
        return i, j, k


def beside_decoding_bytes(job: Job, streamed: bool) -> int:
    """What lies beside a decoder's own work on the device where most does.

    Where several devices decode, each has a process with a decoder of its own, the first beside the
    networks that have sampled. On a CPU a process counts by itself.
    """
    shared_gpu = job.devices > 1 and job.device != "cpu"
    again = FLOAT_BYTES * parameters(job.spec)["vae"] if shared_gpu else 0
    return resident_bytes(job, streamed) + again


def resident_bytes(job: Job, streamed: bool) -> int:
    """What stays from loading to writing: the program, weights, label maps, latents, images."""
    weights = FLOAT_BYTES * sum(parameters(job.spec).values())
    latents = 2 * FLOAT_BYTES * job.spec.autoencoder.latent_channels * prod(job.latent)
    if job.device != "cpu":
        return weights + latents
    labels = _LABELS_INNER * prod(job.inner) + _LABELS_ASKED * prod(job.asked)
    images = 0 if streamed else IMAGE_BYTES * job.kept * prod(job.asked)
    return RUNTIME_BYTES + weights + latents + labels * job.masked + images
