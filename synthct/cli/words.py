"""Options that several commands share, so that a word means the same everywhere."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer


class UnknownIds(str, Enum):
    """What becomes of ids that the scheme does not know."""

    error = "error"
    body = "body"
    drop = "drop"


class BodyChoice(str, Enum):
    """Whether a mask without a body envelope gets one from its labels."""

    auto = "auto"
    none = "none"


class GridChoice(str, Enum):
    """The grid of what is written: as asked, or that of the mask."""

    asked = "asked"
    input = "input"


class RegionName(str, Enum):
    """The parts of the body that a model can be told."""

    head = "head"
    chest = "chest"
    abdomen = "abdomen"
    pelvis = "pelvis"
    brain = "brain"
    breast = "breast"
    prostate = "prostate"


class PlaneName(str, Enum):
    """Of acquisition."""

    axial = "axial"
    sagittal = "sagittal"
    coronal = "coronal"


LabelsOption = Annotated[
    str,
    typer.Option(
        "--labels",
        metavar="SCHEME",
        help="Scheme of the label ids: auto, a name (totalsegmentator, maisi, …), "
        "or FILE.toml, FILE.json, dataset.json.",
    ),
]
UnknownOption = Annotated[
    UnknownIds,
    typer.Option(
        "--unknown", help="Ids that the scheme does not know: refuse, make body, or drop."
    ),
]
BodyOption = Annotated[
    BodyChoice,
    typer.Option("--body", help="Complete a missing body envelope from the labels, or not."),
]
BodyMaskOption = Annotated[
    Path | None,
    typer.Option("--body-mask", metavar="FILE", help="A mask of the body: every voxel above 0."),
]
CtOption = Annotated[
    Path | None,
    typer.Option("--ct", metavar="FILE", help="A CT of the same patient, to take the body from."),
]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")]
MaskOption = Annotated[
    Path | None,
    typer.Option("--mask", metavar="FILE", help="NIfTI, NRRD, MHA, or a folder of organ files."),
]
SpacingOption = Annotated[
    tuple[float, float, float] | None,
    typer.Option(
        "--spacing",
        metavar="I J K",
        help="Voxel size in mm along the mask's own axes; default: the mask's, or as published.",
    ),
]
SizeOption = Annotated[
    tuple[int, int, int] | None,
    typer.Option(
        "--size", metavar="I J K", help="Voxels; only without a mask. Default: as published."
    ),
]
ContrastOption = Annotated[
    str | None,
    typer.Option(
        "--contrast", metavar="WORD", help="CT: none, enhanced. MR: t1, t2, flair, swi, mra."
    ),
]
SkullStrippedOption = Annotated[
    bool, typer.Option("--skull-stripped", help="A brain without its skull (maisi-mr-brain-rflow).")
]
PlaneOption = Annotated[
    PlaneName | None,
    typer.Option("--plane", help="Which published field of view; default: the first."),
]
RegionOption = Annotated[
    list[RegionName] | None,
    typer.Option(
        "--region",
        metavar="WORD...",
        help="head, chest, abdomen, pelvis (MR: brain, breast, abdomen, prostate); one or more.",
    ),
]
GridOption = Annotated[
    GridChoice,
    typer.Option("--grid", help="Write on the grid asked for, or on the mask's own."),
]
ModelOption = Annotated[
    str, typer.Option("--model", metavar="NAME", help="A model of `synthct weights list`.")
]
WeightsOption = Annotated[
    Path | None, typer.Option("--weights", metavar="DIR", help="Weights from this folder.")
]
DeviceOption = Annotated[
    str, typer.Option("--device", metavar="NAME", help="auto, cpu, cuda, cuda:N or mps.")
]
DevicesOption = Annotated[
    str,
    typer.Option(
        "--device",
        metavar="NAME",
        help="auto, cpu, cuda, cuda:N or mps; cuda:0,cuda:1: they share the decoding.",
    ),
]
MaxMemoryOption = Annotated[
    str | None,
    typer.Option("--max-memory", metavar="SIZE", help="Bound on the memory, e.g. 16G (GiB)."),
]
GuidanceOption = Annotated[
    float | None,
    typer.Option(
        "--guidance",
        min=0.0,
        help="Scale of what the model's own is for (mask for maisi-mini-ct, lesions or contrast).",
    ),
]
TumorGuidanceOption = Annotated[
    float | None,
    typer.Option(
        "--tumor-guidance",
        min=0.0,
        help="Push the lesions, beside a mask's scale as a factor; 0 and 1: off.",
    ),
]
ModalityGuidanceOption = Annotated[
    float | None,
    typer.Option("--modality-guidance", min=0.0, help="Push the contrast; 0 and 1: off."),
]
MaskGuidanceOption = Annotated[
    float | None,
    typer.Option("--mask-guidance", min=0.0, help="Push the whole mask; 0 and 1: off."),
]
ForceOption = Annotated[
    bool, typer.Option("--force", help="Go on outside the model's field of view.")
]
