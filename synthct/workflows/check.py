"""The dry run of `generate`: everything that can be known before a network runs. No torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from synthct.checkpoints import catalogue, store
from synthct.checkpoints.catalogue import Entry
from synthct.checkpoints.store import Weights
from synthct.geometry import Geometry
from synthct.labels.groups import GUIDED_LESIONS
from synthct.models.headers import refuse_disguised, require_fitting
from synthct.models.maisi.spec import MaisiSpec, preset
from synthct.models.settings import split_devices
from synthct.workflows import machine
from synthct.workflows.grid import GridPlan, body_box, padded, plan_grid
from synthct.workflows.guidance import cost_of, scales
from synthct.workflows.inputs import mask_file
from synthct.workflows.mask import UnderstoodMask, describe, understand
from synthct.workflows.memory import Job, RunPlan, plan_run
from synthct.workflows.request import Request
from synthct.workflows.telling import Told, require_trained_grid, tell, view


@dataclass(frozen=True, eq=False)
class CheckReport:
    """What `generate` would do with the request."""

    request: Request
    entry: Entry
    mask: UnderstoodMask | None
    told: Told
    grid: GridPlan
    memory: RunPlan
    weights: Weights

    @property
    def regions(self) -> tuple[str, ...]:
        """That the networks are told."""
        return self.told.regions

    def as_dict(self) -> dict[str, object]:
        return {
            "mask": None if self.mask is None else self.mask.as_dict(),
            "regions": list(self.regions),
            "contrast": self.request.contrast,
            "modality_class": self.told.modality_class,
            "grid": {
                "asked": describe(self.grid.asked),
                "inner": describe(self.grid.inner),
                "notes": list(self.grid.notes),
            },
            "model": _limits(self.entry),
            "weights": {
                "folder": str(self.weights.folder),
                "files": {role: path.name for role, path in self.weights.files.items()},
            },
            "memory": self.memory.as_dict(),
        }


def check(mask: Any = None, **words: Any) -> CheckReport:
    """What would `generate` do with this mask and these words (those of `Request`)?

    Raises:
        UsageError: the words make no request, or the device is not there.
        InputError: `generate` would refuse the mask or the grid.
        MemoryBudgetError: it would not fit.
        WeightsError: the model's weights are not there, or damaged.
    """
    with mask_file(mask) as path:
        request = Request.of(mask=path, **words)
        machine.require_device(request.device)
        return check_request(request)


def check_request(request: Request, device: str | None = None) -> CheckReport:
    """The same for a request that is one already; `device`: the kind that torch has found."""
    entry = catalogue.entry(request.model)
    if request.mask is not None:
        tell(request, entry, ())  # words that do not fit, before a mask is read
    understood = _mask(request)
    told = tell(request, entry, None if understood is None else understood.regions)
    grid = _grid(request, entry, understood, told)
    weights = _weights(request, entry)
    return CheckReport(
        request=request,
        entry=entry,
        mask=understood,
        told=told,
        grid=grid,
        memory=_memory(_job(request, entry, understood, grid, device)),
        weights=weights,
    )


def spec_of(entry: Entry) -> MaisiSpec:
    """The parameters of the entry's networks."""
    return preset(str(entry.network["spec"]))


def _mask(request: Request) -> UnderstoodMask | None:
    if request.mask is None:
        return None
    return understand(
        request.mask,
        labels=request.labels,
        body=request.body,
        body_mask=request.body_mask,
        ct=request.ct,
        unknown=request.unknown,
    )


def _weights(request: Request, entry: Entry) -> Weights:
    """The files of the model: whole, harmless, and of its networks."""
    refuse_disguised(store.locate(entry, request.weights))
    weights = store.verify(entry, request.weights)
    require_fitting(entry, weights)
    return weights


def _grid(
    request: Request, entry: Entry, understood: UnderstoodMask | None, told: Told
) -> GridPlan:
    """Over the field of view: the mask's, or size × spacing."""
    notes: list[str] = []
    if understood is not None:
        source = understood.labels.geometry
    else:
        source = view(request, entry, told.row)
        notes = _view_notes(request, entry, told, source)
    spacing_mm = request.spacing_mm or source.spacing_mm
    plan = plan_grid(source, spacing_mm, entry, grid=request.grid, force=request.force)
    return replace(plan, notes=(*notes, *plan.notes))


def _view_notes(request: Request, entry: Entry, told: Told, source: Geometry) -> list[str]:
    notes = require_trained_grid(source, entry, request.force)
    if told.row is not None and (request.size is None or request.spacing_mm is None):
        size, pitch = (
            " x ".join(f"{v:.4g}" for v in values) for values in (source.shape, source.spacing_mm)
        )
        words = " ".join(w for w in (told.row.region, told.row.contrast, told.row.plane) if w)
        notes.append(f"published field of view ({words}): {size} voxels of {pitch} mm")
    if told.row is not None and not told.row.guaranteed:
        notes.append(f"{entry.name} saw few such scans: its publisher promises nothing for them")
    return notes


def _memory(job: Job) -> RunPlan:
    """The plan within the budget; without one, within what the machine has."""
    plan = plan_run(job)
    usable = machine.usable_memory(job.device)
    if usable is not None:
        usable //= job.devices  # of a CPU, which share its memory
    if job.budget_bytes is None and usable is not None and plan.peak_bytes > usable:
        return plan_run(replace(job, budget_bytes=usable))
    return plan


def _job(
    request: Request,
    entry: Entry,
    mask: UnderstoodMask | None,
    grid: GridPlan,
    device: str | None,
) -> Job:
    """What is to be planned: the box of the body on the network's grid, and what is written."""
    box = grid.inner.shape
    if mask is not None and entry.sizes is None:
        box = body_box(mask.labels, grid.inner)
    lesions = mask is not None and bool(set(GUIDED_LESIONS) & set(mask.labels.ids()))
    masked = mask is not None or (entry.draws_mask and request.size is not None)
    cost = cost_of(scales(request, entry), lesions, masked)
    return Job(
        spec=spec_of(entry),
        fed=padded(box, entry.grid_multiple),
        inner=grid.inner.shape,
        asked=grid.asked.shape,
        steps=getattr(request, "steps", None) or entry.default_steps,
        device=device or machine.device_kind(request.device),
        devices=len(split_devices(request.device)),
        guided=cost,
        masked=masked,
        budget_bytes=request.max_memory_bytes,
        spill_folder=getattr(request, "output", Path()),
        streamable=grid.inner.same_as(grid.asked.as_ras()),
        kept=getattr(request, "samples", 1) - 1 + (getattr(request, "retries", 0) > 0),
    )


def _limits(entry: Entry) -> dict[str, object]:
    return {
        "name": entry.name,
        "title": entry.title,
        "licence": entry.licence,
        "spacing_range_mm": [list(axis) for axis in entry.spacing_range_mm],
        "fov_min_mm": list(entry.fov_min_mm),
        "fov_max_mm": list(entry.fov_max_mm),
        "steps": entry.default_steps,
        "sampler": entry.sampler,
        "guidance": entry.default_guidance,
        "guides": entry.guides,
    }
