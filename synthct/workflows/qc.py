"""Judge volumes with labels: read each pair, name its organs, judge, report.

report = qc(["out/"])
report.passed, report.exit_code, report.cases
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from synthct.atomic import refuse_existing, write_text
from synthct.errors import InputError, SynthctError, UsageError
from synthct.labels.groups import BODY
from synthct.labels.remap import Unknown, remap
from synthct.labels.scheme import load_scheme
from synthct.quality.checks import judge
from synthct.quality.fit import fit, to_toml
from synthct.quality.norms import Norms, load_norms
from synthct.quality.report import Case, Report, to_csv
from synthct.volume.nifti import is_nifti_name, read_nifti
from synthct.volume.reading import read_image, read_labels
from synthct.volume.volume import LabelVolume, Volume
from synthct.workflows.detection import detect_scheme
from synthct.workflows.pairs import Found, Pair, find_pairs, stem
from synthct.workflows.progress import Progress, SilentProgress

PathLike = str | os.PathLike[str]


def qc(
    paths: PathLike | Iterable[PathLike] = (),
    *,
    image: PathLike | None = None,
    labels_file: PathLike | None = None,
    labels: str = "auto",
    unknown: Unknown = "error",
    norms: PathLike | None = None,
    csv: PathLike | None = None,
    html: PathLike | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Report:
    """Judge the volumes under `paths`, or the pair `image` and `labels_file`.

    Args:
        labels: the scheme of the label maps, or "auto".
        unknown: what becomes of ids that the scheme does not know.
        norms: a TOML file of ranges; None for the built-in ones.
        csv, html: also write the report there.

    A case that cannot be read is listed with its error; a single one raises it instead.

    Raises:
        UsageError: an output that exists; half a pair; an unknown scheme.
        InputError: nothing to judge, or the only case cannot be read.
    """
    ranges = load_norms(None if norms is None else Path(norms))
    outputs = [Path(p) for p in (csv, html) if p is not None]
    if csv is not None and html is not None and Path(csv) == Path(html):
        raise UsageError(f"--csv and --html both name {csv}", "give each a file of its own")
    for path in outputs if not overwrite else ():
        refuse_existing(path)
    if labels != "auto":
        load_scheme(labels)  # an unknown scheme is said before anything is read
    found = _found(_paths(paths), image, labels_file)
    pairs = found.pairs
    progress = progress or SilentProgress()
    cases: list[Case] = []
    with progress.stage("quality check", len(pairs)) as advance:
        for pair in pairs:
            cases.append(_judged(pair, labels, unknown, ranges, html is not None, len(pairs) == 1))
            advance()
    skipped = tuple(str(path) for path in found.alone)
    report = Report(tuple(cases), norms=str(norms or ranges.title), skipped=skipped)
    _write(report, csv, html, overwrite)
    return report


def fit_norms(
    folder: PathLike,
    output: PathLike,
    *,
    labels: str = "auto",
    unknown: Unknown = "error",
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Norms:
    """Derive ranges from the real scans under `folder` and write them to `output` (TOML).

    Cases that cannot be read are said and left out.

    Raises:
        UsageError: `output` exists and `overwrite` is false.
        InputError: no pairs under `folder`.
        QualityError: too few usable cases.
    """
    if not overwrite:
        refuse_existing(Path(output))
    if labels != "auto":
        load_scheme(labels)
    pairs = [pair for pair in find_pairs([Path(folder)]).pairs if pair.modality == "CT"]
    progress = progress or SilentProgress()
    fitted = fit(_readable(pairs, labels, unknown, progress))
    write_text(Path(output), to_toml(fitted), overwrite=overwrite)
    return fitted


def _readable(
    pairs: list[Pair], labels: str, unknown: Unknown, progress: Progress
) -> Iterator[tuple[Volume, LabelVolume]]:
    with progress.stage("reading real scans", len(pairs)) as advance:
        for pair in pairs:
            try:
                volume, maisi, _ = _read(pair, labels, unknown)
                if volume.geometry.shape != maisi.geometry.shape:
                    raise InputError(f"{pair.image} and its labels differ in shape")
            except SynthctError as error:
                progress.say(f"{pair.name} left out: {error.message}")
            else:
                yield volume, maisi
            advance()


def _judged(
    pair: Pair, labels: str, unknown: Unknown, norms: Norms, picture: bool, alone: bool
) -> Case:
    case = Case(pair.name, str(pair.image), str(pair.labels))
    try:
        volume, maisi, known = _read(pair, labels, unknown)
        case = replace(case, scheme=known.scheme, reason=known.reason, notes=known.notes)
        case = replace(case, verdict=judge(volume, maisi, norms))
        drawn = _picture(pair, volume, maisi) if picture else b""
    except SynthctError as error:
        if alone:
            raise
        return replace(case, verdict=None, error=error)
    return replace(case, picture=drawn)


def _read(pair: Pair, labels: str, unknown: Unknown) -> tuple[Volume, LabelVolume, Case]:
    """The pair as HU and MAISI ids; the case says which scheme its labels had, and why."""
    mask = read_labels(pair.labels)
    detection = detect_scheme(mask.labels, mask.notes, labels)
    array, remapped = remap(mask.labels.array, detection.scheme, unknown=unknown)
    if not remapped.has_envelope:  # dropped organs became body, which is no envelope
        array[array == BODY] = 0
    maisi = LabelVolume(array, mask.labels.geometry, scheme="maisi")
    volume = replace(read_image(pair.image), modality=pair.modality)
    dropped = tuple(f"not judged: {name}" for _, name in remapped.dropped)
    known = Case(
        pair.name,
        str(pair.image),
        str(pair.labels),
        scheme=detection.scheme.name,
        reason=detection.reason,
        notes=(*mask.notes, *dropped),
    )
    return volume, maisi, known


def _picture(pair: Pair, volume: Volume, maisi: LabelVolume) -> bytes:
    """Three planes as PNG; empty where image and label do not fit on one another."""
    from synthct.preview.render import render_png

    if not volume.geometry.same_as(maisi.geometry, tolerance_mm=1e-2):
        return b""
    finite = np.nan_to_num(volume.array, nan=-1000.0, posinf=3071.0, neginf=-1000.0)
    mark = "SYNTHETIC" if _is_synthetic(pair) else ""
    return render_png(volume.with_array(finite), maisi, title=pair.name, mark=mark)


def _is_synthetic(pair: Pair) -> bool:
    """Whether the header says so, as it does in all that synthct writes."""
    if not is_nifti_name(pair.image):
        return False
    return read_nifti(pair.image).description.startswith("SYNTHETIC")


def _found(paths: tuple[Path, ...], image: PathLike | None, labels_file: PathLike | None) -> Found:
    if image is None and labels_file is None:
        if not paths:
            raise UsageError("nothing to judge: no path was given", "e.g. synthct qc out/")
        return find_pairs(paths)
    if image is None or labels_file is None:
        raise UsageError("--image and --labels-file go together; one is missing", "pass both")
    if paths:
        raise UsageError("either paths, or --image with --labels-file", "leave one of them out")
    return Found((Pair(stem(Path(image)), Path(image), Path(labels_file)),))


def _paths(paths: PathLike | Iterable[PathLike]) -> tuple[Path, ...]:
    if isinstance(paths, str | os.PathLike):
        return (Path(paths),)
    return tuple(Path(path) for path in paths)


def _write(report: Report, csv: PathLike | None, html: PathLike | None, overwrite: bool) -> None:
    if csv is not None:
        write_text(Path(csv), to_csv(report), overwrite=overwrite)
    if html is not None:
        from synthct.quality.html import to_html

        write_text(Path(html), to_html(report), overwrite=overwrite)
