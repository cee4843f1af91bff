"""`synthct generate`: a mask, or a field of view, → volume, label, QC, preview and record."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, NonNegativeInt, PositiveInt

from synthct.checkpoints.catalogue import Entry
from synthct.errors import BatchError, QualityError, SynthctError, UsageError
from synthct.geometry import Geometry
from synthct.labels.scheme import maisi_name
from synthct.models.load import load_generator, pick_device
from synthct.models.protocols import Generator
from synthct.models.settings import Sampling
from synthct.outputs import case as cases
from synthct.outputs.names import REJECTED, CaseNames, stem_of
from synthct.outputs.sidecar import (
    CaseSummary,
    GridRecord,
    LabelOut,
    MaskRecord,
    ModelRecord,
    RunRecord,
    SamplingRecord,
    Sidecar,
    now,
)
from synthct.preview.render import render_png
from synthct.quality.checks import judge
from synthct.quality.norms import load_norms
from synthct.quality.unlabelled import judge_unlabelled
from synthct.quality.verdict import Verdict
from synthct.record import fingerprint, sha256_of
from synthct.volume.intensity import AIR_HU
from synthct.volume.resample import from_ras, resample_image, resample_labels, to_ras
from synthct.volume.volume import LabelVolume, Volume
from synthct.workflows.check import CheckReport, check_request
from synthct.workflows.inputs import mask_file
from synthct.workflows.progress import Advance, Progress, SilentProgress
from synthct.workflows.request import Request

FITTING_SAMPLERS = {"rflow": ("rflow",), "ddpm": ("ddpm", "ddim"), "ddim": ("ddpm", "ddim")}
PASSED, QC_FAILED, SOME_FAILED = 0, 4, 7
_NOT_THE_CASE = {"mask", "seed", "samples", "output", "overwrite", "resume", "device"}
"""Words of a request that do not change what a case is: `--resume` may differ in them."""


class GenerateRequest(Request):
    """All words of `generate`."""

    output: Path = Path("out")
    seed: NonNegativeInt = 0
    samples: PositiveInt = 1
    retries: NonNegativeInt = 2
    steps: PositiveInt | None = None
    guidance: Annotated[float, Field(ge=0)] | None = None
    sampler: Literal["rflow", "ddpm", "ddim"] | None = None
    time_steps: Literal["exact", "reference"] = "exact"
    label_out: Literal["model", "input"] = "model"
    norms: Path | None = None
    overwrite: bool = False
    resume: bool = False


@dataclass(frozen=True, eq=False)
class Made:
    """One try: the volume on the grid asked for, and the judgement on it."""

    volume: Volume
    verdict: Verdict
    attempt: int
    seconds: dict[str, float]


@dataclass(frozen=True, eq=False)
class Case:
    """One finished case as the Python API returns it."""

    names: CaseNames
    volume: Volume | None
    labels: LabelVolume | None
    sidecar: Sidecar | None
    summary: CaseSummary


@dataclass(frozen=True, eq=False)
class GenerateReport:
    """Every case of a run, and the exit code that they add up to."""

    cases: tuple[Case, ...]
    exit_code: int
    notes: tuple[str, ...]
    seconds: dict[str, float] = field(default_factory=dict)

    def as_dict(self) -> dict[str, object]:
        return {
            "exit_code": self.exit_code,
            "cases": [case.summary.model_dump() | _qc(case) for case in self.cases],
            "notes": list(self.notes),
            "seconds": self.seconds,
        }


def generate(mask: Any = None, *, progress: Progress | None = None, **words: Any) -> GenerateReport:
    """Make synthetic CT that follows `mask`; see `GenerateRequest` for the words.

    Args:
        mask: a path, a nibabel image, or None for a field of view without a mask (`region`,
            `size`, `spacing_mm`).

    Returns the volumes and labels of every case with its record, and the exit code.

    Raises:
        UsageError: the words make no request; an output exists; the device is absent.
        InputError: the mask or the grid is refused, or the output cannot be written.
        MemoryBudgetError, WeightsError: as in the exit codes 5 and 6.
    """
    with mask_file(mask) as path:
        request = GenerateRequest.of(mask=path, **words)
        return _Run(request, progress or SilentProgress()).go()


class _Run:
    """One call: what is the same for all its samples."""

    def __init__(self, request: GenerateRequest, progress: Progress) -> None:
        self.request, self.progress = request, progress
        self.clock = _Clock()
        self.started = now()

    def go(self) -> GenerateReport:
        request = self.request
        if request.overwrite and request.resume:
            raise UsageError("--overwrite and --resume exclude one another", "give one")
        self.device = pick_device(request.device)
        names = self._names()
        if not (request.overwrite or request.resume):
            cases.refuse_existing_cases(names)
        with self.clock("mask"):
            self.plan = check_request(request)
        self.hash = fingerprint(self._case_words())
        if request.resume:
            cases.refuse_other_request(names, self.hash)
        self._require_sampler()
        self.norms = load_norms(request.norms)
        cases.require_writable(request.output)
        self._prepare_labels()
        for note in self.notes:
            self.progress.say(note)
        done = tuple(self._case(one) for one in names)
        return self._finish(done)

    def _finish(self, done: tuple[Case, ...]) -> GenerateReport:
        code = _exit_code([case.summary for case in done])
        report = GenerateReport(done, code, self.notes, self.clock.seconds)
        cases.write_run(
            self.request.output,
            RunRecord(
                started=self.started,
                exit_code=code,
                request=self.request.model_dump(mode="json"),
                request_sha256=self.hash,
                model=self._model_record(),
                cases=[case.summary for case in done],
                notes=list(self.notes),
                seconds=self.clock.seconds,
            ),
        )
        return report

    def _names(self) -> list[CaseNames]:
        request = self.request
        stem = stem_of(request.mask, request.model)
        seeds = range(request.seed, request.seed + request.samples)
        return [CaseNames(request.output, stem, seed) for seed in seeds]

    def _case_words(self) -> dict[str, object]:
        words = self.request.model_dump(mode="json", exclude=_NOT_THE_CASE)
        mask = self.request.mask
        return words | {"mask_sha256": None if mask is None else sha256_of(mask)} | self._weights()

    def _weights(self) -> dict[str, object]:
        return {"weights_sha256": self.plan.weights.sha256()}

    @property
    def entry(self) -> Entry:
        return self.plan.entry

    @cached_property
    def generator(self) -> Generator:
        with self.clock("load"), self.progress.stage("loading the model"):
            return load_generator(self.request.model, self.request.weights, self.device)

    def _prepare_labels(self) -> None:
        """Labels on the inner grid (to sample) and on the grid asked for (to judge and write)."""
        plan, mask = self.plan, self.plan.mask
        self.notes = plan.grid.notes + (() if mask is None else mask.notes)
        self.notes = (f"model {self.entry.name} on {self.device}", *self.notes)
        self.inner: LabelVolume | Geometry = plan.grid.inner
        self.written: LabelVolume | None = None
        self.lost: tuple[int, ...] = ()
        if mask is None:
            return
        with self.clock("mask"):
            self.inner, missed = resample_labels(to_ras(mask.labels), plan.grid.inner)
            self.written, self.lost = resample_labels(mask.labels, plan.grid.asked)
        if missed:
            self.notes += (f"too small for the network's grid: {_names_of(missed)}",)
        if self.lost:
            self.notes += (f"lost on the grid asked for: {_names_of(self.lost)}",)

    def _case(self, names: CaseNames) -> Case:
        if self.request.resume:
            kept = cases.completed_case(names, self.hash)
            if kept is not None:
                return self._kept(*kept)
        try:
            return self._make(names)
        except SynthctError as error:
            if self.request.samples == 1:
                raise
            self.progress.say(f"{names.case}: {error.message}")
            summary = CaseSummary(
                case=names.case, seed=names.seed, status="failed", message=error.message
            )
            return Case(names, None, None, None, summary)

    def _kept(self, names: CaseNames, sidecar: Sidecar) -> Case:
        self.progress.say(f"{names.case}: whole from an earlier run, kept")
        summary = _summary(names, sidecar, "kept", str(sidecar.qc.get("reason", "")))
        return Case(names, None, None, sidecar, summary)

    def _make(self, names: CaseNames) -> Case:
        """Try until one passes; the best that failed otherwise."""
        best: Made | None = None
        for attempt in range(self.request.retries + 1):
            made = self._attempt(names, attempt)
            if best is None or made.verdict.badness < best.verdict.badness:
                best = made
            if made.verdict.passed:
                best = made
                break
            self.progress.say(f"{names.case} try {attempt}: QC failed: {made.verdict.reason}")
        assert best is not None
        return self._write(names if best.verdict.passed else names.rejected(), best)

    def _attempt(self, names: CaseNames, attempt: int) -> Made:
        clock = _Clock()
        sampling = self._sampling(names.seed, attempt)
        stages = _Stages(self.progress, clock)
        try:
            inner = self.generator.generate(self.inner, sampling, self.plan.regions, stages)
        finally:
            stages.close()
        with clock("resampling"):
            volume = self._on_grid(inner)
        with clock("QC"), self.progress.stage("QC"):
            if self.written is None:
                verdict = judge_unlabelled(volume)
            else:
                verdict = judge(volume, self.written, self.norms)
        self.clock.add(clock)
        return Made(volume, verdict, attempt, clock.seconds)

    def _on_grid(self, inner: Volume) -> Volume:
        """From the inner grid to the one asked for; −1000 where the label is 0, nothing else."""
        grid = self.plan.grid
        target = grid.asked.as_ras()
        moved = inner if inner.geometry.same_as(target) else resample_image(inner, target)
        hu = np.rint(from_ras(moved, grid.asked).array).astype(np.int16)
        if self.written is not None:
            hu[self.written.array == 0] = int(AIR_HU)
        return Volume(hu, grid.asked, inner.modality)

    def _write(self, names: CaseNames, made: Made) -> Case:
        clock = _Clock()
        labels, label_names, scheme = self._labels_out()
        with clock("writing"), self.progress.stage("writing"):
            title = f"{names.case}, {self.entry.name}"
            picture = render_png(made.volume, self.written, title=title)
            self.clock.add(clock)
            sidecar = cases.write_case(
                names,
                image=made.volume,
                labels=labels,
                label_names=label_names,
                sidecar=self._sidecar(names, made, scheme),
                preview=picture,
                overwrite=self.request.overwrite or self.request.resume,
            )
        self.clock.add(clock)
        status: Literal["passed", "rejected"] = "rejected" if names.is_rejected else "passed"
        summary = _summary(names, sidecar, status, made.verdict.reason)
        return Case(names, made.volume, labels, sidecar, summary)

    def _labels_out(self) -> tuple[LabelVolume | None, dict[int, str], str]:
        mask = self.plan.mask
        if mask is None or self.written is None:
            return None, {}, "maisi"
        if self.request.label_out == "model":
            return self.written, {i: maisi_name(i) for i in self.written.ids()}, "maisi"
        own, _ = resample_labels(mask.original, self.plan.grid.asked)
        names = mask.scheme.labels
        return own, {i: names.get(i, str(i)) for i in own.ids()}, mask.scheme.name

    def _require_sampler(self) -> None:
        """A network trained for one kind of noise cannot walk another's path."""
        fitting = FITTING_SAMPLERS[self.entry.sampler]
        if self.request.sampler not in (None, *fitting):
            raise UsageError(
                f"{self.entry.name} was not trained for the sampler {self.request.sampler}",
                f"it takes: {', '.join(fitting)}",
            )

    def _sampling(self, seed: int, attempt: int) -> Sampling:
        request, entry = self.request, self.entry
        guidance = entry.default_guidance if request.guidance is None else request.guidance
        return Sampling(
            seed=seed,
            attempt=attempt,
            steps=request.steps or entry.default_steps,
            sampler=request.sampler or entry.sampler,
            guidance=guidance,
            reference_times=request.time_steps == "reference",
        )

    def _sidecar(self, names: CaseNames, made: Made, scheme: str) -> Sidecar:
        sampling = self._sampling(names.seed, made.attempt)
        return Sidecar(
            model=self._model_record(),
            sampling=SamplingRecord(
                seed=names.seed,
                attempt=made.attempt,
                steps=sampling.steps,
                sampler=sampling.sampler,
                guidance=sampling.guidance,
                time_steps=self.request.time_steps,
                device=str(self.device),
                precision=getattr(self.generator, "precision", "float32"),
                conditions={"regions": list(self.plan.regions)},
            ),
            mask=self._mask_record(),
            label_out=LabelOut(asked=self.request.label_out, scheme=scheme),
            grid=_grid_record(self.plan),
            qc=made.verdict.as_dict(),
            notes=list(self.notes),
            request=self.request.model_dump(mode="json"),
            request_sha256=self.hash,
            seconds=made.seconds,
        )

    def _mask_record(self) -> MaskRecord | None:
        mask, path = self.plan.mask, self.request.mask
        if mask is None or path is None:
            return None
        return MaskRecord(
            file=path.name,
            sha256=sha256_of(path),
            scheme=mask.scheme.name,
            reason=mask.reason,
            body=mask.body_source,
            remap=mask.report.as_dict(),
            lost=list(self.lost),
        )

    def _model_record(self) -> ModelRecord:
        entry = self.entry
        return ModelRecord(
            name=entry.name,
            task=entry.task,
            modality=entry.modality,
            source=entry.source,
            licence=entry.licence,
            noncommercial=entry.noncommercial,
            weights_sha256=self.plan.weights.sha256(),
        )


