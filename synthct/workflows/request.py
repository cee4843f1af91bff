"""What is asked for: the words that `generate` and `check` share, typed and checked. No torch."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveInt,
    ValidationError,
    model_validator,
)

from synthct.checkpoints.catalogue import DEFAULT_MODEL, Region
from synthct.errors import UsageError
from synthct.models.settings import SEVERAL

Millimetre = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Scale = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Spacing = tuple[Millimetre, Millimetre, Millimetre]
Size = tuple[PositiveInt, PositiveInt, PositiveInt]
MrRegion = Literal["brain", "breast", "prostate"]

_DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d+)?")
_MEMORY = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*([KMGT])(?:i?B)?\s*$", re.IGNORECASE)
_POWER = {"K": 1, "M": 2, "G": 3, "T": 4}

R = TypeVar("R", bound="Request")


class Request(BaseModel):
    """One case: a mask, or a field of view without one, and how it is to be answered."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    mask: Path | None = None
    spacing_mm: Spacing | None = None
    size: Size | None = None
    """Voxels i, j, k; only without a mask."""
    region: tuple[Region | MrRegion, ...] = ()
    contrast: str | None = None
    """As the model names it: none, enhanced (CT); t1, t2, flair, swi, mra (MR)."""
    skull_stripped: bool = False
    guidance: Scale | None = None
    """Of what the model's own is for."""
    tumor_guidance: Scale | None = None
    modality_guidance: Scale | None = None
    mask_guidance: Scale | None = None
    plane: Literal["axial", "sagittal", "coronal"] | None = None
    """Of acquisition: which published field of view, without a mask."""
    grid: Literal["asked", "input"] = "asked"
    labels: str = "auto"
    unknown: Literal["error", "body", "drop"] = "error"
    body: Literal["auto", "none"] = "auto"
    body_mask: Path | None = None
    ct: Path | None = None
    model: str = DEFAULT_MODEL
    weights: Path | None = None
    device: str = "auto"
    max_memory_bytes: PositiveInt | None = None
    force: bool = False

    @classmethod
    def of(cls: type[R], **words: Any) -> R:
        """The request in these words.

        Raises:
            UsageError: a word that does not exist, or a value that cannot be.
        """
        try:
            return cls(**words)
        except ValidationError as error:
            raise UsageError(_complaint(error)) from None

    @model_validator(mode="after")
    def _device(self) -> Request:
        if not (_DEVICE.fullmatch(self.device) or SEVERAL.fullmatch(self.device)):
            raise ValueError(
                f"{self.device!r} is none of auto, cpu, cuda, cuda:N, mps, and no list of several "
                "of them (cuda:0,cuda:1)"
            )
        return self

    @model_validator(mode="after")
    def _mask_or_size(self) -> Request:
        if self.mask is not None and self.size is not None:
            raise ValueError("the field of view is the mask's: give a mask or a size, not both")
        return self

    @model_validator(mode="after")
    def _words_about_a_mask(self) -> Request:
        named = {
            "labels": self.labels != "auto",
            "unknown": self.unknown != "error",
            "body": self.body != "auto",
            "body_mask": self.body_mask is not None,
            "ct": self.ct is not None,
            "grid input": self.grid == "input",
        }
        said = [word for word, given in named.items() if given]
        if self.mask is None and said:
            raise ValueError(f"without a mask there is nothing for {', '.join(said)} to speak of")
        return self


def _complaint(error: ValidationError) -> str:
    """The first thing that is wrong, with the value that was given."""
    first = error.errors()[0]
    message = str(first["msg"]).removeprefix("Value error, ")
    word = str(first["loc"][0]).removesuffix("_mm") if first["loc"] else ""
    if not word:
        return message
    if first["type"] == "extra_forbidden":
        return f"there is no word {word!r} in a request"
    return f"{word} {first['input']!r}: {message[:1].lower()}{message[1:]}"


def memory_bytes(text: str) -> int:
    """`16G` → bytes; K, M, G and T are powers of 1024.

    Raises:
        UsageError: no number with such a unit.
    """
    match = _MEMORY.match(text)
    if match is None or float(match[1]) == 0:
        raise UsageError(f"no amount of memory: {text!r}; accepted: 16G, 1.5G, 800M")
    return int(float(match[1]) * 1024 ** _POWER[match[2].upper()])
