"""A folder of scans → arrays to train on, with a manifest: images, pairs, phantoms.

The dataset folder: `images/` (training scans), `validation/` (never trained on, with MAISI labels
where the scan has complete ones), `pairs/` (scans and phantoms with MAISI labels), `manifest.tsv`.
Each entry is whole or absent; a run that was stopped goes on where it stood.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from synthct.errors import InputError
from synthct.geometry import Geometry, Spacing
from synthct.labels.groups import regions_present
from synthct.labels.pseudo import BRAIN, PseudoLabels, label_head, pseudo_labels
from synthct.labels.remap import ids_present
from synthct.record import sha256_of
from synthct.volume.atlas import Atlas, fuse, transfer
from synthct.volume.manifest import (
    FILE_NAME,
    IMAGES,
    PAIRS,
    VALIDATION,
    Manifest,
    Row,
    read_manifest,
    write_manifest,
)
from synthct.volume.prepared import (
    LEAST_SPACING_MM,
    conform_mr,
    is_skull_stripped,
    require_finest,
    save_case,
)
from synthct.workflows.cases import HEAD, CasePlan, plan_cases, read_excluded
from synthct.workflows.fingerprints import of_phantom, of_scan
from synthct.workflows.leftovers import remove_leftovers
from synthct.workflows.pair_labels import (
    brain_planes,
    covered_planes,
    drawn_over,
    file_labels,
    own_labels,
    real_labels,
    unseen_labels,
)
from synthct.workflows.phantom_pairs import draw_phantom, phantom_name, phantom_number
from synthct.workflows.progress import Progress, SilentProgress
from synthct.workflows.scan_reading import read_case, read_plan, source_sha256
from synthct.workflows.side_by_side import SideBySide


@dataclass(frozen=True)
class PrepareRequest:
    """What to prepare, from where to where.

    Attributes:
        excluded: file of cases or subjects, one a line, kept for validation.
        cases: table that says more of each scan (see `synthct.workflows.cases`).
        pseudo_labels: carry labels from the complete cases to the others.
        phantoms: how many parametric phantoms to add to the pairs.
        seed: of phantoms and renderings.
        labels: scheme of complete labels whose ids do not tell it, unless the table names one.
        modality: CT, MR, or auto: MR where the file's name is that of a contrast.
        label_folder: where the labels of all scans lie, by the names of the cases.
        jobs: processes that prepare scans side by side.
        finest_mm: axes of a scan that are finer than this are resampled to it.

    Raises:
        UsageError: `finest_mm` is no length from above 0 to 10 mm.
    """

    scans: Path
    output: Path
    excluded: Path | None = None
    cases: Path | None = None
    pseudo_labels: bool = False
    phantoms: int = 0
    seed: int = 0
    labels: str = "auto"
    modality: str = "auto"
    label_folder: Path | None = None
    jobs: int = 1
    finest_mm: float = LEAST_SPACING_MM

    def __post_init__(self) -> None:
        require_finest(self.finest_mm)


@dataclass(frozen=True)
class Prepared:
    """The manifest of the whole dataset, how many entries this run made, and what failed.

    Attributes:
        removed: files of earlier runs that the manifest names no more, by their paths within.
    """

    output: Path
    manifest: Manifest
    made: int
    kept: int
    failed: dict[str, str]
    removed: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, object]:
        rows = list(self.manifest.values())
        return {
            "output": str(self.output),
            "made": self.made,
            "kept": self.kept,
            "train": sum(r.split == "train" and bool(r.image) for r in rows),
            "validation": sum(r.split == "validation" and bool(r.image) for r in rows),
            "pairs": {k: sum(r.kind == k and bool(r.pair) for r in rows)
                      for k in ("real", "pseudo", "phantom")},
            "excluded": {r.case: r.reason for r in self.manifest.split("excluded")
                         if r.case not in self.failed},
            "without_pair": {r.case: r.reason for r in rows if r.split == "train" and not r.pair},
            "failed": self.failed,
            "removed": list(self.removed),
        }  # fmt: skip


def prepare(request: PrepareRequest, progress: Progress | None = None) -> Prepared:
    """Prepare every scan and phantom asked for; entries that are there and unchanged stay.

    What must not be trained on from now on leaves the manifest before anything is made, so that a
    run may be interrupted; its files are removed at the end.

    Raises:
        InputError: no scans, a table that does not fit them, or a case kept for validation in the
            dataset so far that would now be trained on.
        OutputError: the dataset folder cannot be written.
    """
    progress = progress or SilentProgress()
    excluded = read_excluded(request.excluded) if request.excluded else frozenset()
    plans = plan_cases(
        request.scans,
        table=request.cases,
        excluded=excluded,
        scheme=request.labels,
        modality=request.modality,
        label_folder=request.label_folder,
    )
    desk = _Desk(request, plans)
    desk.require_the_same_split()
    wanted = desk.asked()
    desk.take_out(excluded, wanted)
    missing = []
    with progress.stage("case", len(wanted)) as advance:
        for case, asked in wanted.items():
            if desk.stands(case, asked):
                desk.kept += 1
                advance()
            else:
                missing.append((case, asked))
        with SideBySide(request.jobs, partial(_attempts, request, plans)) as make:
            for (case, asked), row in zip(missing, make(case for case, _ in missing), strict=True):
                desk.enter(case, asked, row)
                advance()
    return desk.result()


def _attempts(
    request: PrepareRequest, plans: tuple[CasePlan, ...]
) -> Callable[[str], Row | InputError]:
    """A desk's `attempt`, with atlases of its own."""
    return _Desk(request, plans).attempt


