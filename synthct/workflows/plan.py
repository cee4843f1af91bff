"""`synthct plan`: what a size would take, before there are weights or a mask. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypedDict

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError

from synthct.checkpoints import catalogue
from synthct.checkpoints.catalogue import DEFAULT_MODEL, Entry
from synthct.errors import UsageError
from synthct.models.maisi.spec import preset
from synthct.models.settings import split_devices
from synthct.workflows import machine
from synthct.workflows.estimate import EstimateDocument, estimate, gpus, rate_of
from synthct.workflows.grid import padded
from synthct.workflows.guidance import Scales, cost_of
from synthct.workflows.mask_plan import MaskJob, MaskPlan, plan_mask
from synthct.workflows.memory import Job, MemoryDocument, RunPlan, plan_run
from synthct.workflows.request import Size


class PlanRequest(BaseModel):
    """All words of `plan`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: Size
    model: str = DEFAULT_MODEL
    max_memory_bytes: PositiveInt | None = None
    stage: Literal["all", "sample", "decode"] = "all"
    device: Annotated[str, Field(pattern=r"^(auto|cpu(,cpu)*|mps|cuda(:\d+)?(,cuda(:\d+)?)*)$")] = (
        "auto"
    )
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    steps: PositiveInt | None = None
    guidance: Annotated[float, Field(ge=0)] | None = None


class PlanDocument(TypedDict):
    """The JSON of `plan`; sizes in voxels, `memory` in bytes and multiply-adds."""

    model: str
    size: list[int]
    fed: list[int]
    latent: list[int]
    steps: int
    memory: MemoryDocument
    time: EstimateDocument


@dataclass(frozen=True)
class PlanReport:
    """The plan of a run of `steps` steps on `fed` voxels: the size, padded."""

    request: PlanRequest
    entry: Entry
    fed: tuple[int, int, int]
    steps: int
    memory: RunPlan | MaskPlan
    time: EstimateDocument

    def as_dict(self) -> PlanDocument:
        return {
            "model": self.entry.name,
            "size": list(self.request.size),
            "fed": list(self.fed),
            "latent": [n // self.entry.stride for n in self.fed],
            "steps": self.steps,
            "memory": self.memory.as_dict(),
            "time": self.time,
        }


def plan(**words: Any) -> PlanReport:
    """How a volume of `size` voxels would be made within `max_memory_bytes`; see `PlanRequest`.

    Raises:
        UsageError: the words make no request, or the model is not one that a plan knows.
        MemoryBudgetError: it does not fit; its `minimum` is the smallest budget that works.
    """
    request = _request(words)
    entry = catalogue.entry(request.model)
    if entry.task == "mask-generator":
        return _of_masks(request, entry)
    guidance = entry.default_guidance if request.guidance is None else request.guidance
    cost = cost_of(Scales.of(entry.guides, guidance), masked=entry.task == "mask-to-ct")
    steps = request.steps or entry.default_steps
    fed = padded(request.size, entry.grid_multiple)
    job = Job(
        spec=preset(str(entry.network["spec"])),
        fed=fed,
        inner=request.size,
        asked=request.size,
        steps=steps,
        device=machine.device_kind(request.device),
        devices=len(split_devices(request.device)),
        precision=None if request.dtype == "auto" else request.dtype,
        guided=cost,
        masked=entry.task == "mask-to-ct",
        stage=None if request.stage == "all" else request.stage,
        budget_bytes=request.max_memory_bytes,
    )
    found = plan_run(job)
    rate = rate_of(job.device, machine.fast_bfloat16(job.device))
    time = estimate(found, rate, gpus(job.device, job.devices))
    return PlanReport(request, entry, fed, steps, found, time)


def known_models() -> tuple[str, ...]:
    """Every model of the catalogue that a plan can be made for; their weights need not be here."""
    return catalogue.names()


def _of_masks(request: PlanRequest, entry: Entry) -> PlanReport:
    if request.stage != "all":
        raise UsageError("a mask is planned as a whole", "leave out --stage")
    fed = padded(request.size, entry.grid_multiple)
    steps = request.steps or entry.default_steps
    job = MaskJob(
        fed,
        steps,
        device=machine.device_kind(request.device),
        precision=None if request.dtype == "auto" else request.dtype,
        budget_bytes=request.max_memory_bytes,
    )
    found = plan_mask(job)
    rate = rate_of(job.device, machine.fast_bfloat16(job.device))
    return PlanReport(request, entry, fed, steps, found, estimate(found, rate))


def _request(words: dict[str, Any]) -> PlanRequest:
    try:
        return PlanRequest(**words)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"{where}: {first['msg']}") from None
