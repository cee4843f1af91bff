"""A folder of scans → arrays to train on, with a manifest: images, pairs, phantoms.

The dataset folder: `images/` (training scans), `validation/` (never trained on), `pairs/` (scans
and phantoms with MAISI labels), `manifest.tsv`. Each entry is whole or absent; a run that was
stopped goes on where it stood.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from synthct.errors import InputError
from synthct.geometry import Spacing
from synthct.labels.body import body_from_ct, with_body
from synthct.labels.detect import detect
from synthct.labels.groups import BODY, regions_present
from synthct.labels.pseudo import BRAIN, PseudoLabels, label_head, pseudo_labels
from synthct.labels.remap import ids_present, remap
from synthct.labels.render import render_hu
from synthct.phantom import make_phantom_with_tissues
from synthct.phantom.regions import REGIONS as PHANTOM_REGIONS
from synthct.record import fingerprint, sha256_of
from synthct.volume.atlas import Atlas, fuse, transfer
from synthct.volume.dicom import read_series
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
    conform,
    conform_mr,
    is_cut_out,
    is_skull_stripped,
    require_hu,
    save_case,
    without_table,
)
from synthct.volume.reading import read_image, read_labels
from synthct.volume.resample import resample_labels, to_ras
from synthct.volume.volume import LabelVolume, Volume
from synthct.workflows.cases import HEAD, MORE_COLUMNS, CasePlan, plan_cases, read_excluded
from synthct.workflows.leftovers import remove_leftovers
from synthct.workflows.progress import Progress, SilentProgress

Labels = npt.NDArray[np.uint8]
FORMAT = 3
"""Raised whenever preparing the same scan gives other arrays: older entries are then made anew."""
PHANTOM_SHARES = {"chest-abdomen": 14, "chest": 10, "abdomen": 10, "pelvis": 7, "head": 7}
PHANTOM_SPACING_MM = (2.5, 4.0)
PHANTOM_SEED = 1000
PHANTOM = "phantom-"
LESION_SHARE = 0.35
_BRAIN_SHARE = 0.3  # of the largest plane
_COVERED = 0.5  # planes of which the atlas covers less than this are cut off a pair


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
            "validation": len(self.manifest.split("validation")),
            "pairs": {k: sum(r.kind == k and bool(r.pair) for r in rows)
                      for k in ("real", "pseudo", "phantom")},
            "excluded": {r.case: r.reason for r in self.manifest.split("excluded")},
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
        with _Makers(request, plans) as make:
            for (case, asked), row in zip(missing, make(case for case, _ in missing), strict=True):
                desk.enter(case, asked, row)
                advance()
    return desk.result()


class _Makers:
    """Who makes entries: this process, or `jobs` of them, each with its own atlases."""

    def __init__(self, request: PrepareRequest, plans: tuple[CasePlan, ...]) -> None:
        self.request, self.plans = request, plans
        self.pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Callable[[Iterable[str]], Iterator[Row | InputError]]:
        if self.request.jobs == 1:
            return partial(map, _Desk(self.request, self.plans).attempt)
        self.pool = ProcessPoolExecutor(
            self.request.jobs,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_begin_work,
            initargs=(self.request, self.plans),
        )
        return partial(self.pool.map, _work)

    def __exit__(self, *_: object) -> None:
        if self.pool is not None:
            self.pool.shutdown(cancel_futures=True)


_own_desk: _Desk | None = None
"""Of a process of the pool."""


def _begin_work(request: PrepareRequest, plans: tuple[CasePlan, ...]) -> None:
    global _own_desk
    _own_desk = _Desk(request, plans)


def _work(case: str) -> Row | InputError:
    assert _own_desk is not None
    return _own_desk.attempt(case)


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
        those asked for. Scans of another folder stay: a dataset may grow by several runs.
        """
        apart = excluded | {p.subject for p in self.plans.values() if p.use == "validation"}
        skipped = {p.case for p in self.plans.values() if p.use == "skip"}
        gone = [
            row.case
            for row in self.manifest.split("train")
            if row.case in skipped
            or {row.case, row.subject} & apart
            or (row.kind == "phantom" and row.case not in asked)
        ]
        if gone:
            self.manifest = self.manifest.without(gone)
            write_manifest(self.request.output / FILE_NAME, self.manifest)

    def request_of(self, plan: CasePlan) -> str:
        """What decides on a scan's arrays: the plan and the files it reads."""
        slices = (plan.image,) if plan.series is None else plan.series.files
        files = [*slices, plan.label_file]
        if self.request.pseudo_labels:
            files += [self.plans[a].image for a in plan.atlas if a in self.plans]
        hashes = [sha256_of(f) for f in files if f]
        asked = {
            k: v for k, v in asdict(plan).items() if k not in ("image", "label_file", "series")
        }
        if plan.modality == "CT":  # entries that were made before there was MR stay
            asked = {k: v for k, v in asked.items() if k not in MORE_COLUMNS}
        return fingerprint({"format": FORMAT, "plan": asked, "files": hashes,
                            "pseudo": self.request.pseudo_labels})  # fmt: skip

    def asked(self) -> dict[str, str]:
        """Case → what decides on its arrays; atlases come first, phantoms last."""
        ordered = sorted(self.plans.values(), key=lambda p: (p.labels != "complete", p.case))
        found = {plan.case: self.request_of(plan) for plan in ordered}
        for number in range(self.request.phantoms):
            words = {"format": FORMAT, "seed": self.request.seed, "number": number}
            found[_phantom_name(number)] = fingerprint(words)
        return found

    def attempt(self, case: str) -> Row | InputError:
        """Make an entry's files; what is wrong with this case alone is returned, not raised."""
        try:
            if case in self.plans:
                return self.scan(self.plans[case])
            return self.phantom(int(case.removeprefix(PHANTOM)))
        except InputError as error:
            if error.kind == "OutputError":
                raise
            return error

    def enter(self, case: str, asked: str, made: Row | InputError) -> None:
        """Put an entry into the manifest; a case that failed is noted."""
        if isinstance(made, InputError):
            self.failed[case] = f"{made.message} ({made.hint})" if made.hint else made.message
            return
        self.manifest = self.manifest.with_row(replace(made, made_by=asked))
        write_manifest(self.request.output / FILE_NAME, self.manifest)
        self.made += 1

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
        row = Row(plan.case, plan.subject, "excluded", "image", source=plan.image.name,
                  source_sha256=_source_sha256(plan), reason=plan.reason,
                  modality=plan.modality, contrast=plan.contrast)  # fmt: skip
        if plan.use == "skip":
            return row
        if plan.modality == "MR":
            return self._mr(plan, row)
        hu, body, spacing = read_case(read_plan(plan))
        folder = IMAGES if plan.use == "train" else VALIDATION
        meta = {"id": plan.case, "subject": plan.subject, "kind": "image", "split": plan.use}
        image = self._save(folder, plan.case, {"image": hu, "body": body}, spacing, meta)
        row = replace(row, split=plan.use, image=image[0], image_sha256=image[1],
                      spacing_mm=" x ".join(f"{s:.4g}" for s in spacing))  # fmt: skip
        found = self._labels(plan, hu, body, spacing) if plan.use == "train" else None
        return row if found is None else self._pair(row, hu, spacing, *found)

    def _mr(self, plan: CasePlan, row: Row) -> Row:
        """An MR scan, without labels: its units, contrast, and whether its skull is gone."""
        volume = conform_mr(read_plan(plan))
        spacing = volume.geometry.spacing_mm
        image = np.rint(volume.array).astype(np.int16)
        stripped = plan.skull_stripped or ("yes" if is_skull_stripped(image) else "no")
        meta = {"id": plan.case, "subject": plan.subject, "kind": "image", "split": plan.use,
                "modality": "MR", "contrast": plan.contrast,
                "skull_stripped": stripped == "yes"}  # fmt: skip
        folder = IMAGES if plan.use == "train" else VALIDATION
        saved = self._save(folder, plan.case, {"image": image}, spacing, meta)
        return replace(row, split=plan.use, image=saved[0], image_sha256=saved[1],
                       skull_stripped=stripped,
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
        self, plan: CasePlan, hu: npt.NDArray[Any], body: npt.NDArray[Any], spacing: Spacing
    ) -> tuple[str, PseudoLabels, slice] | None:
        """Kind, labels and the planes worth keeping; None: this scan gets no pair."""
        everything = slice(0, hu.shape[2])
        if plan.labels == "complete":
            labels = with_body(_own_labels(plan, hu.shape), body)
            return "real", PseudoLabels(labels, np.ones(hu.shape, np.uint8), ()), everything
        if not self.request.pseudo_labels or not plan.atlas:
            return None
        if plan.atlas == (HEAD,):
            head = label_head(hu, body, spacing)
            return "pseudo", head, _planes_of(head.labels == BRAIN)
        moved = fuse([transfer(hu, spacing, self._atlas(name)) for name in plan.atlas])
        found = pseudo_labels(hu, body, moved.labels, moved.covered, spacing)
        if plan.labels == "partial":
            found = _drawn_over(found, _file_labels(plan, hu.shape), plan)
        return "pseudo", found, _covered_planes(moved.covered, body)

    def _atlas(self, case: str) -> Atlas:
        if case not in self.atlases:
            plan = self.plans.get(case)
            if plan is None or plan.labels != "complete" or plan.use != "train":
                raise InputError(f"{case} is no atlas: a training case with complete labels needed")
            hu, _, spacing = read_case(read_plan(plan))
            self.atlases[case] = Atlas(case, hu, _own_labels(plan, hu.shape), spacing)
        return self.atlases[case]

    # ── one phantom ───────────────────────────────────────────────────────────────────────────

    def phantom(self, number: int) -> Row:
        """Another person, region and spacing for each number; one rendering, and the tissues, so
        that training can draw others."""
        case = _phantom_name(number)
        rng = np.random.default_rng([self.request.seed, number])
        regions = [r for r in PHANTOM_REGIONS if r in PHANTOM_SHARES]
        shares = np.array([PHANTOM_SHARES[r] for r in regions], float)
        region = regions[int(rng.choice(len(regions), p=shares / shares.sum()))]
        plane, along = (round(float(rng.uniform(*PHANTOM_SPACING_MM)), 2) for _ in range(2))
        spacing = (plane, plane, along)
        person = PHANTOM_SEED + self.request.seed * 10_000 + number
        lesions = bool(rng.random() < LESION_SHARE)
        volume, tissues = make_phantom_with_tissues(region, spacing, person, lesions=lesions)
        labels = volume.array.astype(np.uint8)
        image = np.rint(render_hu(labels, tissues, spacing, rng)).astype(np.int16)
        shown = regions_present(ids_present(labels))
        meta = {"id": case, "subject": case, "kind": "phantom", "regions": list(shown),
                "region": region, "seed": person, "lesions": lesions}  # fmt: skip
        arrays = {"image": image, "labels": labels, "tissues": tissues,
                  "known": np.ones(labels.shape, np.uint8)}  # fmt: skip
        pair = self._save(PAIRS, case, arrays, spacing, meta)
        return Row(case, case, "train", "phantom", "+".join(shown),
                   " x ".join(f"{s:g}" for s in spacing), pair=pair[0],
                   pair_sha256=pair[1], source=f"phantom {region} seed {person}")  # fmt: skip

    def _save(self, folder: str, case: str, arrays: dict[str, Any], spacing: Spacing,
              meta: Mapping[str, object]) -> tuple[str, str]:  # fmt: skip
        path = self.request.output / folder / f"{case}.npz"
        save_case(path, arrays, spacing, meta, overwrite=True)
        return f"{folder}/{case}.npz", sha256_of(path)


