"""What to do with each scan of a folder: a table that a person can edit (`cases.tsv`)."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from synthct.errors import InputError
from synthct.volume.dicom import Series, series_in
from synthct.workflows.pairs import SUFFIXES, stem

USES = ("train", "validation", "skip")
LABELLED = ("none", "complete", "partial")
COLUMNS = ("case", "subject", "use", "labels", "ids", "atlas", "reason")
MORE_COLUMNS = ("modality", "contrast", "skull_stripped")
HEAD = "head"
CONTRASTS = {"t1": "t1", "t1w": "t1", "t2": "t2", "t2w": "t2", "pd": "pd", "pdw": "pd",
             "flair": "flair", "swi": "swi", "mra": "mra", "angio": "mra"}  # fmt: skip
"""Names that say which MR contrast a file holds: `t1.nii.gz`, `sub-01_T1w.nii.gz`."""


@dataclass(frozen=True)
class CasePlan:
    """One scan and what becomes of it.

    Attributes:
        labels: none; complete (the file labels all that its scheme knows); partial (it labels some
            structures, and is drawn over pseudo-labels).
        ids: id in the file → MAISI id, for partial labels.
        scheme: of complete labels; `auto` where the file tells it.
        atlas: cases with complete labels to register, top first; (`head`,) for thresholds alone.
        reason: why it is skipped, or has no pair.
        modality: CT or MR.
        contrast: of MR, by the file's name or the table.
        skull_stripped: of MR, yes or no; empty: told from the image.
        series: the DICOM series that it is; `image` is then its folder.
    """

    case: str
    image: Path
    label_file: Path | None = None
    subject: str = ""
    use: str = "train"
    labels: str = "none"
    ids: Mapping[int, int] = field(default_factory=dict)
    scheme: str = "auto"
    atlas: tuple[str, ...] = ()
    reason: str = ""
    modality: str = "CT"
    contrast: str = ""
    skull_stripped: str = ""
    series: Series | None = None


def plan_cases(
    scans: Path,
    *,
    table: Path | None = None,
    excluded: frozenset[str] = frozenset(),
    scheme: str = "auto",
    modality: str = "auto",
    label_folder: Path | None = None,
) -> tuple[CasePlan, ...]:
    """Every scan under `scans`, in order of name, with what `table` says of it.

    A scan that the table does not name is trained on without labels; with labels beside it they
    count as complete, and are read as `scheme`. The column `ids` holds `1=23 3=12` for partial
    labels, the name of a scheme for complete ones. `excluded` cases and subjects are kept for
    validation. `modality` of all: CT, MR, or auto, which takes a file for MR where its name is that
    of a contrast.

    Raises:
        InputError: no scans; a table that names a case which is not there, or makes no sense;
            nothing left to train on, or nothing of what was to be kept for validation; with
            `label_folder`, a scan that has no labels there.
    """
    plans = {p.case: _of_modality(p, modality) for p in _found(scans)}
    plans = {case: replace(p, scheme=scheme) for case, p in plans.items()}
    if label_folder is not None:
        plans = _labelled(plans, label_folder)
    for row in _rows(table) if table else []:
        if row["case"] not in plans:
            raise InputError(f"{table}: no scan {row['case']!r} in {scans}", "correct the table")
        plans[row["case"]] = _told(plans[row["case"]], row)
    kept = tuple(_kept_apart(plans[case], excluded) for case in sorted(plans))
    _require_folds(kept, excluded)
    return kept


def _labelled(plans: Mapping[str, CasePlan], folder: Path) -> dict[str, CasePlan]:
    """Give each scan its labels: `CASE.nii.gz`, `CASE_dseg.nii.gz` or the folder `CASE` there."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder", "pass the folder of the labels")
    there = {_bare(path): path for path in sorted(folder.iterdir())}
    found, missing = {}, []
    for case, plan in plans.items():
        label_file = there.get(case, plan.label_file)
        if label_file is None and plan.use != "skip":
            missing.append(case)
        found[case] = replace(
            plan, label_file=label_file, labels="complete" if label_file else plan.labels
        )
    if missing:
        raise InputError(
            f"{len(missing)} of {len(plans)} scans have no labels in {folder}: "
            f"{', '.join(missing[:5])}",
            "labels are called CASE.nii.gz, CASE_dseg.nii.gz, or lie in a folder CASE",
        )
    return found


