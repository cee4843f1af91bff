"""The ranges a CT is judged by: data with a source for every bound (`norms/*.toml`)."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from synthct.errors import InputError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

BUILT_IN = Path(__file__).with_name("norms") / "ct.toml"

Kind = Literal["published", "literature", "rule", "fitted"]
MaisiId = Annotated[int, Field(ge=1, le=255)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Bound(_Frozen):
    """One end of a range in HU, and where it comes from."""

    hu: float
    kind: Kind
    source: Annotated[str, Field(min_length=1)]


class Group(_Frozen):
    """Structures that share a range for their median.

    `informational`: why no median of this group is judged (then there are no bounds).
    `envelope`: the body envelope, which alone does not make a volume checked.
    `may_hold_air`: left out where the share of tissue is taken.
    """

    name: Annotated[str, Field(min_length=1)]
    ids: Annotated[tuple[MaisiId, ...], Field(min_length=1)]
    low: Bound | None = None
    high: Bound | None = None
    informational: str = ""
    envelope: bool = False
    may_hold_air: bool = False

    @model_validator(mode="after")
    def _bounds_or_reason(self) -> Group:
        if self.informational:
            return self
        if self.low is None or self.high is None:
            raise ValueError(f"group '{self.name}' needs both low and high, or informational")
        if self.low.hu >= self.high.hu:
            raise ValueError(f"group '{self.name}': low {self.low.hu} is not below {self.high.hu}")
        return self


class Norms(_Frozen):
    """A set of ranges. Groups do not overlap: an id belongs to one group."""

    title: str
    modality: str = "CT"
    min_voxels: Annotated[int, Field(ge=1)] = 20
    min_volume_mm3: Annotated[float, Field(ge=0)] = 160.0
    method: str = ""
    group: Annotated[tuple[Group, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _one_group_per_id(self) -> Norms:
        seen: dict[int, str] = {}
        for one in self.group:
            for id_ in one.ids:
                if id_ in seen:
                    raise ValueError(f"id {id_} stands in '{seen[id_]}' and in '{one.name}'")
                seen[id_] = one.name
        return self

    def group_of(self, maisi_id: int) -> Group | None:
        return next((g for g in self.group if maisi_id in g.ids), None)

    def ids(self) -> Iterator[int]:
        for one in self.group:
            yield from one.ids


def load_norms(path: Path | str | None = None) -> Norms:
    """The built-in ranges, or those of a TOML file of the same form.

    Raises:
        InputError: no such file, not TOML, or not of the form of `norms/ct.toml`.
    """
    return _built_in() if path is None else _read(Path(path))


@lru_cache(maxsize=1)
def _built_in() -> Norms:
    return _read(BUILT_IN)


def _read(path: Path) -> Norms:
    hint = "make one with `synthct qc fit REAL_DIR -o norms.toml`"
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
        return Norms.model_validate(data)
    except OSError as error:
        raise InputError(f"norms {path} cannot be read: {error.strerror}", hint) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "file"
        raise InputError(f"norms {path}, {where}: {first['msg']}", hint) from error
    except ValueError as error:  # not UTF-8, or TOMLDecodeError
        raise InputError(f"norms {path} is not TOML: {error}", hint) from error