def _phantom_name(number: int) -> str:
    return f"{PHANTOM}{number:03d}"


def read_plan(plan: CasePlan) -> Volume:
    """The scan as it lies on disk, in the units of its scanner."""
    if plan.series is not None:
        return read_series(plan.series)
    return read_image(plan.image, plan.modality)


def read_case(scan: Volume) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.bool_], Spacing]:
    """A CT as int16 HU without the table, its body, its spacing; a crop keeps all it shows.

    Raises:
        InputError: its values are no HU.
    """
    require_hu(scan.array)
    volume: Volume = conform(scan)
    spacing = volume.geometry.spacing_mm
    body = body_from_ct(volume.array, spacing, 2)
    if is_cut_out(body):
        return np.rint(volume.array).astype(np.int16), body, spacing
    return without_table(volume.array, body), body, spacing


def _source_sha256(plan: CasePlan) -> str:
    """Of the file, or of the hashes of a series' slices in their order."""
    if plan.series is None:
        return sha256_of(plan.image)
    return fingerprint({"slices": [sha256_of(path) for path in plan.series.files]})


def _own_labels(plan: CasePlan, shape: tuple[int, ...]) -> Labels:
    """Complete labels of a case in MAISI ids on its prepared grid."""
    volume = _read_labels(plan)
    scheme = detect(volume.ids(), volume.names, plan.scheme or None).scheme
    labels, _ = remap(volume.array, scheme, unknown="body")
    return _on_grid(volume.with_array(np.where(labels == BODY, 0, labels)), shape)


