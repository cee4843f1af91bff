"""How the mask generator keeps to a memory budget: its two stages, the least that works. No torch.

Its decoder's 125 maps of scores never exist as a whole: the likeliest label of each slab is kept.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from synthct.errors import MemoryBudgetError
from synthct.geometry import Shape
from synthct.models.maisi import mask_spec, plans
from synthct.models.maisi.footprint import (
    SamplingMemory,
    decoder_macs,
    parameters,
    sampling_memory,
)
from synthct.models.maisi.spec import AutoencoderSpec
from synthct.models.settings import Execution, Precision
from synthct.tiling.budget import Plan
from synthct.workflows import machine
from synthct.workflows.job import FLOAT_BYTES, RUNTIME_BYTES
from synthct.workflows.memory import MemoryDocument
from synthct.workflows.stage_plans import StagePlan, gib, mib_up, precision_of

_REFINED = 8
"""Label maps and masks of one byte a voxel, while what was generated is tidied up."""


@dataclass(frozen=True)
class MaskJob:
    """A mask of `shape` voxels in `steps` steps, on a kind of device, within a budget."""

    shape: Shape
    steps: int
    device: str = "cpu"
    precision: Precision | None = None
    budget_bytes: int | None = None
    spill_folder: Path = Path(".")
    devices: int = 1

    @property
    def vae(self) -> AutoencoderSpec:
        return mask_spec.MASK_SPEC.autoencoder

    @property
    def latent(self) -> Shape:
        i, j, k = (n // self.vae.factor for n in self.shape)
        return i, j, k

    @property
    def resident_bytes(self) -> int:
        """The program, the weights, the labels."""
        weights = FLOAT_BYTES * sum(parameters(mask_spec.MASK_SPEC).values())
        return weights + (RUNTIME_BYTES + prod(self.shape)) * (self.device == "cpu")


@dataclass(frozen=True)
class MaskPlan:
    """What each stage takes, and what the generator is to be told."""

    job: MaskJob
    sampling: SamplingMemory
    decoding: Plan
    minimum_bytes: int

    @property
    def execution(self) -> Execution:
        job = self.job
        return Execution(
            self.sampling.precision,
            0,
            decoding=precision_of(self.decoding),
            decoding_bytes=_left(job),
            host_bytes=_words(job, "float32")["host_bytes"],
            spill_bytes=_words(job, "float32")["spill_bytes"],
            spill_folder=job.spill_folder,
        )

    @property
    def resident_bytes(self) -> int:
        return self.job.resident_bytes

    @property
    def peak_bytes(self) -> int:
        return self.resident_bytes + max(
            self.sampling.peak, self.decoding.peak_bytes, _refining(self.job)
        )

    @property
    def stages(self) -> tuple[StagePlan, ...]:
        return self._sampling_stage(), self._decoding_stage()

    @property
    def choice(self) -> str:
        """One line: what was chosen, and why."""
        allowed = self.job.budget_bytes
        limit = "no limit given" if allowed is None else f"{gib(allowed)} GiB allowed"
        said = "; ".join(stage.choice for stage in self.stages)
        return f"about {gib(self.peak_bytes)} GiB ({limit}): {said}"

    def as_dict(self) -> MemoryDocument:
        """The keys of `memory` in the JSON of `plan`."""
        return {
            "device": self.job.device,
            "devices": 1,
            "allowed_bytes": self.job.budget_bytes,
            "streamed": True,
            "resident_bytes": self.job.resident_bytes,
            "peak_bytes": self.peak_bytes,
            "minimum_bytes": self.minimum_bytes,
            "work_macs": sum(stage.work_macs for stage in self.stages),
            "choice": self.choice,
            "stages": [stage.as_dict() for stage in self.stages],
        }

    def _sampling_stage(self) -> StagePlan:
        resident, sampling = self.job.resident_bytes, self.sampling
        rows = [
            f"{row.name:<18} {(resident + row.peak_bytes) / 2**30:7.2f} GiB "
            f"{row.macs / 1e12:9.3f} T multiply-adds"
            for row in sampling.rows[1:]
        ]
        return StagePlan(
            "sampling",
            sampling.precision,
            resident + sampling.peak,
            resident + min(one.peak for one in _samplings(self.job)),
            self.job.steps * sampling.macs_per_step,
            f"sampling in {sampling.precision}",
            tuple(rows),
        )

    def _decoding_stage(self) -> StagePlan:
        resident, plan = self.job.resident_bytes, self.decoding
        return StagePlan(
            "decoding",
            precision_of(plan),
            resident + plan.peak_bytes,
            resident + _decode_minimum(self.job),
            int(plan.work * decoder_macs(self.job.vae, self.job.latent)),
            f"decoding in {plan.summary}",
            tuple(plan.lines()),
        )


def plan_mask(job: MaskJob) -> MaskPlan:
    """The plan with the least work that keeps to the budget.

    Raises:
        MemoryBudgetError: none does; its `minimum` is the smallest budget that works.
    """
    samplings = _samplings(job)
    parts = min(one.peak for one in samplings), _decode_minimum(job), _refining(job)
    least = job.resident_bytes + max(parts)
    if job.budget_bytes is not None and job.budget_bytes < least:
        mib = mib_up(least)
        raise MemoryBudgetError(
            f"{gib(job.budget_bytes)} GiB allowed, the mask generator needs at least "
            f"{mib / 1024:.2f} GiB",
            f"--max-memory {mib}M works; or choose a mask with --mask-dir, or bring one (--mask)",
            minimum=least,
        )
    left = _left(job)
    sampling = next(one for one in samplings if left is None or one.peak <= left)
    return MaskPlan(job, sampling, _decoding(job), least)


def _samplings(job: MaskJob) -> list[SamplingMemory]:
    """From the one that is preferred to the one that needs the least."""
    options: tuple[Precision, ...] = ("float32", "bfloat16")
    if job.precision is not None:
        options = (job.precision,)
    elif machine.fast_bfloat16(job.device):
        options = ("bfloat16",)
    elif job.device == "mps":
        options = ("float32",)
    return [
        sampling_memory(mask_spec.MASK_SPEC, job.shape, option, masked=False, device=job.device)
        for option in options
    ]


def _decoding(job: MaskJob) -> Plan:
    for option in _decodings(job)[:-1]:
        with suppress(MemoryBudgetError):
            return plans.decode_plan(
                mask_spec.MASK_SPEC.autoencoder, job.latent, _left(job), **_words(job, option)
            )
    last = _decodings(job)[-1]
    return plans.decode_plan(
        mask_spec.MASK_SPEC.autoencoder, job.latent, _left(job), **_words(job, last)
    )


def _decodings(job: MaskJob) -> tuple[Precision, ...]:
    return ("float32", "bfloat16") if job.precision is None else (job.precision,)


def _decode_minimum(job: MaskJob) -> int:
    return min(
        plans.decode_minimum(job.vae, job.latent, **_words(job, option))
        for option in _decodings(job)
    )


def _words(job: MaskJob, precision: Precision) -> dict[str, Any]:
    return {
        "dtype": precision,
        "device": job.device,
        "host_bytes": 0 if job.device == "cpu" else machine.host_room(),
        "spill_bytes": machine.spill_room(job.spill_folder),
        "streamed": True,
    }


def _refining(job: MaskJob) -> int:
    return _REFINED * prod(job.shape) * (job.device == "cpu")


def _left(job: MaskJob) -> int | None:
    return None if job.budget_bytes is None else job.budget_bytes - job.resident_bytes
