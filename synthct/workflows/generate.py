"""`synthct generate`: a mask, or a field of view, → volume, label, QC, preview and record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

from pydantic import NonNegativeInt, PositiveInt

from synthct.checkpoints import catalogue
from synthct.diffusion.scales import NONE
from synthct.errors import RanOutOfMemory, SynthctError, UsageError
from synthct.models.load import load_generator, pick_devices
from synthct.models.protocols import Generator
from synthct.models.settings import SamplerName, Sampling
from synthct.outputs import case as cases
from synthct.outputs.names import CaseNames, stem_of
from synthct.outputs.sidecar import (
    CaseSummary,
    LabelOut,
    RunRecord,
    Sidecar,
    now,
)
from synthct.preview.face import without_face
from synthct.preview.render import render_png
from synthct.quality.norms import load_norms
from synthct.record import fingerprint, sha256_of
from synthct.workflows import machine
from synthct.workflows.attempts import Attempts, Made
from synthct.workflows.check import check_request
from synthct.workflows.drawn_mask import with_mask
from synthct.workflows.estimate import duration, estimate, gpus, rate_of
from synthct.workflows.guidance import scales
from synthct.workflows.inputs import mask_file
from synthct.workflows.memory import smaller, told_smaller
from synthct.workflows.outcome import Case, GenerateReport, exit_code, summary_of, unsuccessful
from synthct.workflows.placement import labels_out, place
from synthct.workflows.progress import Progress, SilentProgress
from synthct.workflows.records import (
    grid_record,
    mask_record,
    model_record,
    sampling_record,
    units_record,
)
from synthct.workflows.request import Request
from synthct.workflows.samplers import require_compiler, require_sampler
from synthct.workflows.telling import tell
from synthct.workflows.timing import Clock

_NOT_THE_CASE = {"mask", "seed", "samples", "output", "overwrite", "resume", "device"}
"""Words of a request that do not change what a case is: `--resume` may differ in them."""


class GenerateRequest(Request):
    """All words of `generate`."""

    output: Path = Path("out")
    seed: NonNegativeInt = 0
    samples: PositiveInt = 1
    retries: NonNegativeInt = 2
    steps: PositiveInt | None = None
    sampler: SamplerName | None = None
    time_steps: Literal["exact", "reference"] = "exact"
    compile: bool = False
    label_out: Literal["model", "input"] = "model"
    norms: Path | None = None
    overwrite: bool = False
    resume: bool = False


def generate(mask: Any = None, *, progress: Progress | None = None, **words: Any) -> GenerateReport:
    """Make synthetic CT that follows `mask`; see `GenerateRequest` for the words.

    Args:
        mask: a path, a nibabel image, or None for a field of view without a mask (`region`,
            `size`, `spacing_mm`). The embedded model then follows a drawn one.

    Returns the volumes and labels of every case with its record, and the exit code.

    Raises:
        UsageError: the words make no request; an output exists; the device is absent.
        InputError: the mask or the grid is refused, or the output cannot be written.
        MemoryBudgetError, WeightsError: as in the exit codes 5 and 6.
    """
    with mask_file(mask) as path:
        request = GenerateRequest.of(mask=path, **words)
        progress = progress or SilentProgress()
        with with_mask(request, request.seed) as (complete, drawn):
            return _Run(complete, progress, drawn).go()


def generate_each(
    masks: Mapping[int, Path],
    *,
    wish: Mapping[str, Any],
    progress: Progress,
    clock: Clock | None = None,
    remarks: tuple[str, ...] = (),
    **words: Any,
) -> GenerateReport:
    """For each seed the image of its own mask: one run, one record, the networks loaded once.

    Args:
        masks: seed → mask.
        wish: how the masks were found, for the record.
        progress: told how far it is.
        clock: of what came before.
        remarks: of what came before.
        words: as for `generate`, less mask, seed and samples.

    Raises: as `generate`.
    """
    clock = clock or Clock()
    runs: list[_Run] = []
    for seed, path in masks.items():
        request = GenerateRequest.of(mask=path, seed=seed, **words)
        run = _Run(request, progress, remarks, clock=clock, lender=runs[0] if runs else None)
        run.among_others = len(masks) > 1
        run.ready()
        runs.append(run)
    done = tuple(case for run in runs for case in run.cases())
    notes = tuple(dict.fromkeys(note for run in runs for note in run.notes))
    asked = runs[0].request.model_dump(mode="json")
    asked["mask"] = {str(seed): path.name for seed, path in masks.items()}
    if len(runs) > 1:
        runs[0].hash = fingerprint({"cases": [run.hash for run in runs]})
    return runs[0].finish(done, notes, {**asked, **wish, "samples": len(masks)})


class _Run:
    """One call: what is the same for all its samples."""

    among_others = False
    """Whether a case that fails is noted instead of ending everything."""

    def __init__(
        self,
        request: GenerateRequest,
        progress: Progress,
        remarks: tuple[str, ...] = (),
        *,
        clock: Clock | None = None,
        lender: _Run | None = None,
    ) -> None:
        self.request, self.progress, self.remarks = request, progress, remarks
        self.clock = clock or Clock()
        self.lender = lender
        self.started = now()

    def go(self) -> GenerateReport:
        self.ready()
        return self.finish(self.cases(), self.notes, self.request.model_dump(mode="json"))

    def ready(self) -> None:
        """Everything that can be refused is refused before a network is loaded."""
        request = self.request
        if request.overwrite and request.resume:
            raise UsageError("--overwrite and --resume exclude one another", "give one")
        self.devices = pick_devices(request.device)
        self.device = self.devices[0]
        entry = catalogue.entry(request.model)
        self.names = self._names(tell(request, entry, None if request.mask is None else ()).kind)
        if not (request.overwrite or request.resume):
            cases.refuse_existing_cases(self.names)
        require_sampler(request, entry)
        if request.compile:
            require_compiler(self.device.type)
        with self.clock("mask"):
            self.plan = check_request(request, self.device.type)
        self.hash = fingerprint(self._case_words())
        if request.resume:
            cases.refuse_other_request(self.names, self.hash)
        self.norms = load_norms(request.norms)
        cases.require_writable(request.output)
        with self.clock("mask"):
            self.placement = place(self.plan.mask, self.plan.grid)
        several = tuple(map(str, self.devices)) if len(self.devices) > 1 else ()
        self.execution = replace(self.plan.memory.execution, devices=several)
        self.notes = self._notes()
        for note in (*self.notes, self._estimate()):
            self.progress.say(note)

    def cases(self) -> tuple[Case, ...]:
        return tuple(self._case(one) for one in self.names)

    def _names(self, kind: str) -> list[CaseNames]:
        request = self.request
        stem = stem_of(request.mask, request.model)
        seeds = range(request.seed, request.seed + request.samples)
        return [CaseNames(request.output, stem, seed, kind) for seed in seeds]

    def _case_words(self) -> dict[str, object]:
        words = self.request.model_dump(mode="json", exclude=_NOT_THE_CASE)
        mask = self.request.mask
        words["mask_sha256"] = None if mask is None else sha256_of(mask)
        words["weights_sha256"] = self.plan.weights.sha256()
        pushed = scales(self.request, self.plan.entry).mask
        del words["mask_guidance"]  # what runs without it were asked stays as it was
        return words if pushed in NONE else {**words, "mask_guidance": pushed}

    def _notes(self) -> tuple[str, ...]:
        plan = self.plan
        mask = () if plan.mask is None else (*plan.mask.notes, *plan.mask.report.notes())
        model = f"model {plan.entry.name} on {', '.join(map(str, self.devices))}"
        said = (*plan.grid.notes, *mask, *self.placement.notes)
        return (model, *self.remarks, plan.memory.choice, *said)

    def _estimate(self) -> str:
        """In one line, for the user alone: another day the same run finds another rate."""
        kind = self.device.type
        rate = rate_of(kind, machine.fast_bfloat16(kind))
        found = estimate(self.plan.memory, rate, gpus(kind, len(self.devices)))
        source = "a rate measured just now" if rate.measured else "a rate that is assumed"
        return (
            f"from {duration(found['seconds'])} up for each try: multiply-adds alone, at {source}"
        )

    @cached_property
    def generator(self) -> Generator:
        """Loads the networks, once; runs of one model share them."""
        if self.lender is not None:
            return self.lender.generator
        request = self.request
        with self.clock("load"), self.progress.stage("loading the model"):
            return load_generator(request.model, request.weights, self.device)

    @cached_property
    def attempts(self) -> Attempts:
        plan = self.plan
        return Attempts(
            self.generator,
            self.placement,
            plan.grid,
            plan.regions,
            self.norms,
            self.progress,
            self.clock,
            self._replan,
        )

    def _replan(self, error: RanOutOfMemory) -> None:
        """Do less at once from now on, and say so."""
        memory = self.plan.memory
        found = smaller(memory.job, self.execution, error.part)
        if found is None:
            raise RanOutOfMemory(error.part, memory.minimum_bytes) from None
        note = f"memory ran out ({error.part}): again {told_smaller(self.execution, found)}"
        self.execution = found
        self.notes = (*self.notes, note)
        self.progress.say(note)

    def _case(self, names: CaseNames) -> Case:
        if self.request.resume:
            kept = cases.completed_case(names, self.hash)
            if kept is not None:
                return self._kept(*kept)
        try:
            return self._make(names)
        except SynthctError as error:
            if self.request.samples == 1 and not self.among_others:
                raise
            self.progress.say(f"{names.case}: {error.message}")
            summary = CaseSummary(
                case=names.case, seed=names.seed, status="failed", message=error.message
            )
            return Case(names, None, None, None, summary)

    def _kept(self, names: CaseNames, sidecar: Sidecar) -> Case:
        self.progress.say(f"{names.case}: whole from an earlier run, kept")
        summary = summary_of(names, sidecar, "kept", str(sidecar.qc.get("reason", "")))
        return Case(names, None, None, sidecar, summary)

    def _make(self, names: CaseNames) -> Case:
        draw = partial(self._sampling, names.seed)
        best = self.attempts.best(names.case, draw, self.request.retries)
        return self._write(names if best.verdict.passed else names.rejected(), best)

    def _write(self, names: CaseNames, made: Made) -> Case:
        clock, plan = Clock(), self.plan
        out = labels_out(self.placement, plan.mask, plan.grid, self.request.label_out)
        with clock("writing"), self.progress.stage("writing"):
            title = f"{names.case}, {plan.entry.name}"
            shown = made.volume
            if plan.entry.faces and not self.request.skull_stripped:
                shown = without_face(shown)
            sidecar = cases.write_case(
                names,
                image=made.volume,
                labels=out.labels,
                label_names=out.names,
                sidecar=self._sidecar(names, made, out.scheme),
                preview=render_png(shown, self.placement.written, title=title),
                overwrite=self.request.overwrite or self.request.resume,
            )
        self.clock.add(clock)
        status: Literal["passed", "rejected"] = "rejected" if names.is_rejected else "passed"
        summary = summary_of(names, sidecar, status, made.verdict.reason)
        return Case(names, made.volume, out.labels, sidecar, summary)

    def finish(
        self, done: tuple[Case, ...], notes: tuple[str, ...], asked: dict[str, Any]
    ) -> GenerateReport:
        """Write `run.json` about what was asked for and what became of it."""
        code = exit_code(case.summary for case in done)
        cases.write_run(
            self.request.output,
            RunRecord(
                started=self.started,
                exit_code=code,
                request=asked,
                request_sha256=self.hash,
                model=model_record(self.plan.entry, self.plan.weights),
                cases=[case.summary for case in done],
                notes=list(notes),
                seconds=self.clock.seconds,
            ),
        )
        return GenerateReport(done, code, notes, self.clock.seconds)

    def _sampling(self, seed: int, attempt: int) -> Sampling:
        request, plan = self.request, self.plan
        entry, guidance = plan.entry, scales(request, plan.entry)
        return Sampling(
            seed=seed,
            attempt=attempt,
            steps=request.steps or entry.default_steps,
            sampler=request.sampler or entry.sampler,
            tumor_guidance=guidance.tumor,
            modality_guidance=guidance.modality,
            mask_guidance=guidance.mask,
            modality_class=plan.told.modality_class,
            reference_times=request.time_steps == "reference",
            whole=entry.sizes is not None,
            compile=request.compile,
            execution=self.execution,
        )

    def _sidecar(self, names: CaseNames, made: Made, scheme: str) -> Sidecar:
        request, plan = self.request, self.plan
        return Sidecar(
            model=model_record(plan.entry, plan.weights),
            **units_record(plan.entry),
            sampling=sampling_record(
                made.sampling, plan.told, request, ",".join(map(str, self.devices))
            ),
            mask=mask_record(plan.mask, request.mask, self.placement.lost),
            label_out=LabelOut(asked=request.label_out, scheme=scheme),
            grid=grid_record(plan.grid),
            qc=made.verdict.as_dict(),
            notes=list(self.notes),
            request=request.model_dump(mode="json"),
            request_sha256=self.hash,
            seconds=made.seconds,
        )


__all__ = ["Case", "GenerateReport", "GenerateRequest", "generate", "unsuccessful"]