def _bare(path: Path) -> str:
    own = path.name if path.is_dir() else stem(path)
    return own.removesuffix("_dseg").removesuffix("_seg").removesuffix("_labels")


def _require_folds(plans: tuple[CasePlan, ...], excluded: frozenset[str]) -> None:
    """Refuse a split with nothing on one side."""
    uses = {plan.use for plan in plans}
    if "train" not in uses:
        reasons = sorted({plan.reason for plan in plans if plan.reason})
        raise InputError(
            f"none of {len(plans)} scans is left to train on: {'; '.join(reasons[:3])}",
            "exclude fewer",
        )
    if excluded and "validation" not in uses:
        raise InputError(
            f"none of the {len(excluded)} names to keep for validation is a case or subject here",
            f"cases here: {', '.join(plan.case for plan in plans[:5])}",
        )


def read_excluded(path: Path) -> frozenset[str]:
    """Cases or subjects, one a line; `#` begins a remark."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as text", "one case a line") from error
    return frozenset(name for line in lines if (name := line.partition("#")[0].strip()))


def _found(scans: Path) -> list[CasePlan]:
    if not scans.is_dir():
        raise InputError(f"{scans}: no such folder", "pass a folder of scans")
    plans: list[CasePlan] = []
    for folder in sorted({scans, *(p for p in scans.rglob("*") if p.is_dir())}):
        files = {stem(p): p for p in sorted(folder.iterdir()) if p.name.endswith(SUFFIXES)}
        for name, image in _images(files).items():
            labels = files.get("labels" if name == "image" else f"{name.removesuffix('_ct')}_dseg")
            case = _case_name(scans, folder, name)
            known = "complete" if labels else "none"
            contrast = contrast_of(name)
            subject = _person(scans, folder, name) if contrast else ""
            plans.append(
                CasePlan(
                    case,
                    image,
                    labels,
                    subject=subject or case,
                    labels=known,
                    modality="MR" if contrast else "CT",
                    contrast=contrast,
                )
            )
        plans += _dicom_plans(scans, folder)
    if not plans:
        raise InputError(
            f"no scans in {scans}",
            "accepted: CASE/image.nii.gz, X_ct.nii.gz, X_T1w.nii.gz, or folders of DICOM files",
        )
    return plans


def _dicom_plans(scans: Path, folder: Path) -> list[CasePlan]:
    """One plan a series of the DICOM files in `folder`; what is no volume is skipped, and why.

    Labels lie beside the files: `labels.nii.gz`, for the only series that is a volume.
    """
    if not any(_may_be_dicom(path) for path in folder.iterdir()):
        return []
    found = series_in(folder)
    labels = next(
        (p for p in sorted(folder.iterdir()) if stem(p) == "labels" and p != folder), None
    )
    volumes = [series for series in found if not series.reason]
    plans = []
    for position, series in enumerate(found, start=1):
        own = () if len(found) == 1 else (f"series-{series.number or position}-{position}",)
        case = "_".join((*folder.relative_to(scans).parts, *own)) or folder.resolve().name
        label_file = labels if [series] == volumes else None
        plans.append(
            CasePlan(
                case,
                folder,
                label_file,
                subject=series.subject or "_".join(folder.relative_to(scans).parts) or case,
                use="skip" if series.reason else "train",
                labels="complete" if label_file else "none",
                reason=series.reason,
                modality=series.modality if series.modality in ("CT", "MR") else "CT",
                contrast=series.contrast,
                series=series,
            )
        )
    return plans


def _may_be_dicom(path: Path) -> bool:
    """By the four letters that stand after the preamble."""
    if path.name.endswith(SUFFIXES) or not path.is_file():
        return False
    with open(path, "rb") as file:
        return file.read(132)[128:] == b"DICM"


def _person(scans: Path, folder: Path, name: str) -> str:
    """Whose head a file is that its contrast names: the folder's, or what stands before that."""
    return "_".join(folder.relative_to(scans).parts) or name.rpartition("_")[0]