def unsuccessful(report: GenerateReport) -> SynthctError | None:
    """What an exit code other than 0 means, None for 0."""
    summaries = [case.summary for case in report.cases]
    if report.exit_code == SOME_FAILED:
        failed = [one for one in summaries if one.status == "failed"]
        return BatchError(
            f"{len(failed)} of {len(summaries)} cases failed, first {failed[0].case}: "
            f"{failed[0].message}",
            "the others are whole; --resume does what is missing",
        )
    if report.exit_code == QC_FAILED:
        wrong = [one for one in summaries if one.folder == REJECTED]
        return QualityError(
            f"{len(wrong)} of {len(summaries)} cases failed QC, first {wrong[0].case}: "
            f"{wrong[0].message}",
            "the best tries are in rejected/; another --seed or more --retries may pass",
        )
    return None


class _Clock:
    """Seconds by part, added up."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            self.note(part, time.perf_counter() - began)

    def note(self, part: str, seconds: float) -> None:
        self.seconds[part] = round(self.seconds.get(part, 0.0) + seconds, 3)

    def add(self, other: _Clock) -> None:
        for part, seconds in other.seconds.items():
            self.note(part, seconds)


class _Stages:
    """Turns the generator's (name, done, total) into stages of the progress and of the clock."""

    def __init__(self, progress: Progress, clock: _Clock) -> None:
        self.progress, self.clock = progress, clock
        self.name, self.done, self.began = "", 0, time.perf_counter()
        self.advance: Advance | None = None
        self.open: AbstractContextManager[Advance] | None = None

    def __call__(self, name: str, done: int, total: int) -> None:
        if name != self.name:
            self._end()
            self.name, self.done = name, 0
            self.open = self.progress.stage(name, total)
            self.advance = self.open.__enter__()
        if self.advance is not None:
            self.advance(done - self.done)
        self.done = done
        self.clock.note(name.split(maxsplit=1)[0], time.perf_counter() - self.began)
        self.began = time.perf_counter()

    def close(self) -> None:
        self._end()

    def _end(self) -> None:
        if self.open is not None:
            self.open.__exit__(None, None, None)
            self.open = None


