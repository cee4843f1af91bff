"""The contract of a metric: a study goes in, named numbers with their protocol come out.

A metric is a frozen dataclass with its options as fields. It is listed in `registry.py`; the
workflow asks its `needs` before anything is computed, hands it the study, and writes the report.

>>> needs = Needs(real=3, synthetic=3)
>>> needs.warn_below
30
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

from synthct.evaluation.cache import FeatureCache
from synthct.evaluation.case import Case, Role
from synthct.geometry import Spacing

Better = Literal["lower", "higher", "closer", ""]
"""How to read a number: small, large, or close to its value on real data is good; "": neither."""


class Advance(Protocol):
    def __call__(self, n: int = 1) -> None: ...


class Progress(Protocol):
    """Whoever listens; `workflows.progress` has them."""

    def stage(self, name: str, total: int | None = None) -> AbstractContextManager[Advance]: ...

    def say(self, line: str) -> None: ...


@dataclass(frozen=True)
class Needs:
    """What a metric must have. Too few cases refuse (exit 3), fewer than `warn_below` warn.

    `real` and `synthetic` are the smallest numbers of cases that define the metric at all.
    """

    real: int = 1
    synthetic: int = 1
    training: int = 0
    real_labels: bool = False
    synthetic_labels: bool = False
    warn_below: int = 30


@dataclass(frozen=True)
class Study:
    """What is compared: `real` against `synthetic`, and what the model was `training` on if known.

    Case names are unique within a role. `cache` keeps what is slow to compute, so that an
    interrupted run goes on; `seed` is that of every random choice.
    """

    real: tuple[Case, ...]
    synthetic: tuple[Case, ...]
    training: tuple[Case, ...] = ()
    seed: int = 0
    cache: FeatureCache = field(default_factory=FeatureCache)

    def of(self, role: Role) -> tuple[Case, ...]:
        return {"real": self.real, "synthetic": self.synthetic, "training": self.training}[role]

    def n(self) -> dict[str, int]:
        """Cases per role that has any."""
        counts = {role: len(self.of(role)) for role in ("real", "synthetic", "training")}
        return {role: count for role, count in counts.items() if count}


@dataclass(frozen=True)
class Interval:
    """A confidence interval, and how it was found."""

    low: float
    high: float
    level: float = 0.95
    method: str = "percentile bootstrap over cases"
    resamples: int = 0


@dataclass(frozen=True)
class Conditions:
    """The protocol of one number: whatever another must share to be comparable.

    Attributes:
        variant: which of the definitions in the literature, by name.
        spacing_mm: the grid that cases were resampled to; None: as stored.
        planes: axial, coronal, sagittal; empty where the metric works on volumes.
        slices: which ones, in words.
        window: the lower and upper scanner unit of the network's range.
        extractor, extractor_sha256: the feature network and its file.
        seed: of every random choice; None where there is none.
        more: what else matters (kernel, bandwidth, thresholds, convention for empty classes).
    """

    variant: str
    spacing_mm: Spacing | None = None
    planes: tuple[str, ...] = ()
    slices: str = ""
    window: tuple[float, float] | None = None
    extractor: str = ""
    extractor_sha256: str = ""
    seed: int | None = None
    more: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Number:
    """One figure of a report.

    `name` is unique within its metric (`axial`, `liver/dice`); `value` None: not defined here,
    and `why` says so. `n` counts what it was computed from (cases, slices, pairs). `cases` names
    them by role where they are not all of the study.
    """

    name: str
    value: float | None
    conditions: Conditions
    n: Mapping[str, int]
    unit: str = ""
    better: Better = ""
    interval: Interval | None = None
    why: str = ""
    cases: Mapping[Role, tuple[str, ...]] | None = None


@dataclass(frozen=True)
class Row:
    """What one case had, for distributions and worst cases.

    Rows with a `group` (an organ) are drawn as distributions, real beside synthetic, for every
    key of `values`. `badness` orders the worst cases (larger is worse; None: not ranked).
    """

    case: str
    role: Role
    values: Mapping[str, float | None]
    group: str = ""
    badness: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Figure:
    """A picture for the page: PNG bytes, a title, a sentence that tells what is seen."""

    title: str
    png: bytes
    caption: str = ""


@dataclass(frozen=True)
class Result:
    """What a metric found. `warnings` are sentences for the user."""

    numbers: tuple[Number, ...]
    rows: tuple[Row, ...] = ()
    warnings: tuple[str, ...] = ()
    figures: tuple[Figure, ...] = ()


class Metric(Protocol):
    """One metric with its options. `name` is the word on the command line."""

    @property
    def name(self) -> str: ...

    @property
    def title(self) -> str: ...

    @property
    def needs(self) -> Needs: ...

    def measure(self, study: Study, progress: Progress) -> Result:
        """Compute it. May raise InputError; pure but for the study's cache."""
        ...


@runtime_checkable
class Prepares(Protocol):
    """A metric whose slow part is done case by case, and kept in the study's cache.

    The workflow calls `prepare` for each case first, under torchrun for a part of them in each
    process; `measure` then finds all of it done.
    """

    def roles(self) -> tuple[Role, ...]:
        """Whose cases it prepares."""
        ...

    def prepare(self, case: Case, study: Study) -> None: ...


@dataclass(frozen=True)
class Settings:
    """What the command line chose, for all metrics; a metric takes what concerns it.

    Attributes:
        features: `mini-slices`, or the file of a feature network.
        feature_options: what its file does not tell (input channels, range, layout), KEY=VALUE.
        spacing_mm: grid of slices for features; None here and below: as the network was made for.
        share: centred share of the slices of each plane.
        side: slices are padded and cropped to this many pixels.
        padded: whether the share is one of `side` planes, empty ones included.
        batch: slices at once through the feature network.
        device: where networks run.
        resamples: of the bootstrap; 0: no intervals; None: 200, fewer for wide features.
        segmenter: `totalsegmentator`, `monai-bundle:NAME`, a file; None: no re-segmentation.
        seed: of every random choice.
        options: `METRIC.KEY` → value, for what one metric alone knows.
    """

    features: str = "mini-slices"
    feature_options: Mapping[str, str] = field(default_factory=dict)
    spacing_mm: float | None = None
    share: float | None = None
    side: int | None = None
    padded: bool | None = None
    batch: int = 16
    device: str = "cpu"
    resamples: int | None = None
    segmenter: str | None = None
    seed: int = 0
    options: Mapping[str, str] = field(default_factory=dict)


def number_as_dict(number: Number) -> dict[str, Any]:
    """JSON-able, without what is empty."""
    known = asdict(number)
    known["conditions"] = {k: v for k, v in known["conditions"].items() if v not in (None, "", ())}
    return {k: v for k, v in known.items() if k == "value" or v not in (None, "")}


def worst(rows: Sequence[Row], count: int = 5) -> list[Row]:
    """The rows that rank worst, worst first."""
    ranked = [row for row in rows if row.badness is not None]
    return sorted(ranked, key=lambda row: -(row.badness or 0.0))[:count]


__all__ = [
    "Advance",
    "Better",
    "Case",
    "Conditions",
    "FeatureCache",
    "Figure",
    "Interval",
    "Metric",
    "Needs",
    "Number",
    "Prepares",
    "Progress",
    "Result",
    "Role",
    "Row",
    "Settings",
    "Study",
    "number_as_dict",
    "worst",
]