def _file_labels(plan: CasePlan, shape: tuple[int, ...]) -> Labels:
    volume = _read_labels(plan)
    table = np.zeros(max(256, int(volume.array.max()) + 1), np.uint8)
    for own, maisi in plan.ids.items():
        table[own] = maisi
    return _on_grid(volume.with_array(table[volume.array]), shape)


def _read_labels(plan: CasePlan) -> LabelVolume:
    if plan.label_file is None:
        raise InputError(f"{plan.case}: no label file")
    return read_labels(plan.label_file).labels


def _on_grid(labels: LabelVolume, shape: tuple[int, ...]) -> Labels:
    """On the grid that `conform` gives the scan of the same geometry."""
    upright = to_ras(labels)
    if upright.array.shape != shape:
        spacing = conform(Volume(upright.array, upright.geometry)).geometry.spacing_mm
        upright = resample_labels(upright, upright.geometry.with_spacing(spacing))[0]
    if upright.array.shape != shape:
        raise InputError(f"labels of shape {upright.array.shape} for a scan of shape {shape}")
    return np.ascontiguousarray(upright.array, dtype=np.uint8)


def _drawn_over(found: PseudoLabels, own: Labels, plan: CasePlan) -> PseudoLabels:
    """The file's partial labels over the pseudo-labels, known where they stand."""
    there = own > 0
    labels = np.where(there, own, found.labels).astype(np.uint8)
    known = np.where(there, np.uint8(1), found.known).astype(np.uint8)
    dropped = tuple(i for i in found.dropped if i not in set(plan.ids.values()))
    return PseudoLabels(labels, known, dropped)


def _covered_planes(covered: npt.NDArray[Any], body: npt.NDArray[Any]) -> slice:
    """The axial planes of whose body the atlas covers most."""
    share = (covered & body).sum(axis=(0, 1)) / np.maximum(body.sum(axis=(0, 1)), 1)
    return _span(share > _COVERED, "the atlas covers no plane of the scan")


def _planes_of(mask: npt.NDArray[Any]) -> slice:
    """The axial planes with much of the brain: below them, bone is not only skull."""
    area = np.asarray(mask.sum(axis=(0, 1)))
    return _span((area > 0) & (area > _BRAIN_SHARE * area.max()), "no brain was found in the scan")


def _span(planes: npt.NDArray[Any], otherwise: str) -> slice:
    where = np.flatnonzero(planes)
    if where.size == 0:
        raise InputError(otherwise)
    return slice(int(where[0]), int(where[-1]) + 1)
