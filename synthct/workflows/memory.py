"""How a run keeps to a memory budget: each stage's plan, the peak, the least that works. No torch.

Bytes are device memory; on a CPU the growth of the process's anonymous resident set (RssAnon), from
its start. On other devices the volumes and the program itself lie in host memory, which no budget
bounds.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from math import ceil, prod
from pathlib import Path
from typing import Any, Literal, TypedDict

from synthct.errors import MemoryBudgetError
from synthct.geometry import Shape
from synthct.models.maisi import plans
from synthct.models.maisi.footprint import (
    TILES,
    SamplingMemory,
    decoder_macs,
    parameters,
    sampling_memory,
)
from synthct.models.maisi.spec import MaisiSpec
from synthct.models.settings import Execution, Precision
from synthct.tiling.budget import Plan
from synthct.workflows import machine

StageName = Literal["sample", "decode"]

RUNTIME_BYTES = 250 * 2**20
"""torch, MONAI and the rest once imported: growth of RssAnon, measured (benchmarks/memory.py)."""
_LABELS_INNER = 2  # label maps on the network's grid: the whole one, and its box
_LABELS_ASKED = 2  # … on the mask's grid and on the one that is written
_FINISH_INNER = 12  # float32: decoded box, the same in HU, the whole grid
_FINISH_ASKED = 10  # float32 and int16 on the grid asked for, the work of resampling and QC
_FLOAT_BYTES = 4


@dataclass(frozen=True)
class Job:
    """What is to be planned.

    Attributes:
        fed: voxels that the networks are fed, multiples of `spec.grid_multiple`.
        inner, asked: voxels of the network's whole grid, and of the grid that is written.
        device: kind of device, `cpu`, `cuda` or `mps`.
        precision: None: the planner's choice.
        stage: only this part of the run; None: all of it.
        budget_bytes: None: unbounded, and the plan is the one with the least work.
        spill_folder: where maps may be moved into a file.
    """

    spec: MaisiSpec
    fed: Shape
    inner: Shape
    asked: Shape
    steps: int
    device: str = "cpu"
    precision: Precision | None = None
    guided: bool = False
    masked: bool = True
    stage: StageName | None = None
    budget_bytes: int | None = None
    spill_folder: Path = Path(".")


class StageDocument(TypedDict):
    name: str
    precision: str
    peak_bytes: int
    minimum_bytes: int
    work_macs: int
    choice: str
    schedule: list[str]


class MemoryDocument(TypedDict):
    """`memory` in the JSON of `plan` and `check`; bytes and multiply-adds."""

    device: str
    allowed_bytes: int | None
    resident_bytes: int
    peak_bytes: int
    minimum_bytes: int
    work_macs: int
    choice: str
    stages: list[StageDocument]


@dataclass(frozen=True)
class StagePlan:
    """One stage: `peak_bytes` and `minimum_bytes` are of the whole process while it lasts."""

    name: str
    precision: Precision
    peak_bytes: int
    minimum_bytes: int
    work_macs: int
    choice: str
    schedule: tuple[str, ...] = ()

    def as_dict(self) -> StageDocument:
        return {
            "name": self.name,
            "precision": self.precision,
            "peak_bytes": self.peak_bytes,
            "minimum_bytes": self.minimum_bytes,
            "work_macs": self.work_macs,
            "choice": self.choice,
            "schedule": list(self.schedule),
        }


@dataclass(frozen=True)
class RunPlan:
    """What each stage does within the budget, and what the generator is to be told."""

    job: Job
    resident_bytes: int
    stages: tuple[StagePlan, ...]
    execution: Execution

    @property
    def peak_bytes(self) -> int:
        return max(stage.peak_bytes for stage in self.stages)

    @property
    def minimum_bytes(self) -> int:
        return max(stage.minimum_bytes for stage in self.stages)

    @property
    def work_macs(self) -> int:
        return sum(stage.work_macs for stage in self.stages)

    @property
    def choice(self) -> str:
        """One line: what was chosen, and why."""
        told = "; ".join(stage.choice for stage in self.stages if stage.choice)
        allowed = self.job.budget_bytes
        limit = "no limit given" if allowed is None else f"{gib(allowed)} GiB allowed"
        return f"about {gib(self.peak_bytes)} GiB ({limit}): {told}"

    def as_dict(self) -> MemoryDocument:
        return {
            "device": self.job.device,
            "allowed_bytes": self.job.budget_bytes,
            "resident_bytes": self.resident_bytes,
            "peak_bytes": self.peak_bytes,
            "minimum_bytes": self.minimum_bytes,
            "work_macs": self.work_macs,
            "choice": self.choice,
            "stages": [stage.as_dict() for stage in self.stages],
        }


def plan_run(job: Job) -> RunPlan:
    """The plan with the least work that keeps to the budget.

    Raises:
        MemoryBudgetError: none does; its `minimum` is the smallest budget that works.
    """
    resident = _resident(job)
    least = max(minima(job).values())
    if job.budget_bytes is not None and job.budget_bytes < least:
        raise MemoryBudgetError(
            f"{gib(job.budget_bytes)} GiB allowed, at least {gib_up(least)} GiB needed",
            f"--max-memory {mib_up(least)}M works; fewer voxels (--spacing, --size) need less",
            minimum=least,
        )
    stages: list[StagePlan] = []
    execution = Execution(_sampling_options(job)[0], TILES[-1])
    if job.stage != "decode":
        sampling = _choose_sampling(job, resident)
        stages.append(_sampling_stage(job, resident, sampling))
        execution = replace(execution, sampling=sampling.precision, mask_tile=sampling.tile)
    if job.stage != "sample":
        decoding = _choose_decoding(job, resident)
        stages.append(_decoding_stage(job, resident, decoding))
        words = _decode_words(job, _precision(decoding))
        execution = replace(
            execution,
            decoding=_precision(decoding),
            decoding_bytes=_allowed(job, resident),
            host_bytes=words["host_bytes"],
            spill_bytes=words["spill_bytes"],
            spill_folder=job.spill_folder,
        )
    if job.stage is None and job.device == "cpu":
        stages.append(_finishing_stage(job, resident))
    return RunPlan(job, resident, tuple(stages), execution)


@lru_cache(maxsize=64)
def minima(job: Job) -> dict[str, int]:
    """The smallest budget of the whole run that each stage works in, by stage."""
    found = {}
    if job.stage != "decode":
        found["sampling"] = min(_sampling(job, one).peak for one in _sampling_options(job))
    if job.stage != "sample":
        found["decoding"] = min(_decode_minimum(job, one) for one in _decoding_options(job))
    if job.stage is None and job.device == "cpu":
        found["finishing"] = _finishing(job)
    resident = _resident(job)
    return {name: resident + amount for name, amount in found.items()}


def _resident(job: Job) -> int:
    """What stays from loading to writing: the program, the weights, the label maps, latents."""
    weights = _FLOAT_BYTES * sum(parameters(job.spec).values())
    latents = 2 * _FLOAT_BYTES * job.spec.autoencoder.latent_channels * prod(_latent(job))
    if job.device != "cpu":
        return weights + latents
    labels = _LABELS_INNER * prod(job.inner) + _LABELS_ASKED * prod(job.asked)
    return RUNTIME_BYTES + weights + latents + labels * job.masked


def _sampling_options(job: Job) -> tuple[Precision, ...]:
    """From the one that is preferred to the one that needs the least."""
    if job.precision is not None:
        return (job.precision,)
    if job.device == "mps":
        return ("float32",)
    if machine.fast_bfloat16(job.device):
        return ("bfloat16",)
    return ("float32", "bfloat16")


def _sampling(job: Job, precision: Precision) -> SamplingMemory:
    return sampling_memory(
        job.spec,
        job.fed,
        precision,
        guided=job.guided,
        masked=job.masked,
        device=job.device,
    )


def _choose_sampling(job: Job, resident: int) -> SamplingMemory:
    options = [_sampling(job, option) for option in _sampling_options(job)]
    allowed = _allowed(job, resident)
    return next(one for one in options if allowed is None or one.peak <= allowed)


def _sampling_stage(job: Job, resident: int, chosen: SamplingMemory) -> StagePlan:
    options = _sampling_options(job)
    why = f"sampling in {chosen.precision}"
    if chosen.precision != options[0]:
        why += f" ({options[0]} needs {gib_up(resident + _sampling(job, options[0]).peak)} GiB)"
    rows = [_row(row.name, resident + row.peak_bytes, row.macs) for row in chosen.rows[1:]]
    if job.masked and job.spec.controlnet:
        once = _row("mask", resident + chosen.embedding, chosen.macs_once)
        rows.insert(0, f"{once}, once, in tiles of {chosen.tile} voxels")
    return StagePlan(
        "sampling",
        chosen.precision,
        resident + chosen.peak,
        minima(job)["sampling"],
        chosen.macs_once + job.steps * chosen.macs_per_step,
        why,
        tuple(rows),
    )


def _decoding_options(job: Job) -> tuple[Precision, ...]:
    """float32 wherever it fits: it is exact to rounding."""
    return ("float32", "bfloat16") if job.precision is None else (job.precision,)


def _decode_words(job: Job, precision: Precision) -> dict[str, Any]:
    return {
        "dtype": precision,
        "device": job.device,
        "host_bytes": 0 if job.device == "cpu" else machine.host_room(),
        "spill_bytes": machine.spill_room(job.spill_folder),
    }


def _decode_minimum(job: Job, precision: Precision) -> int:
    words = _decode_words(job, precision)
    return plans.decode_minimum(job.spec.autoencoder, _latent(job), **words)


def _choose_decoding(job: Job, resident: int) -> Plan:
    """The first type that fits; the least was checked before, but the disk may have filled since.

    Raises:
        MemoryBudgetError: none fits after all.
    """
    *preferred, last = _decoding_options(job)
    for precision in preferred:
        with suppress(MemoryBudgetError):
            return _decoding(job, resident, precision)
    return _decoding(job, resident, last)


def _decoding(job: Job, resident: int, precision: Precision) -> Plan:
    words = _decode_words(job, precision)
    allowed = _allowed(job, resident)
    return plans.decode_plan(job.spec.autoencoder, _latent(job), allowed, **words)


def _decoding_stage(job: Job, resident: int, plan: Plan) -> StagePlan:
    unsplit = decoder_macs(job.spec.autoencoder, _latent(job))
    return StagePlan(
        "decoding",
        _precision(plan),
        resident + plan.peak_bytes,
        minima(job)["decoding"],
        int(plan.work * unsplit),
        f"decoding in {plan.summary}",
        tuple(plan.lines()),
    )


def _precision(plan: Plan) -> Precision:
    return "bfloat16" if plan.dtype == "bfloat16" else "float32"


def _allowed(job: Job, resident: int) -> int | None:
    return None if job.budget_bytes is None else job.budget_bytes - resident


def _finishing(job: Job) -> int:
    """Decoded values in HU, on the grid asked for, judged and written."""
    return _FINISH_INNER * prod(job.inner) + _FINISH_ASKED * prod(job.asked)


def _finishing_stage(job: Job, resident: int) -> StagePlan:
    peak = resident + _finishing(job)
    return StagePlan("finishing", "float32", peak, peak, 0, "")


def _latent(job: Job) -> Shape:
    i, j, k = (n // job.spec.autoencoder.factor for n in job.fed)
    return i, j, k


def _row(name: str, peak_bytes: int, macs: int) -> str:
    return f"{name:<18} {peak_bytes / 2**30:7.2f} GiB {macs / 1e12:9.3f} T multiply-adds"


def gib(amount_bytes: int) -> str:
    return f"{amount_bytes / 2**30:.1f}"


def gib_up(amount_bytes: int) -> str:
    """Rounded up, so that what is said to work does."""
    return f"{ceil(amount_bytes / 2**30 * 10) / 10:.1f}"


def mib_up(amount_bytes: int) -> int:
    return -(-amount_bytes // 2**20)
