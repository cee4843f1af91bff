"""The options that `generate` and `check` share: declared once, with their defaults."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, TypeVar, get_type_hints

from synthct.cli.words import (
    BodyChoice,
    BodyMaskOption,
    BodyOption,
    ContrastOption,
    CtOption,
    DevicesOption,
    ForceOption,
    GridChoice,
    GridOption,
    GuidanceOption,
    LabelsOption,
    MaskGuidanceOption,
    MaskOption,
    MaxMemoryOption,
    ModalityGuidanceOption,
    ModelOption,
    PlaneOption,
    RegionOption,
    SizeOption,
    SkullStrippedOption,
    SpacingOption,
    TumorGuidanceOption,
    UnknownIds,
    UnknownOption,
    WeightsOption,
)

R = TypeVar("R")


@dataclass(frozen=True)
class CaseOptions:
    """What is asked for, as it stands on the command line."""

    mask: MaskOption = None
    spacing: SpacingOption = None
    grid: GridOption = GridChoice.asked
    region: RegionOption = None
    size: SizeOption = None
    contrast: ContrastOption = None
    skull_stripped: SkullStrippedOption = False
    plane: PlaneOption = None
    guidance: GuidanceOption = None
    tumor_guidance: TumorGuidanceOption = None
    modality_guidance: ModalityGuidanceOption = None
    mask_guidance: MaskGuidanceOption = None
    labels: LabelsOption = "auto"
    unknown: UnknownOption = UnknownIds.error
    body: BodyOption = BodyChoice.auto
    body_mask: BodyMaskOption = None
    ct: CtOption = None
    model: ModelOption = "maisi-mini-ct"
    weights: WeightsOption = None
    device: DevicesOption = "auto"
    max_memory: MaxMemoryOption = None
    force: ForceOption = False

    def words(self) -> dict[str, Any]:
        """The same as `Request` (workflows/request) takes them; the mask goes by itself."""
        from synthct.workflows.request import memory_bytes

        return {
            "spacing_mm": self.spacing,
            "grid": self.grid.value,
            "region": tuple(name.value for name in self.region or ()),
            "size": self.size,
            "contrast": self.contrast,
            "skull_stripped": self.skull_stripped,
            "plane": None if self.plane is None else self.plane.value,
            "guidance": self.guidance,
            "tumor_guidance": self.tumor_guidance,
            "modality_guidance": self.modality_guidance,
            "mask_guidance": self.mask_guidance,
            "labels": self.labels,
            "unknown": self.unknown.value,
            "body": self.body.value,
            "body_mask": self.body_mask,
            "ct": self.ct,
            "model": self.model,
            "weights": self.weights,
            "device": self.device,
            "max_memory_bytes": None if self.max_memory is None else memory_bytes(self.max_memory),
            "force": self.force,
        }


def takes_case_options(command: Callable[..., R]) -> Callable[..., R]:
    """Let Typer see the fields of `CaseOptions` as options of `command`, before its own.

    `command` takes the `CaseOptions` first and its own options by name.
    """
    hints = get_type_hints(CaseOptions, include_extras=True)
    keyword = inspect.Parameter.KEYWORD_ONLY
    shared = [
        inspect.Parameter(one.name, keyword, default=one.default, annotation=hints[one.name])
        for one in fields(CaseOptions)
    ]
    _, *own = inspect.signature(command, eval_str=True).parameters.values()
    parameters = [*shared, *(one.replace(kind=keyword) for one in own)]

    @functools.wraps(command)
    def spread(**options: Any) -> R:
        case = CaseOptions(**{name: options.pop(name) for name in hints if name in options})
        return command(case, **options)

    spread.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    spread.__annotations__ = {one.name: one.annotation for one in parameters}
    return spread
