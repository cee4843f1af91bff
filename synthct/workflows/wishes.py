"""`generate` without a mask of one's own: made from organ sizes, or chosen."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from synthct.atomic import refuse_existing
from synthct.checkpoints import catalogue, store
from synthct.checkpoints.catalogue import Entry
from synthct.errors import DamagedWeights, MissingWeights, QualityError, UsageError
from synthct.geometry import Geometry
from synthct.labels.groups import TUMOURS
from synthct.labels.organ_sizes import ABSENT, SIZED, Sizes, anatomy_ids, condition, wished_sizes
from synthct.labels.refine import refine
from synthct.labels.scheme import maisi_name
from synthct.models.load import load_mask_generator, pick_devices
from synthct.models.maisi.mask_generator import MaskGenerator
from synthct.models.settings import Sampling
from synthct.outputs.case import require_writable
from synthct.volume.nifti import write_labels
from synthct.volume.volume import LabelVolume
from synthct.workflows import machine
from synthct.workflows.candidates import brought_out, choose
from synthct.workflows.generate import GenerateReport, GenerateRequest, generate_each
from synthct.workflows.guidance import scales
from synthct.workflows.mask_plan import MaskJob, MaskPlan, plan_mask
from synthct.workflows.progress import Progress, SilentProgress
from synthct.workflows.samplers import require_sampler
from synthct.workflows.telling import tell
from synthct.workflows.timing import Clock, TimedStages

MASK_MODEL = "maisi-mask-generator"
TRIES = 3


@dataclass(frozen=True)
class Wish:
    """What a mask is to show.

    Attributes:
        anatomy: names of structures that have to be there.
        organ_sizes: `NAME=SIZE`, for the mask generator alone.
        mask_dir: masks to choose from (`candidates.choose`); None: one is generated, or where no
            sizes are wished for chosen of the published masks, if they were fetched.
        mask_weights: of the mask generator.
        mask_steps: of the mask generator; None: its own.
    """

    anatomy: tuple[str, ...] = ()
    organ_sizes: tuple[str, ...] = ()
    mask_dir: Path | None = None
    mask_weights: Path | None = None
    mask_steps: int | None = None

    def record(self) -> dict[str, Any]:
        """For `run.json`."""
        return {
            "anatomy": list(self.anatomy),
            "organ_sizes": list(self.organ_sizes),
            "mask_dir": None if self.mask_dir is None else str(self.mask_dir),
            "mask_weights": None if self.mask_weights is None else str(self.mask_weights),
            "mask_steps": self.mask_steps,
        }


def generate_wished(
    wish: Wish,
    *,
    output: Path,
    seed: int = 0,
    samples: int = 1,
    progress: Progress | None = None,
    **words: Any,
) -> GenerateReport:
    """For each seed a mask of its own, and the image that follows it; words as for `generate`.

    All masks are there before the image's networks are loaded, so that the two models never share
    the memory.

    Raises: as `generate`; UsageError for wishes that cannot be; InputError where no mask of the
        folder is as wished; QualityError where the generator's masks are not.
    """
    progress = progress or SilentProgress()
    _require_words(wish, Path(output), words)
    wanted = anatomy_ids(wish.anatomy)
    seeds = range(seed, seed + samples)
    clock = Clock()
    place = wish.mask_dir or _published_masks(wish)
    if place is not None:
        finder = partial(_chosen, place, wanted)
    elif words.get("region"):
        raise UsageError(
            "--region chooses among masks that are there",
            f"--mask-dir, or fetch the published ones: `synthct weights pull {MASK_MODEL} --data`",
        )
    else:
        finder = partial(_made, wish, wanted)
    with clock("wished mask"):
        masks, remarks, words = finder(Path(output), seeds, progress, words)
    return generate_each(
        masks,
        wish=wish.record(),
        progress=progress,
        clock=clock,
        remarks=remarks,
        output=output,
        **words,
    )


def _require_words(wish: Wish, output: Path, words: Mapping[str, Any]) -> None:
    """What can be refused without a mask is refused before one is looked for."""
    if words.get("size"):
        raise UsageError("a wished mask brings its own field of view: --size has no meaning here")
    if wish.mask_dir is not None and wish.organ_sizes:
        raise UsageError("--organ-size is for the mask generator, not for --mask-dir")
    asked = {key: value for key, value in words.items() if key != "region"}
    request = GenerateRequest.of(mask=Path("wished"), **asked)
    entry = catalogue.entry(request.model)
    tell(request, entry, ())
    require_sampler(request, entry)
    scales(request, entry)
    pick_devices(request.device)
    store.locate(entry, request.weights)
    require_writable(output)


def _published_masks(wish: Wish) -> Path | None:
    """The table of the published masks, where it and its archive were fetched."""
    if wish.organ_sizes or wish.mask_weights is not None or wish.mask_steps is not None:
        return None
    entry = catalogue.entry(MASK_MODEL)
    with suppress(MissingWeights):
        table = store.data_file(entry, "candidate-table")
        store.data_file(entry, "candidate-masks")
        return table
    return None


_Found = tuple[dict[int, Path], tuple[str, ...], dict[str, Any]]
"""Seed → mask, remarks, and the words for `generate`."""


def _chosen(
    place: Path,
    wanted: tuple[int, ...],
    output: Path,
    seeds: range,
    progress: Progress,
    words: dict[str, Any],
) -> _Found:
    words = dict(words)
    regions = tuple(words.pop("region", ()))
    labels = str(words.get("labels", "auto"))
    found = choose(place, wanted, regions, words.get("spacing_mm"), labels)
    progress.say(f"{len(found)} masks of {place} are as wished")
    masks = {}
    for one in seeds:
        candidate = found[one % len(found)]
        masks[one] = brought_out(candidate, output, overwrite=bool(words.get("overwrite")))
        progress.say(f"seed {one}: {candidate.name}")
    if found[0].scheme != "auto":
        words["labels"] = found[0].scheme
        words["unknown"] = _with_strangers(words)
    return masks, (f"masks chosen from {place.name}",), words


def _made(
    wish: Wish,
    wanted: tuple[int, ...],
    output: Path,
    seeds: range,
    progress: Progress,
    words: dict[str, Any],
) -> _Found:
    if words.get("labels", "auto") != "auto":
        raise UsageError("a generated mask is in MAISI's labels: --labels has no meaning here")
    entry = catalogue.entry(MASK_MODEL)
    sizes = condition(wanted, wished_sizes(wish.organ_sizes), size_table(entry, wish.mask_weights))
    device = pick_devices(str(words.get("device", "auto")))[0]
    plan = _planned(entry, wish.mask_steps, device.type, words, output)
    progress.say(f"mask generator: {plan.choice}")
    masks = {one: output / f"wish-{one}.nii.gz" for one in seeds}
    missing = {n: p for n, p in masks.items() if not (p.exists() and words.get("resume"))}
    for path in missing.values():
        if not words.get("overwrite"):
            refuse_existing(path)
    if missing:
        with progress.stage("loading the mask generator"):
            generator = load_mask_generator(entry, wish.mask_weights, device)
        maker = _Maker(generator, plan, sizes, wanted, progress)
        for one, path in missing.items():
            _write(path, maker.mask(one), one, bool(words.get("overwrite")))
    # channel 122 is id 129, a kidney mass, which the label scheme itself keeps free
    words = {**words, "labels": "maisi", "unknown": _with_strangers(words)}
    return masks, (f"masks made by {entry.name} from organ sizes",), words


def _with_strangers(words: Mapping[str, Any]) -> str:
    """Published masks hold ids that the label scheme keeps free: body, unless said otherwise."""
    asked = str(words.get("unknown", "error"))
    return "body" if asked == "error" else asked


def _planned(
    entry: Entry, steps: int | None, device: str, words: Mapping[str, Any], output: Path
) -> MaskPlan:
    """Within the budget; without one, within what the machine has."""
    job = MaskJob(
        entry.shape_max,
        steps or entry.default_steps,
        device,
        budget_bytes=words.get("max_memory_bytes"),
        spill_folder=output,
    )
    plan, usable = plan_mask(job), machine.usable_memory(device)
    if job.budget_bytes is None and usable is not None and plan.peak_bytes > usable:
        return plan_mask(replace(job, budget_bytes=usable))
    return plan


def _write(path: Path, labels: LabelVolume, seed: int, overwrite: bool) -> None:
    names = {label: maisi_name(label) for label in labels.ids()}
    told = f"SYNTHETIC labels {MASK_MODEL} seed {seed}"
    write_labels(path, labels, names, description=told, overwrite=overwrite)


@dataclass(frozen=True)
class _Maker:
    """The mask generator with a wish."""

    generator: MaskGenerator
    plan: MaskPlan
    sizes: Sizes
    wanted: tuple[int, ...]
    progress: Progress

    def mask(self, seed: int) -> LabelVolume:
        """The first mask with all that is wished for.

        Raises:
            QualityError: none of `TRIES` is.
        """
        entry = catalogue.entry(MASK_MODEL)
        low = tuple(axis[0] for axis in entry.spacing_range_mm)
        geometry = Geometry.from_spacing(entry.shape_max, (low[0], low[1], low[2]))
        lesion = next((one for one in TUMOURS if self.sizes[SIZED.index(one)] != ABSENT), None)
        missing: tuple[int, ...] = ()
        for attempt in range(TRIES):
            raw = self._sampled(seed, attempt, entry, geometry)
            with self.progress.stage("tidying up"):
                array = refine(raw, lesion)
            missing = tuple(label for label in self.wanted if not np.any(array == label))
            if not missing and array.any():
                return LabelVolume(array, geometry, "maisi")
            self.progress.say(f"mask try {attempt}: without {_names(missing) or 'anything'}")
        raise QualityError(
            f"{TRIES} generated masks of seed {seed} show no {_names(missing) or 'structure'}",
            "another --seed or --organ-size may",
        )

    def _sampled(
        self, seed: int, attempt: int, entry: Entry, geometry: Geometry
    ) -> npt.NDArray[np.uint8]:
        """Fewer steps than the model's own are walked by a sampler that is made for few."""
        steps = self.plan.job.steps
        sampler = entry.sampler if steps >= entry.default_steps else "dpm++"
        how = Sampling(seed, attempt, steps, sampler, execution=self.plan.execution)
        stages = TimedStages(self.progress, Clock())
        try:
            return self.generator.generate(self.sizes, geometry.shape, how, stages)
        finally:
            stages.close()


def size_table(entry: Entry, weights: Path | None = None) -> list[list[float]]:
    """The published table of sizes: rows of ten numbers, as `{"organ_size": [...]}` or bare.

    Raises:
        MissingWeights: it was not fetched.
        DamagedWeights: it is no such table.
    """
    path = store.data_file(entry, "organ-sizes", weights)
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        found = [row["organ_size"] if isinstance(row, dict) else row for row in rows]
        table = [[float(value) for value in row] for row in found]
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedWeights(f"{path} is no table of organ sizes: {error}") from error
    if not table or any(len(row) != 10 for row in table):
        raise DamagedWeights(f"{path} is no table of ten organ sizes")
    return table


def _names(labels: Sequence[int]) -> str:
    return ", ".join(maisi_name(label) for label in labels)
