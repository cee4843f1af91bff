"""Ranges from a user's own real scans: `synthct qc fit REAL_DIR -o norms.toml`.

Per group of structures (all lobes of the lungs, all vertebrae, …) the medians of every structure
in every case are taken together. One that lies outside the built-in range and further than 6
robust standard deviations from the rest is left out: a mislabelled case must not widen a range,
while phases with and without contrast, far apart but each plausible, both stay. The range is
what remains, widened by a margin that shrinks with the number of cases. The margin does not
carry it past the built-in bound: only medians themselves do.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from synthct.errors import QualityError
from synthct.quality.checks import judge
from synthct.quality.norms import Bound, Group, Norms, load_norms
from synthct.volume.volume import LabelVolume, Volume

MIN_CASES = 3
OUTLIER_SIGMA = 6.0
MIN_SIGMA_HU = 5.0
METHOD = (
    "medians per structure, pooled per group over cases; those outside the built-in range and "
    "beyond 6 robust sigma (1.4826 MAD, at least 5 HU) left out; range = lowest to highest, "
    "widened on either side by sigma * (0.5 + 2 / sqrt(cases)), by the margin alone not past "
    "the built-in bound"
)


@dataclass(frozen=True)
class Fitted:
    """The range of one group, and from what it came."""

    low: float
    high: float
    cases: int
    medians: int
    left_out: int

    @property
    def source(self) -> str:
        out = f", {self.left_out} outliers left out" if self.left_out else ""
        return f"{self.medians} medians in {self.cases} cases{out}"


def fit(
    pairs: Iterable[tuple[Volume, LabelVolume]],
    *,
    base: Norms | None = None,
    min_cases: int = MIN_CASES,
) -> Norms:
    """Derive ranges from real volumes and their labels (MAISI ids).

    Groups seen in fewer than `min_cases` cases keep the range of `base` (default: the built-in
    one) with its source, so the result can be used alone.

    Args:
        pairs: image and labels of each case; read one at a time, so a generator saves memory.

    Raises:
        QualityError: fewer than `min_cases` cases, or no group seen in as many.
    """
    base = base or load_norms()
    medians: dict[str, list[tuple[int, float]]] = defaultdict(list)
    cases = 0
    for volume, labels in pairs:
        for group, value in _medians(volume, labels, base):
            medians[group].append((cases, value))
        cases += 1
    fitted = {
        name: _range(seen, _bounds(base, name))
        for name, seen in medians.items()
        if _distinct(seen) >= min_cases
    }
    if cases < min_cases or not fitted:
        raise QualityError(
            f"{cases} usable cases, and {len(fitted)} groups of organs seen in {min_cases} of them",
            f"give at least {min_cases} labelled scans that share organs",
        )
    return _with(base, fitted, cases)


def to_toml(norms: Norms) -> str:
    """The file that `load_norms` reads back."""
    lines = [
        f"title = {_text(norms.title)}",
        f"modality = {_text(norms.modality)}",
        f"min_voxels = {norms.min_voxels}",
        f"min_volume_mm3 = {norms.min_volume_mm3}",
    ]
    if norms.method:
        lines.append(f"method = {_text(norms.method)}")
    for group in norms.group:
        lines += ["", "[[group]]", *_group_lines(group)]
    return "\n".join(lines) + "\n"


def _medians(volume: Volume, labels: LabelVolume, base: Norms) -> list[tuple[str, float]]:
    """(group, median) of each structure that is large enough, whatever the verdict on it."""
    return [
        (finding.group, finding.value)
        for finding in judge(volume, labels, base).findings
        if finding.maisi_id is not None
        and finding.value is not None
        and finding.status != "not checked"
    ]


def _bounds(norms: Norms, name: str) -> tuple[float, float]:
    group = next(g for g in norms.group if g.name == name)
    if group.low is None or group.high is None:
        raise ValueError(f"group {name!r} is not judged")
    return group.low.hu, group.high.hu


def _distinct(seen: list[tuple[int, float]]) -> int:
    return len({case for case, _ in seen})


def _range(seen: list[tuple[int, float]], built_in: tuple[float, float]) -> Fitted:
    values = np.array([value for _, value in seen])
    centre = float(np.median(values))
    sigma = max(1.4826 * float(np.median(np.abs(values - centre))), MIN_SIGMA_HU)
    plausible = (values >= built_in[0]) & (values <= built_in[1])
    kept = values[plausible | (np.abs(values - centre) <= OUTLIER_SIGMA * sigma)]
    margin = sigma * (0.5 + 2 / _distinct(seen) ** 0.5)
    low, high = float(kept.min()) - margin, float(kept.max()) + margin
    if kept.min() >= built_in[0]:
        low = max(low, built_in[0])
    if kept.max() <= built_in[1]:
        high = min(high, built_in[1])
    return Fitted(
        low=round(low, 1),
        high=round(high, 1),
        cases=_distinct(seen),
        medians=len(kept),
        left_out=len(values) - len(kept),
    )


def _with(base: Norms, fitted: Mapping[str, Fitted], cases: int) -> Norms:
    groups = tuple(_fitted_group(g, fitted[g.name]) if g.name in fitted else g for g in base.group)
    return base.model_copy(
        update={
            "title": f"{base.modality}, fitted to {cases} real scans",
            "method": METHOD,
            "group": groups,
        }
    )


def _fitted_group(group: Group, fitted: Fitted) -> Group:
    low = Bound(hu=fitted.low, kind="fitted", source=fitted.source)
    high = Bound(hu=fitted.high, kind="fitted", source=fitted.source)
    return group.model_copy(update={"low": low, "high": high})


def _group_lines(group: Group) -> list[str]:
    lines = [f"name = {_text(group.name)}", f"ids = {list(group.ids)}"]
    lines += [f"{flag} = true" for flag in ("envelope", "may_hold_air") if getattr(group, flag)]
    if group.informational:
        lines.append(f"informational = {_text(group.informational)}")
    for name, bound in (("low", group.low), ("high", group.high)):
        if bound is not None:
            lines.append(
                f"{name} = {{ hu = {float(bound.hu)!r}, kind = {_text(bound.kind)}, "
                f"source = {_text(bound.source)} }}"
            )
    return lines


def _text(text: str) -> str:
    """A TOML basic string; JSON's escapes are among TOML's, but for DEL."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
