"""`generate` without a mask of one's own: one is made from organ sizes, or chosen from a folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from synthct.checkpoints import catalogue, store
from synthct.checkpoints.catalogue import Entry
from synthct.errors import DamagedWeights, QualityError, UsageError
from synthct.geometry import Geometry
from synthct.labels.organ_sizes import Sizes, anatomy_ids, condition, wished_sizes
from synthct.labels.scheme import maisi_name
from synthct.models.load import load_mask_generator, pick_device
from synthct.models.maisi.mask_generator import MaskGenerator
from synthct.models.settings import Sampling
from synthct.volume.nifti import write_labels
from synthct.volume.volume import LabelVolume
from synthct.workflows.candidates import Candidate, choose
from synthct.workflows.generate import GenerateReport, generate
from synthct.workflows.outcome import exit_code
from synthct.workflows.progress import Progress, SilentProgress
from synthct.workflows.timing import Clock, TimedStages

MASK_MODEL = "maisi-mask-generator"
TRIES = 3


@dataclass(frozen=True)
class Wish:
    """What a mask is to show.

    Attributes:
        anatomy: names of structures that have to be there.
        organ_sizes: `NAME=SIZE`, for the mask generator alone.
        mask_dir: a folder of masks to choose from; None: one is generated.
        mask_steps: of the mask generator; None: its own.
    """

    anatomy: tuple[str, ...] = ()
    organ_sizes: tuple[str, ...] = ()
    mask_dir: Path | None = None
    mask_weights: Path | None = None
    mask_steps: int | None = None


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

    Raises: as `generate`; UsageError for wishes that cannot be; InputError where no mask of the
        folder is as wished; QualityError where the generator's masks are not.
    """
    progress = progress or SilentProgress()
    if words.get("size"):
        raise UsageError("a wished mask brings its own field of view: --size has no meaning here")
    wanted = anatomy_ids(wish.anatomy)
    if wish.mask_dir is not None:
        return _chosen(wish, wanted, Path(output), seed, samples, progress, words)
    if words.get("region"):
        raise UsageError("--region chooses among the masks of --mask-dir", "leave it out")
    return _made(wish, wanted, Path(output), seed, samples, progress, words)


def _chosen(
    wish: Wish,
    wanted: tuple[int, ...],
    output: Path,
    seed: int,
    samples: int,
    progress: Progress,
    words: dict[str, Any],
) -> GenerateReport:
    if wish.organ_sizes:
        raise UsageError("--organ-size is for the mask generator, not for --mask-dir")
    assert wish.mask_dir is not None
    words = dict(words)
    regions = tuple(words.pop("region", ()))
    found: list[Candidate] = choose(
        wish.mask_dir, wanted, regions, words.get("spacing_mm"), words.get("labels", "auto")
    )
    progress.say(f"{len(found)} masks of {wish.mask_dir} are as wished")
    reports = []
    for one in range(seed, seed + samples):
        path = found[one % len(found)].path
        progress.say(f"seed {one}: {path.name}")
        reports.append(generate(path, output=output, seed=one, progress=progress, **words))
    return _together(reports)


def _made(
    wish: Wish,
    wanted: tuple[int, ...],
    output: Path,
    seed: int,
    samples: int,
    progress: Progress,
    words: dict[str, Any],
) -> GenerateReport:
    if words.get("labels", "auto") != "auto":
        raise UsageError("a generated mask is in MAISI's labels: --labels has no meaning here")
    # channel 122 is id 129, a kidney mass, which the label scheme itself keeps free
    unknown = {"error": "body"}.get(words.get("unknown", "error"), words.get("unknown"))
    words = {**words, "labels": "maisi", "unknown": unknown}
    entry = catalogue.entry(MASK_MODEL)
    sizes = condition(wanted, wished_sizes(wish.organ_sizes), size_table(entry))
    device = pick_device(str(words.get("device", "auto")))
    generator: MaskGenerator | None = None
    reports = []
    for one in range(seed, seed + samples):
        path = output / f"wish-{one}.nii.gz"
        if not (path.exists() and words.get("resume")):
            if generator is None:
                with progress.stage("loading the mask generator"):
                    generator = load_mask_generator(entry, wish.mask_weights, device)
            labels = _mask(generator, entry, sizes, wanted, one, wish.mask_steps, progress)
            names = {label: maisi_name(label) for label in labels.ids()}
            told = f"SYNTHETIC labels {MASK_MODEL} seed {one}"
            overwrite = bool(words.get("overwrite"))
            write_labels(path, labels, names, description=told, overwrite=overwrite)
        reports.append(generate(path, output=output, seed=one, progress=progress, **words))
    return _together(reports)


def _mask(
    generator: MaskGenerator,
    entry: Entry,
    sizes: Sizes,
    wanted: tuple[int, ...],
    seed: int,
    steps: int | None,
    progress: Progress,
) -> LabelVolume:
    """The first mask with all that is wished for."""
    low = tuple(axis[0] for axis in entry.spacing_range_mm)
    geometry = Geometry.from_spacing(entry.shape_max, (low[0], low[1], low[2]))
    missing: tuple[int, ...] = ()
    for attempt in range(TRIES):
        sampling = Sampling(seed, attempt, steps or entry.default_steps, entry.sampler)
        stages = TimedStages(progress, Clock())
        try:
            array = generator.generate(sizes, geometry.shape, sampling, stages)
        finally:
            stages.close()
        missing = tuple(label for label in wanted if not np.any(array == label))
        if not missing:
            return LabelVolume(array, geometry, "maisi")
        progress.say(f"mask try {attempt}: without {_names(missing)}")
    raise QualityError(
        f"{TRIES} generated masks of seed {seed} show no {_names(missing)}",
        "another --seed or --organ-size may",
    )


def size_table(entry: Entry) -> list[list[float]]:
    """The published table of sizes: rows of ten numbers.

    Raises:
        MissingWeights: it was not fetched.
        DamagedWeights: it is no such table.
    """
    path = store.data_file(entry, "organ-sizes")
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        found = [row["organ_size"] if isinstance(row, dict) else row for row in rows]
        table = [[float(value) for value in row] for row in found]
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedWeights(f"{path} is no table of organ sizes: {error}") from error
    if not table or any(len(row) != 10 for row in table):
        raise DamagedWeights(f"{path} is no table of ten organ sizes")
    return table


def _together(reports: Sequence[GenerateReport]) -> GenerateReport:
    clock = Clock()
    for report in reports:
        for part, seconds in report.seconds.items():
            clock.note(part, seconds)
    cases = tuple(case for report in reports for case in report.cases)
    notes = tuple(dict.fromkeys(note for report in reports for note in report.notes))
    return GenerateReport(cases, exit_code(c.summary for c in cases), notes, clock.seconds)


def _names(labels: Sequence[int]) -> str:
    return ", ".join(maisi_name(label) for label in labels)