class _Desk:
    """One run: the plans, the atlases read so far, and the manifest as it grows."""

    def __init__(self, request: PrepareRequest, plans: tuple[CasePlan, ...]) -> None:
        self.request = request
        self.plans = {plan.case: plan for plan in plans}
        self.atlases: dict[str, Atlas] = {}
        self.failed: dict[str, str] = {}
        self.made = self.kept = 0
        path = request.output / FILE_NAME
        self.manifest = read_manifest(path) if path.exists() else Manifest()

    def require_the_same_split(self) -> None:
        """A run without the list of an earlier one must not let its validation be trained on."""
        kept = {row.subject for row in self.manifest.split("validation")}
        leaked = sorted({p.subject for p in self.plans.values() if p.use == "train"} & kept)
        if leaked:
            more = f" and {len(leaked) - 3} more" if len(leaked) > 3 else ""
            raise InputError(
                f"{self.request.output} keeps {', '.join(leaked[:3])}{more} for validation, and "
                "now they would be trained on",
                "give the same --exclude as before, or another -o for another split",
            )

    def take_out(self, excluded: frozenset[str], asked: Mapping[str, str]) -> None:
        """Take the rows out of the manifest that were trained on and must not be from now on.

        Those are scans and persons kept for validation now, skipped scans, and phantoms beyond
        those asked for, if any are. Scans of another folder stay: a dataset may grow by several
        runs.
        """
        apart = excluded | {p.subject for p in self.plans.values() if p.use == "validation"}
        skipped = {p.case for p in self.plans.values() if p.use == "skip"}
        gone = [
            row.case
            for row in self.manifest.split("train")
            if row.case in skipped
            or {row.case, row.subject} & apart
            or (row.kind == "phantom" and self.request.phantoms and row.case not in asked)
        ]
        if gone:
            self.manifest = self.manifest.without(gone)
            write_manifest(self.request.output / FILE_NAME, self.manifest)

    def request_of(self, plan: CasePlan) -> str:
        """What decides on a scan's arrays: the plan and the files it reads."""
        atlases = [self.plans[a] for a in plan.atlas if a in self.plans]
        wish = self.request
        return of_scan(plan, atlases, pseudo=wish.pseudo_labels, finest_mm=wish.finest_mm)

    def asked(self) -> dict[str, str]:
        """Case → what decides on its arrays; atlases come first, phantoms last."""
        ordered = sorted(self.plans.values(), key=lambda p: (p.labels != "complete", p.case))
        found = {plan.case: self.request_of(plan) for plan in ordered}
        for number in range(self.request.phantoms):
            found[phantom_name(number)] = of_phantom(self.request.seed, number)
        return found

    def attempt(self, case: str) -> Row | InputError:
        """Make an entry's files; what is wrong with this case alone is returned, not raised."""
        try:
            if case in self.plans:
                return self.scan(self.plans[case])
            return self.phantom(case)
        except InputError as error:
            if error.kind == "OutputError":
                raise
            return error

    def enter(self, case: str, asked: str, made: Row | InputError) -> None:
        """Put an entry into the manifest; of a case that failed, why, to be tried again."""
        if isinstance(made, InputError):
            self.failed[case] = f"{made.message} ({made.hint})" if made.hint else made.message
            row = self._failed_row(case)
        else:
            row = replace(made, made_by=asked)
            self.made += 1
        self.manifest = self.manifest.with_row(row)
        write_manifest(self.request.output / FILE_NAME, self.manifest)

    def _failed_row(self, case: str) -> Row:
        """Without files; a scan to validate with stays on its side, as its person must."""
        reason = self.failed[case]
        for folder in filter(None, (self.request.scans, self.request.label_folder)):
            reason = reason.replace(f"{folder}/", "")  # where it lay is this machine's business
        if case not in self.plans:
            return Row(case, case, "excluded", "phantom", reason=reason)
        plan = self.plans[case]
        split = "validation" if plan.use == "validation" else "excluded"
        return replace(_row_of(plan), split=split, reason=reason)

    def result(self) -> Prepared:
        output = self.request.output
        removed = remove_leftovers(output, self.manifest)
        return Prepared(output, self.manifest, self.made, self.kept, self.failed, removed)

    def stands(self, case: str, asked: str) -> bool:
        row = self.manifest.get(case)
        if row is None or row.made_by != asked:
            return False
        files = ((row.image, row.image_sha256), (row.pair, row.pair_sha256))
        return all(
            (self.request.output / name).is_file() and sha256_of(self.request.output / name) == sha
            for name, sha in files
            if name
        )

    # ── one scan ──────────────────────────────────────────────────────────────────────────────

    def scan(self, plan: CasePlan) -> Row:
        row = _row_of(plan)
        if plan.use == "skip":
            return row
        if plan.modality == "MR":
            return self._mr(plan, row)
        hu, body, grid = self._read(plan)
        arrays = {"image": hu, "body": body}
        if plan.use == "validation" and plan.labels == "complete":
            mask = arrays["labels"] = unseen_labels(plan, body, grid, self.request.finest_mm)
            row = replace(row, kind="real", regions="+".join(regions_present(ids_present(mask))))
        row = self._image(plan, row, arrays, grid.spacing_mm)
        found = self._labels(plan, hu, body, grid) if plan.use == "train" else None
        return row if found is None else self._pair(row, hu, grid.spacing_mm, *found)

    def _read(self, plan: CasePlan) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_], Geometry]:
        return read_case(read_plan(plan), self.request.finest_mm)

    def _mr(self, plan: CasePlan, row: Row) -> Row:
        """An MR scan, without labels: its units, contrast, and whether its skull is gone."""
        volume = conform_mr(read_plan(plan), self.request.finest_mm)
        image = np.rint(volume.array).astype(np.int16)
        stripped = plan.skull_stripped or ("yes" if is_skull_stripped(image) else "no")
        more = {"modality": "MR", "contrast": plan.contrast, "skull_stripped": stripped == "yes"}
        row = replace(row, skull_stripped=stripped)
        return self._image(plan, row, {"image": image}, volume.geometry.spacing_mm, more)

    def _image(self, plan: CasePlan, row: Row, arrays: dict[str, npt.NDArray[Any]],
               spacing: Spacing, more: Mapping[str, object] | None = None) -> Row:  # fmt: skip
        """Save a scan on its side of the split; `more` is said of it in its file."""
        folder = IMAGES if plan.use == "train" else VALIDATION
        meta = {"id": plan.case, "subject": plan.subject, "kind": "image", "split": plan.use}
        saved = self._save(folder, plan.case, arrays, spacing, meta | dict(more or {}))
        return replace(row, split=plan.use, image=saved[0], image_sha256=saved[1],
                       spacing_mm=" x ".join(f"{s:.4g}" for s in spacing))  # fmt: skip

    def _pair(self, row: Row, hu: npt.NDArray[Any], spacing: Spacing, kind: str,
              found: PseudoLabels, planes: slice) -> Row:  # fmt: skip
        arrays = {"image": hu, "labels": found.labels, "known": found.known}
        arrays = {name: np.ascontiguousarray(a[:, :, planes]) for name, a in arrays.items()}
        regions = regions_present(ids_present(arrays["labels"]))
        meta = {"id": row.case, "subject": row.subject, "kind": kind, "regions": list(regions),
                "dropped": list(found.dropped)}  # fmt: skip
        pair = self._save(PAIRS, row.case, arrays, spacing, meta)
        gone = ", ".join(str(i) for i in found.dropped)
        reason = row.reason or (f"dropped ids {gone}" if gone else "")
        return replace(row, kind=kind, regions="+".join(regions), pair=pair[0],
                       pair_sha256=pair[1], reason=reason)  # fmt: skip

    def _labels(
        self, plan: CasePlan, hu: npt.NDArray[Any], body: npt.NDArray[Any], grid: Geometry
    ) -> tuple[str, PseudoLabels, slice] | None:
        """Kind, labels and the planes worth keeping; None: this scan gets no pair."""
        if plan.labels == "complete":
            return "real", *real_labels(plan, body, grid, self.request.finest_mm)
        if not self.request.pseudo_labels or not plan.atlas:
            return None
        if plan.atlas == (HEAD,):
            head = label_head(hu, body, grid.spacing_mm)
            return "pseudo", head, brain_planes(head.labels == BRAIN)
        spacing = grid.spacing_mm
        moved = fuse([transfer(hu, spacing, self._atlas(name)) for name in plan.atlas])
        found = pseudo_labels(hu, body, moved.labels, moved.covered, spacing)
        if plan.labels == "partial":
            own = file_labels(plan, grid, self.request.finest_mm)
            found = drawn_over(found, own, plan)
        return "pseudo", found, covered_planes(moved.covered, body)

    def _atlas(self, case: str) -> Atlas:
        if case not in self.atlases:
            plan = self.plans.get(case)
            if plan is None or plan.labels != "complete" or plan.use != "train":
                raise InputError(f"{case} is no atlas: a training case with complete labels needed")
            hu, body, grid = self._read(plan)
            own = own_labels(plan, grid, self.request.finest_mm)
            planes = own.planes(body)
            self.atlases[case] = Atlas(
                case, hu[:, :, planes], own.labels[:, :, planes], grid.spacing_mm
            )
        return self.atlases[case]

    # ── one phantom ───────────────────────────────────────────────────────────────────────────

    def phantom(self, case: str) -> Row:
        drawn = draw_phantom(self.request.seed, phantom_number(case))
        meta = {"id": case, "subject": case, **drawn.meta}
        pair = self._save(PAIRS, case, drawn.arrays, drawn.spacing_mm, meta)
        return Row(case, case, "train", "phantom", "+".join(drawn.shown),
                   " x ".join(f"{s:g}" for s in drawn.spacing_mm),
                   pair=pair[0], pair_sha256=pair[1],
                   source=f"phantom {drawn.region} seed {drawn.person}")  # fmt: skip

    def _save(self, folder: str, case: str, arrays: dict[str, Any], spacing: Spacing,
              meta: Mapping[str, object]) -> tuple[str, str]:  # fmt: skip
        path = self.request.output / folder / f"{case}.npz"
        save_case(path, arrays, spacing, meta, overwrite=True)
        return f"{folder}/{case}.npz", sha256_of(path)


def _row_of(plan: CasePlan) -> Row:
    """A scan of which nothing is made yet."""
    return Row(plan.case, plan.subject, "excluded", "image", source=plan.image.name,
               source_sha256=source_sha256(plan), reason=plan.reason,
               modality=plan.modality, contrast=plan.contrast)  # fmt: skip