def contrast_of(name: str) -> str:
    """The MR contrast that a file's name ends with; empty where it names none."""
    return CONTRASTS.get(name.lower().rpartition("_")[2], "")


def _of_modality(plan: CasePlan, modality: str) -> CasePlan:
    if modality == "auto" or plan.series is not None:
        return plan
    return replace(plan, modality=modality, contrast=plan.contrast if modality == "MR" else "")


def _images(files: Mapping[str, Path]) -> dict[str, Path]:
    """`image` alone where a folder has one; else all that are no labels."""
    if "image" in files:
        return {"image": files["image"]}
    return {n: p for n, p in files.items() if not n.endswith("_dseg") and n != "labels"}


def _case_name(scans: Path, folder: Path, name: str) -> str:
    inner = folder.relative_to(scans).parts
    own = () if name == "image" and inner else (name.removesuffix("_ct"),)
    return "_".join((*inner, *own))


def _rows(table: Path) -> list[dict[str, str]]:
    try:
        with open(table, encoding="utf-8", newline="") as file:
            lines = [line for line in file if not line.startswith("#")]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{table}: cannot be read as text") from error
    rows = list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))
    have = set(rows[0]) if rows else set()
    if not set(COLUMNS) <= have <= {*COLUMNS, *MORE_COLUMNS}:
        raise InputError(
            f"{table}: expected the columns {', '.join(COLUMNS)}, tab-separated",
            f"and where wished: {', '.join(MORE_COLUMNS)}",
        )
    return [{key: (value or "").strip() for key, value in row.items()} for row in rows]


def _told(plan: CasePlan, row: Mapping[str, str]) -> CasePlan:
    use, labels = row["use"] or plan.use, row["labels"] or plan.labels
    if use not in USES or labels not in LABELLED:
        raise InputError(
            f"{plan.case}: use {use!r}, labels {labels!r}",
            f"use: {', '.join(USES)}; labels: {', '.join(LABELLED)}",
        )
    if labels != "none" and plan.label_file is None:
        raise InputError(f"{plan.case}: {labels} labels, but no label file beside the scan")
    words = _mr_words(plan, row)
    return replace(
        plan,
        subject=row["subject"] or plan.subject,
        use=use,
        labels=labels,
        ids=_ids(plan.case, row["ids"]) if labels == "partial" else {},
        scheme=(row["ids"] if labels == "complete" else "") or plan.scheme,
        atlas=tuple(row["atlas"].split()),
        reason=row["reason"],
        modality=words["modality"],
        contrast=words["contrast"],
        skull_stripped=words["skull_stripped"],
    )


def _mr_words(plan: CasePlan, row: Mapping[str, str]) -> dict[str, str]:
    words = {name: row.get(name) or getattr(plan, name) for name in MORE_COLUMNS}
    if words["modality"] not in ("CT", "MR") or words["skull_stripped"] not in ("", "yes", "no"):
        raise InputError(
            f"{plan.case}: modality {words['modality']!r}, skull_stripped "
            f"{words['skull_stripped']!r}",
            "modality: CT, MR; skull_stripped: yes, no, or empty",
        )
    return words


def _ids(case: str, text: str) -> dict[int, int]:
    try:
        return {int(a): int(b) for a, b in (pair.split("=") for pair in text.split())}
    except ValueError as error:
        raise InputError(f"{case}: ids {text!r}; expected e.g. `1=23 3=12`") from error


def _kept_apart(plan: CasePlan, excluded: frozenset[str]) -> CasePlan:
    if plan.use == "train" and {plan.case, plan.subject} & excluded:
        return replace(plan, use="validation", reason=plan.reason or "never trained on")
    return plan
