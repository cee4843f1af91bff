"""What models exist: one typed entry per TOML file in `catalogue/`. No torch."""

from __future__ import annotations

import sys
from functools import cache
from importlib import resources
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, model_validator

from synthct.errors import UsageError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DEFAULT_MODEL = "maisi-mini-ct"
EMBEDDED = "embedded"

Range = tuple[PositiveFloat, PositiveFloat]
Voxels = tuple[PositiveInt, PositiveInt, PositiveInt]
Millimetres = tuple[PositiveFloat, PositiveFloat, PositiveFloat]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Region = Literal["head", "chest", "abdomen", "pelvis"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Files(_Frozen):
    """File names within the model's folder (or repository), by role."""

    vae: str
    unet: str
    controlnet: str | None = None

    def by_role(self) -> dict[str, str]:
        return {role: name for role, name in self.model_dump().items() if name is not None}


class Conditions(_Frozen):
    """What the networks can be told beside the mask."""

    spacing: bool = True
    region: bool = False
    modality_class: bool = False


class Entry(_Frozen):
    """One model: what it does, where its weights are, and which requests it can answer.

    Per-axis values are in the network's own order: R, A, S.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
    title: str
    task: Literal["mask-to-ct", "image-only", "mask-generator"] = "mask-to-ct"
    modality: Literal["CT", "MR"] = "CT"
    body_part: str
    family: str = "maisi"
    source: str = EMBEDDED
    """`embedded`, or the repository on the hub (`owner/name`)."""
    licence: str
    noncommercial: bool = False
    files: Files
    sha256: dict[Literal["vae", "unet", "controlnet"], Sha256] = {}
    spacing_range_mm: tuple[Range, Range, Range]
    stride: PositiveInt
    """Voxels of the image to one of the latent, along each axis."""
    grid_multiple: PositiveInt
    """The shape of the network's grid is a multiple of this."""
    shape_min: Voxels
    shape_max: Voxels
    fov_min_mm: Millimetres
    fov_max_mm: Millimetres
    default_steps: PositiveInt
    default_guidance: Annotated[float, Field(ge=0)] = 0.0
    sampler: Literal["rflow", "ddpm", "ddim"]
    conditions: Conditions = Conditions()
    regions: tuple[Region, ...] = ()
    network: dict[str, Any] = {}
    """Parameters of the networks, or `{"spec": NAME}` for a preset of the family."""

    @property
    def embedded(self) -> bool:
        return self.source == EMBEDDED

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
        return self


@cache
def entries() -> dict[str, Entry]:
    """Every model of the catalogue by name, the default first."""
    folder = resources.files("synthct.checkpoints") / "catalogue"
    found = [
        Entry.model_validate(tomllib.loads(file.read_text(encoding="utf-8")))
        for file in folder.iterdir()
        if file.name.endswith(".toml")
    ]
    found.sort(key=lambda entry: (entry.name != DEFAULT_MODEL, entry.name))
    return {entry.name: entry for entry in found}


def names() -> tuple[str, ...]:
    return tuple(entries())


def entry(name: str = DEFAULT_MODEL) -> Entry:
    """The entry called `name`.

    Raises:
        UsageError: there is none; the message lists those that exist.
    """
    try:
        return entries()[name]
    except KeyError:
        raise UsageError(
            f"unknown model {name!r}; the catalogue has: {', '.join(names())}",
            "see `synthct weights list`",
        ) from None