def _exit_code(summaries: list[CaseSummary]) -> int:
    if any(one.status == "failed" for one in summaries):
        return SOME_FAILED
    rejected = any(one.status == "rejected" or one.folder == REJECTED for one in summaries)
    return QC_FAILED if rejected else PASSED


def _summary(
    names: CaseNames,
    sidecar: Sidecar,
    status: Literal["passed", "rejected", "kept"],
    message: str,
) -> CaseSummary:
    return CaseSummary(
        case=names.case,
        seed=names.seed,
        attempt=sidecar.sampling.attempt,
        status=status,
        message=message,
        folder=REJECTED if names.is_rejected else ".",
        files={role: record.name for role, record in sidecar.files.items()},
    )


def _grid_record(plan: CheckReport) -> GridRecord:
    asked, inner = plan.grid.asked, plan.grid.inner
    return GridRecord(
        shape=asked.shape,
        spacing_mm=asked.spacing_mm,
        orientation=asked.orientation,
        affine=asked.affine.tolist(),
        inner_shape=inner.shape,
        inner_spacing_mm=inner.spacing_mm,
        resampled=plan.grid.resampled,
    )


def _names_of(ids: tuple[int, ...]) -> str:
    return ", ".join(maisi_name(i) for i in ids)


def _qc(case: Case) -> dict[str, object]:
    return {"qc": {} if case.sidecar is None else case.sidecar.qc}


__all__ = ["Case", "GenerateReport", "GenerateRequest", "generate", "unsuccessful"]
