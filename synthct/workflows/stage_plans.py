"""The plan of each stage of a run: sampling, decoding, finishing. No torch.

`streamed` says that the image goes slab by slab into a temporary file instead of memory.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from math import ceil, prod
from typing import Any, TypedDict

from synthct.errors import MemoryBudgetError
from synthct.models.maisi import plans
from synthct.models.maisi.footprint import (
    SamplingMemory,
    decoder_macs,
    quicker_together,
    sampling_memory,
)
from synthct.models.settings import Precision
from synthct.tiling.budget import Plan
from synthct.workflows import machine
from synthct.workflows.job import IMAGE_BYTES, Job, beside_decoding_bytes, resident_bytes

_FINISH_INNER = 12  # float32: decoded box, the same in HU, the whole grid
_FINISH_ASKED = 10  # float32 and int16 on the grid asked for, the work of resampling and QC
_FINISH_STREAMED_BYTES = 128 * 2**20  # histograms of QC, a slab that is compressed, the picture


class StageDocument(TypedDict):
    name: str
    precision: str
    peak_bytes: int
    minimum_bytes: int
    work_macs: int
    choice: str
    schedule: list[str]


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


@lru_cache(maxsize=64)
def minima(job: Job) -> dict[str, int]:
    """The smallest budget of the whole run that each stage works in, by stage."""
    found, streamed = {}, job.streamable
    if job.stage != "decode":
        found["sampling"] = min(_sampling(job, one).peak for one in sampling_options(job))
    if job.stage != "sample":
        options = decoding_options(job)
        found["decoding"] = min(_decode_minimum(job, one, streamed) for one in options)
    if job.stage is None:
        found["finishing"] = _finishing(job, streamed)
    resident = resident_bytes(job, streamed)
    beside = {"decoding": beside_decoding_bytes(job, streamed)}
    return {name: beside.get(name, resident) + amount for name, amount in found.items()}


def sampling_options(job: Job) -> tuple[Precision, ...]:
    """From the one that is preferred to the one that needs the least."""
    if job.precision is not None:
        return (job.precision,)
    if job.device == "mps":
        return ("float32",)
    if machine.fast_bfloat16(job.device):
        return ("bfloat16",)
    return ("float32", "bfloat16")


@lru_cache(maxsize=64)
def _sampling(job: Job, precision: Precision, together: bool = False) -> SamplingMemory:
    return sampling_memory(
        job.spec,
        job.fed,
        precision,
        guided=job.guided,
        together=together,
        masked=job.masked,
        device=job.device,
    )


def choose_sampling(job: Job, streamed: bool) -> SamplingMemory:
    """The preferred type that fits; the branches of guidance at once where that is quicker.

    Raises:
        MemoryBudgetError: none does.
    """
    resident, at_once = resident_bytes(job, streamed), quicker_together(job.guided, job.latent)
    ways = (True, False) if at_once else (False,)
    for option, together in product(sampling_options(job), ways):
        chosen = _sampling(job, option, together)
        if job.budget_bytes is None or resident + chosen.peak <= job.budget_bytes:
            return chosen
    least = resident + chosen.peak
    raise MemoryBudgetError(f"sampling needs {gib_up(least)} GiB", minimum=least)


def sampling_stage(job: Job, chosen: SamplingMemory, streamed: bool) -> StagePlan:
    resident, options = resident_bytes(job, streamed), sampling_options(job)
    why = f"sampling in {chosen.precision}"
    if chosen.precision != options[0]:
        why += f" ({options[0]} needs {gib_up(resident + _sampling(job, options[0]).peak)} GiB)"
    why += _branches_words(job, chosen, resident)
    rows = [_row(row.name, resident + row.peak_bytes, row.macs) for row in chosen.rows[1:]]
    if job.masked and job.spec.controlnet:
        once = _row("mask", resident + chosen.embedding, chosen.macs_once)
        rows.insert(0, f"{once}, once: label bits and embedding in tiles of {chosen.tile} voxels")
    return StagePlan(
        "sampling",
        chosen.precision,
        resident + chosen.peak,
        minima(job)["sampling"],
        chosen.macs_once + job.steps * chosen.macs_per_step,
        why,
        tuple(rows),
    )


def _branches_words(job: Job, chosen: SamplingMemory, resident: int) -> str:
    count = job.guided.branches
    if count == 1:
        return ""
    if chosen.together:
        return f", {count} branches of guidance at once"
    why = f", {count} branches of guidance one after the other"
    if not quicker_together(job.guided, job.latent):
        return why
    at_once = resident + _sampling(job, chosen.precision, True).peak
    return f"{why} (at once needs {gib_up(at_once)} GiB)"


def decoding_options(job: Job) -> tuple[Precision, ...]:
    """float32 wherever it fits: it is exact to rounding."""
    return ("float32", "bfloat16") if job.precision is None else (job.precision,)


def decode_words(job: Job, precision: Precision, streamed: bool) -> dict[str, Any]:
    """What `plans.decode_plan` is told beside shape and budget."""
    return {
        "dtype": precision,
        "device": job.device,
        "host_bytes": 0 if job.device == "cpu" else machine.host_room(),
        "spill_bytes": machine.spill_room(job.spill_folder),
        "streamed": streamed,
        "devices": job.devices,
    }


def _decode_minimum(job: Job, precision: Precision, streamed: bool) -> int:
    words = decode_words(job, precision, streamed)
    return plans.decode_minimum(job.spec.autoencoder, job.latent, **words)


def choose_decoding(job: Job, streamed: bool) -> Plan:
    """The first type that fits.

    Raises:
        MemoryBudgetError: none does.
    """
    *preferred, last = decoding_options(job)
    for precision in preferred:
        with suppress(MemoryBudgetError):
            return _decoding(job, precision, streamed)
    return _decoding(job, last, streamed)


def _decoding(job: Job, precision: Precision, streamed: bool) -> Plan:
    words = decode_words(job, precision, streamed)
    allowed = decoding_bytes(job, streamed)
    return plans.decode_plan(job.spec.autoencoder, job.latent, allowed, **words)


def decoding_bytes(job: Job, streamed: bool) -> int | None:
    """What the decoder may allocate, on each device."""
    if job.budget_bytes is None:
        return None
    return job.budget_bytes - beside_decoding_bytes(job, streamed)


def decoding_stage(job: Job, plan: Plan, streamed: bool) -> StagePlan:
    unsplit = decoder_macs(job.spec.autoencoder, job.latent)
    return StagePlan(
        "decoding",
        precision_of(plan),
        beside_decoding_bytes(job, streamed) + plan.peak_bytes,
        minima(job)["decoding"],
        int(plan.work * unsplit),
        f"decoding in {plan.summary}",
        tuple(plan.lines()),
    )


def precision_of(plan: Plan) -> Precision:
    return "bfloat16" if plan.dtype == "bfloat16" else "float32"


def finishing_stage(job: Job, streamed: bool) -> StagePlan:
    """Judging and writing. On a device of its own, that is host memory's matter."""
    peak = resident_bytes(job, streamed) + _finishing(job, streamed)
    if job.budget_bytes is not None and peak > job.budget_bytes:
        raise MemoryBudgetError(f"judging and writing need {gib_up(peak)} GiB", minimum=peak)
    file = IMAGE_BYTES * prod(job.inner)
    if streamed:
        why = f"the image streams into a temporary file ({gib_up(file)} GiB)"
        lines = [f"{why}, is judged there, then compressed"]
    else:
        why, lines = "", ["the image stays in memory, is judged there, then compressed"]
    if job.device != "cpu":
        lines.append(f"host memory  {host_bytes(job, streamed) / 2**30:.2f} GiB")
    return StagePlan("finishing", "float32", peak, minima(job)["finishing"], 0, why, tuple(lines))


