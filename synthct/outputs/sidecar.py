"""The record beside every synthetic volume, typed: written as JSON, read back strictly."""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from synthct.errors import InputError
from synthct.record import platform_summary, tool_version, versions

NOTICE = "SYNTHETIC: made by a generative model. Not a scan of a patient, not for diagnosis."
HU_CLIP = "HU lie in [-1000, 1000]: the model was trained on values clipped to this range"
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


def plain(value: Any) -> Any:
    """`value` as JSON can hold it: NumPy values as numbers, paths as text, NaN as null."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return str(value)


def now() -> str:
    """UTC, to the second, ISO 8601."""
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")


Json = Annotated[dict[str, Any], BeforeValidator(plain)]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelRecord(_Record):
    """Which networks made it, and on what terms."""

    name: str
    task: str
    modality: str
    source: str
    licence: str
    noncommercial: bool = False
    weights_sha256: dict[str, Sha256]


class SamplingRecord(_Record):
    """How it was sampled. `attempt` counts from 0; [seed, attempt] makes the noise."""

    seed: int
    attempt: int = 0
    steps: int
    sampler: str
    guidance: float
    time_steps: Literal["exact", "reference"] = "exact"
    device: str
    precision: str = "float32"
    conditions: Json = {}


class MaskRecord(_Record):
    """The mask that came in: its name (no folder: records travel), its hash, how it was read."""

    file: str
    sha256: Sha256
    scheme: str
    reason: str = ""
    body: str = ""
    remap: Json = {}
    lost: list[int] = []
    """Ids that no voxel of the output grid holds."""


class GridRecord(_Record):
    """The grid written, and the network's own grid inside (R, A, S)."""

    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    orientation: str
    affine: list[list[float]]
    inner_shape: tuple[int, int, int]
    inner_spacing_mm: tuple[float, float, float]
    resampled: bool


class LabelOut(_Record):
    """Whose ids stand in the label file: the model's (`maisi`), or those that came in."""

    asked: Literal["model", "input"] = "model"
    scheme: str = "maisi"


class FileRecord(_Record):
    name: str
    sha256: Sha256
    bytes: int


class Sidecar(_Record):
    """Everything that made one case. `files` is filled in when the case is written."""

    synthetic: Literal[True] = True
    notice: str = NOTICE
    format: Literal["synthct-sidecar-1"] = "synthct-sidecar-1"
    tool_version: str = Field(default_factory=tool_version)
    created: str = Field(default_factory=now)
    model: ModelRecord
    sampling: SamplingRecord
    mask: MaskRecord | None = None
    label_out: LabelOut = LabelOut()
    grid: GridRecord
    hu_range: tuple[float, float] | None = (-1000.0, 1000.0)
    hu_statement: str = HU_CLIP
    qc: Json = {}
    notes: list[str] = []
    request: Json = {}
    request_sha256: Sha256
    versions: dict[str, str] = Field(default_factory=versions)
    platform: dict[str, str] = Field(default_factory=platform_summary)
    seconds: dict[str, float] = {}
    files: dict[str, FileRecord] = {}

    def description(self, *, labels: bool = False) -> str:
        """For a NIfTI header (`descrip`, 79 bytes): begins `SYNTHETIC`."""
        what = " labels" if labels else ""
        text = f"SYNTHETIC{what} synthct {self.tool_version} {self.model.name}"
        return f"{text} seed {self.sampling.seed} try {self.sampling.attempt}"[:79]


class CaseSummary(_Record):
    """One line of `run.json` about a case."""

    case: str
    seed: int
    attempt: int = 0
    status: Literal["passed", "rejected", "failed", "kept"]
    """`kept`: whole from an earlier run, by `--resume`."""
    message: str = ""
    folder: str = "."
    files: dict[str, str] = {}


class RunRecord(_Record):
    """`run.json`: one run, and under `earlier` those that went to the same folder before."""

    synthetic: Literal[True] = True
    notice: str = NOTICE
    format: Literal["synthct-run-1"] = "synthct-run-1"
    tool_version: str = Field(default_factory=tool_version)
    started: str
    finished: str = Field(default_factory=now)
    exit_code: int
    request: Json = {}
    request_sha256: Sha256
    model: ModelRecord | None = None
    cases: list[CaseSummary] = []
    notes: list[str] = []
    versions: dict[str, str] = Field(default_factory=versions)
    platform: dict[str, str] = Field(default_factory=platform_summary)
    seconds: dict[str, float] = {}
    earlier: list[Json] = []


RecordT = TypeVar("RecordT", Sidecar, RunRecord)


def to_json(record: Sidecar | RunRecord) -> str:
    return record.model_dump_json(indent=2) + "\n"


def read_record(path: Path, kind: type[RecordT]) -> RecordT:
    """Read back what `to_json` wrote.

    Raises:
        InputError: no such file, or not a record of this kind.
    """
    try:
        return kind.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise InputError(f"{path}: no such file", "check the path") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the document"
        raise InputError(
            f"{path} is no record of synthct: {where}: {first['msg']}",
            "only what synthct wrote can be read back",
        ) from None


def read_sidecar(path: Path) -> Sidecar:
    return read_record(path, Sidecar)
