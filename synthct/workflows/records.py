"""What a run writes down about itself: model, mask and grid, as the sidecar holds them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from synthct.checkpoints.catalogue import Entry
from synthct.checkpoints.store import Weights
from synthct.models.settings import Sampling
from synthct.outputs.sidecar import GridRecord, MaskRecord, ModelRecord, SamplingRecord
from synthct.record import sha256_of
from synthct.workflows.grid import GridPlan
from synthct.workflows.mask import UnderstoodMask
from synthct.workflows.request import Request
from synthct.workflows.telling import Told


def model_record(entry: Entry, weights: Weights) -> ModelRecord:
    return ModelRecord(
        name=entry.name,
        task=entry.task,
        modality=entry.modality,
        source=entry.source,
        licence=entry.licence,
        noncommercial=entry.noncommercial,
        weights_sha256=weights.sha256(),
    )


def mask_record(
    mask: UnderstoodMask | None, path: Path | None, lost: tuple[int, ...]
) -> MaskRecord | None:
    """How the mask in the file `path` was read, and which of its ids are `lost` on the grid."""
    if mask is None or path is None:
        return None
    return MaskRecord(
        file=path.name,
        sha256=sha256_of(path),
        scheme=mask.scheme.name,
        reason=mask.reason,
        body=mask.body_source,
        remap=mask.report.as_dict(),
        lost=list(lost),
    )


def grid_record(grid: GridPlan) -> GridRecord:
    asked, inner = grid.asked, grid.inner
    return GridRecord(
        shape=asked.shape,
        spacing_mm=asked.spacing_mm,
        orientation=asked.orientation,
        affine=asked.affine.tolist(),
        inner_shape=inner.shape,
        inner_spacing_mm=inner.spacing_mm,
        resampled=grid.resampled,
    )


def sampling_record(
    sampling: Sampling, told: Told, request: Request, device: str
) -> SamplingRecord:
    """How it was sampled. `guidance` is the largest scale; each stands among the conditions."""
    assert sampling.execution is not None
    return SamplingRecord(
        seed=sampling.seed,
        attempt=sampling.attempt,
        steps=sampling.steps,
        sampler=sampling.sampler,
        guidance=max(sampling.tumor_guidance, sampling.modality_guidance, sampling.mask_guidance),
        time_steps="reference" if sampling.reference_times else "exact",
        device=device,
        precision=sampling.execution.sampling,
        conditions={
            "regions": list(told.regions),
            "contrast": request.contrast,
            "skull_stripped": request.skull_stripped,
            "modality_class": told.modality_class,
            "tumor_guidance": sampling.tumor_guidance,
            "modality_guidance": sampling.modality_guidance,
            "mask_guidance": sampling.mask_guidance,
            "compiled": sampling.compile,
        },
    )


def units_record(entry: Entry) -> dict[str, Any]:
    """What the sidecar says about the intensities: HU are its default."""
    if entry.modality == "CT":
        return {}
    return {"hu_range": None, "hu_statement": "MR intensities have no unit: 0 is air, 1000 bright"}