def _finishing(job: Job, streamed: bool) -> int:
    """Decoded values in HU, on the grid asked for, judged and written."""
    return host_bytes(job, streamed) if job.device == "cpu" else 0


def host_bytes(job: Job, streamed: bool) -> int:
    """Host memory of finishing, beside what stays."""
    kept = _FINISH_INNER * prod(job.inner) + _FINISH_ASKED * prod(job.asked)
    return min(kept, _FINISH_STREAMED_BYTES) if streamed else kept


def asks_for_streaming(job: Job) -> bool:
    """Whether the host cannot hold the image of a device that has a memory of its own."""
    room = machine.host_room()
    return job.device != "cpu" and 0 < room < host_bytes(job, streamed=False)


def _row(name: str, peak_bytes: int, macs: int) -> str:
    return f"{name:<18} {peak_bytes / 2**30:7.2f} GiB {macs / 1e12:9.3f} T multiply-adds"


def gib(amount_bytes: int) -> str:
    return f"{amount_bytes / 2**30:.1f}"


def gib_up(amount_bytes: int) -> str:
    """Rounded up, so that what is said to work does."""
    return f"{ceil(amount_bytes / 2**30 * 10) / 10:.1f}"


def mib_up(amount_bytes: int) -> int:
    return -(-amount_bytes // 2**20)
