"""How a run keeps to a memory budget: each stage's plan, the peak, the least that works. No torch.

Bytes are device memory; on a CPU the growth of the process's anonymous resident set (RssAnon), from
its start. On other devices the volumes and the program itself lie in host memory, which no budget
bounds.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TypedDict

from synthct.errors import MemoryBudgetError
from synthct.models.maisi.footprint import TILES
from synthct.models.settings import Execution
from synthct.tiling.budget import Plan
from synthct.workflows.job import Job, StageName, resident_bytes
from synthct.workflows.stage_plans import (
    StageDocument,
    StagePlan,
    asks_for_streaming,
    choose_decoding,
    choose_sampling,
    decode_words,
    decoding_bytes,
    decoding_stage,
    finishing_stage,
    gib,
    gib_up,
    mib_up,
    minima,
    precision_of,
    sampling_options,
    sampling_stage,
)

__all__ = [
    "Job",
    "MemoryDocument",
    "RunPlan",
    "StageName",
    "StagePlan",
    "plan_run",
    "smaller",
    "told_smaller",
]


class MemoryDocument(TypedDict):
    """`memory` in the JSON of `plan` and `check`; bytes (of each device) and multiply-adds."""

    device: str
    devices: int
    allowed_bytes: int | None
    resident_bytes: int
    peak_bytes: int
    minimum_bytes: int
    work_macs: int
    streamed: bool
    choice: str
    stages: list[StageDocument]


@dataclass(frozen=True)
class RunPlan:
    """What each stage does within the budget, and what the generator is to be told."""

    job: Job
    resident_bytes: int
    minimum_bytes: int
    stages: tuple[StagePlan, ...]
    execution: Execution

    @property
    def peak_bytes(self) -> int:
        return max(stage.peak_bytes for stage in self.stages)

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
            "devices": self.job.devices,
            "allowed_bytes": self.job.budget_bytes,
            "resident_bytes": self.resident_bytes,
            "peak_bytes": self.peak_bytes,
            "minimum_bytes": self.minimum_bytes,
            "work_macs": self.work_macs,
            "streamed": self.execution.streamed,
            "choice": self.choice,
            "stages": [stage.as_dict() for stage in self.stages],
        }


def plan_run(job: Job) -> RunPlan:
    """The quickest plan that keeps to the budget.

    The image stays in memory unless something else would have to be done twice, or rounded, to make
    room for it.

    Raises:
        MemoryBudgetError: none does; its `minimum` is the smallest budget that works.
    """
    least = max(minima(job).values())
    if job.budget_bytes is not None and job.budget_bytes < least:
        raise MemoryBudgetError(
            f"{gib(job.budget_bytes)} GiB allowed, at least {gib_up(least)} GiB needed",
            f"--max-memory {mib_up(least)}M works; fewer voxels (--spacing, --size) need less",
            minimum=least,
        )
    if not job.streamable:
        return _planned(job, least, streamed=False)
    kept = None
    if not asks_for_streaming(job):
        with suppress(MemoryBudgetError):
            kept = _planned(job, least, streamed=False)
    if kept is not None and (job.budget_bytes is None or job.device != "cpu"):
        return kept
    streamed = _planned(job, least, streamed=True)
    return streamed if kept is None or _cost(streamed) < _cost(kept) else kept


def _cost(plan: RunPlan) -> tuple[int, int]:
    """Rounded stages first, then work."""
    return sum(stage.precision == "bfloat16" for stage in plan.stages), plan.work_macs


def _planned(job: Job, least: int, streamed: bool) -> RunPlan:
    stages: list[StagePlan] = []
    execution = Execution(sampling_options(job)[0], TILES[-1], streamed=streamed)
    execution = replace(execution, spill_folder=job.spill_folder)
    if job.stage != "decode":
        sampling = choose_sampling(job, streamed)
        stages.append(sampling_stage(job, sampling, streamed))
        execution = replace(
            execution,
            sampling=sampling.precision,
            mask_tile=sampling.tile,
            together=sampling.together,
        )
    if job.stage != "sample":
        decoding = choose_decoding(job, streamed)
        stages.append(decoding_stage(job, decoding, streamed))
        execution = _told_to_decode(execution, job, decoding, streamed)
    if job.stage is None:
        stages.append(finishing_stage(job, streamed))
    return RunPlan(job, resident_bytes(job, streamed), least, tuple(stages), execution)


def _told_to_decode(how: Execution, job: Job, plan: Plan, streamed: bool) -> Execution:
    words = decode_words(job, precision_of(plan), streamed)
    return replace(
        how,
        decoding=precision_of(plan),
        decoding_bytes=decoding_bytes(job, streamed),
        host_bytes=words["host_bytes"],
        spill_bytes=words["spill_bytes"],
    )


def smaller(job: Job, how: Execution, part: str) -> Execution | None:
    """What to try where memory ran out in `part` of the work in spite of the plan; or nothing.

    A smaller tile of the mask's embedding; the branches of guidance one after the other; then
    bfloat16 where it is not excluded.
    """
    if part == "embedding" and how.mask_tile > TILES[-1]:
        return replace(how, mask_tile=max(tile for tile in TILES if tile < how.mask_tile))
    if part == "sampling" and how.together:
        return replace(how, together=False)
    if how.sampling == "float32" and job.precision is None and job.device != "mps":
        return replace(how, sampling="bfloat16")
    return None


def told_smaller(before: Execution, found: Execution) -> str:
    """What `smaller` found, in words."""
    if found.mask_tile != before.mask_tile:
        return f"with the mask in tiles of {found.mask_tile} voxels"
    if found.together != before.together:
        return "with the branches of guidance one after the other"
    return f"in {found.sampling}"
