"""What is known of a model before its weights are read: typed, frozen, without torch."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

EMBEDDED = "embedded"
IMPORTED = "imported"

Range = tuple[PositiveFloat, PositiveFloat]
Voxels = tuple[PositiveInt, PositiveInt, PositiveInt]
Millimetres = tuple[PositiveFloat, PositiveFloat, PositiveFloat]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Commit = Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
Region = Literal["head", "chest", "abdomen", "pelvis"]
Role = Literal["vae", "unet", "controlnet"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Files(_Frozen):
    """File names within the model's folder, by role."""

    vae: str = "vae.safetensors"
    unet: str = "unet.safetensors"
    controlnet: str | None = None

    def by_role(self) -> dict[str, str]:
        return {role: name for role, name in self.model_dump().items() if name is not None}


class HubFile(_Frozen):
    """A file of a repository on the hub.

    Where no `revision` and no `sha256` are known here, those of the first pull are recorded and
    held against ever after.
    """

    repo: Annotated[str, Field(pattern=r"^[\w.-]+/[\w.-]+$")]
    path: str
    revision: Commit | None = None
    sha256: Sha256 | None = None
    optional: bool = False
    """Fetched only when asked for: large, and not needed to load the model."""

    @property
    def name(self) -> str:
        return PurePosixPath(self.path).name

    @field_validator("path")
    @classmethod
    def _inside(cls, path: str) -> str:
        parts = PurePosixPath(path)
        if parts.is_absolute() or ".." in parts.parts or not parts.name:
            raise ValueError(f"{path!r} is no path inside a repository")
        return path


class Conditions(_Frozen):
    """What the networks can be told beside the mask."""

    spacing: bool = True
    region: bool = False
    modality_class: bool = False
    organ_sizes: bool = False


class Sizes(_Frozen):
    """Sides that the published model accepts, in voxels along x, y, z."""

    in_plane: tuple[PositiveInt, ...]
    slices: tuple[PositiveInt, ...]
    square: bool = True
    """x and y are the same."""


class FieldOfView(_Frozen):
    """One row of the published table: what the model saw much of, or what is recommended."""

    region: str
    contrast: str | None = None
    plane: Literal["axial", "sagittal", "coronal"] | None = None
    mm: Millimetres
    size: Voxels | None = None
    spacing_mm: Millimetres | None = None
    share_percent: PositiveFloat | None = None
    """Of the training images."""
    images: NonNegativeInt | None = None
    """Training images."""
    guaranteed: bool = True
    """False where the publisher saw too few scans to promise anything."""


class Entry(_Frozen):
    """One model: what it does, where its weights are, and which requests it can answer.

    Per-axis values are in the network's own order: R, A, S.
    """

    name: Name
    title: str
    task: Literal["mask-to-ct", "image-only", "mask-generator"] = "mask-to-ct"
    modality: Literal["CT", "MR"] = "CT"
    body_part: str
    family: str = "maisi"
    source: str = EMBEDDED
    """`embedded`, `imported`, or the repository on the hub (`owner/name`)."""
    base: str | None = None
    """The entry that an imported model is of."""
    licence: str
    licence_url: str = ""
    noncommercial: bool = False
    files: Files = Files()
    hub: dict[Role, HubFile] = {}
    """Published files by role, as they lie on the hub."""
    data: dict[str, HubFile] = {}
    """Further published files: tables, candidate masks."""
    sha256: dict[Role, Sha256] = {}
    spacing_range_mm: tuple[Range, Range, Range]
    stride: PositiveInt
    """Voxels of the image to one of the latent, along each axis."""
    grid_multiple: PositiveInt
    """The shape of the network's grid is a multiple of this."""
    shape_min: Voxels
    shape_max: Voxels
    sizes: Sizes | None = None
    """Only these shapes; any multiple where None."""
    fov_min_mm: Millimetres
    fov_max_mm: Millimetres
    fields_of_view: tuple[FieldOfView, ...] = ()
    default_steps: PositiveInt
    default_guidance: Annotated[float, Field(ge=0)] = 0.0
    guides: Literal["lesions", "modality", "mask"] = "lesions"
    """What guidance strengthens."""
    sampler: Literal["rflow", "ddpm", "ddim"]
    conditions: Conditions = Conditions()
    regions: tuple[Region, ...] = ()
    modality_code: NonNegativeInt | None = None
    """The network's modality class where no contrast is named."""
    contrasts: dict[str, NonNegativeInt] = {}
    """`--contrast` → the network's modality class."""
    skull_stripped: dict[str, NonNegativeInt] = {}
    """The same with `--skull-stripped`."""
    draws_mask: bool = False
    """Without a mask it follows one of a phantom, being too small to make a body of noise alone."""
    faces: bool = False
    """It was trained on heads with faces: previews of whole heads leave the face out."""
    network: dict[str, Any] = {}
    """Parameters of the networks, or `{"spec": NAME}` for a preset of the family."""

    @property
    def embedded(self) -> bool:
        return self.source == EMBEDDED

    @property
    def default_field_of_view(self) -> FieldOfView | None:
        """The row that most of the training was like."""
        rows = [row for row in self.fields_of_view if row.guaranteed]
        return max(rows, key=lambda row: (row.share_percent or 0, row.images or 0), default=None)

    @model_validator(mode="after")
    def _consistent(self) -> Entry:
        if any(low > high for low, high in self.spacing_range_mm):
            raise ValueError("spacing_range_mm: the finest spacing comes first")
        if self.grid_multiple % self.stride:
            raise ValueError("grid_multiple must be a multiple of stride")
        if any(a > b for a, b in zip(self.shape_min, self.shape_max, strict=True)):
            raise ValueError("shape_min exceeds shape_max")
        if any(a > b for a, b in zip(self.fov_min_mm, self.fov_max_mm, strict=True)):
            raise ValueError("fov_min_mm exceeds fov_max_mm")
        if self.hub and set(self.hub) != set(self.files.by_role()):
            raise ValueError("hub names other roles than files")
        unknown = set(self.skull_stripped) - set(self.contrasts)
        if unknown:
            raise ValueError(f"skull_stripped without a contrast: {', '.join(sorted(unknown))}")
        return self
