"""Who segments an image again: TotalSegmentator, a MONAI bundle, a TorchScript file, a callable.

A segmenter takes a `Volume` in RAS and returns MAISI ids on the same grid. TorchScript files and
bundles bring code with them: take only those that you trust.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from synthct.errors import InputError, MaskError, UsageError
from synthct.evaluation.segmenters_network import bundle_runner, script_runner
from synthct.labels.detect import counterpart
from synthct.labels.remap import remap
from synthct.labels.scheme import load_scheme
from synthct.record import sha256_of
from synthct.volume.nifti import write_volume
from synthct.volume.reading import read_labels
from synthct.volume.resample import resample_labels, to_ras
from synthct.volume.volume import LabelVolume, Volume

TOTALSEGMENTATOR = "totalsegmentator"
BUNDLE = "monai-bundle"
_ACCEPTED = f"accepted: {TOTALSEGMENTATOR}, {BUNDLE}:FOLDER, a TorchScript file"
_LAST_LINES = 200  # characters of a failed command that are shown


@dataclass(frozen=True)
class Segmenter:
    """Something that segments, under a name that stands in the report.

    Attributes:
        name: of the tool or file.
        sha256: of the file, empty for a command or a callable.
        known: MAISI ids that it can give.
        run: `Volume` in RAS → `LabelVolume` of MAISI ids on its grid.
    """

    name: str
    known: frozenset[int]
    run: Callable[[Volume], LabelVolume] = field(repr=False)
    sha256: str = ""


def load_segmenter(
    spec: str | Segmenter | Callable[[Volume], LabelVolume], device: str = "cpu"
) -> Segmenter:
    """The segmenter that `spec` names; a callable is taken as it is, all ids known.

    Raises:
        UsageError: no such command, folder or file.
        InputError: a file without its labels, or labels that nobody knows.
    """
    if isinstance(spec, Segmenter):
        return spec
    if callable(spec):
        name = getattr(spec, "__name__", type(spec).__name__)
        return Segmenter(name, frozenset(range(1, 256)), spec)
    if spec == TOTALSEGMENTATOR:
        return _totalsegmentator(device)
    kind, _, place = spec.partition(":")
    path = Path(place if kind == BUNDLE and place else spec)
    if not path.exists():
        raise UsageError(f"segmenter {spec!r}: no such file or folder", _ACCEPTED)
    if path.is_dir():
        run, names = bundle_runner(path, device)
        return Segmenter(path.name, _known(names, path), _renamed(run, _table(names, path)))
    return _torchscript(path, device)


def _totalsegmentator(device: str) -> Segmenter:
    command = shutil.which("TotalSegmentator")
    if command is None:
        raise UsageError(
            "segmenter totalsegmentator: the command TotalSegmentator is not installed here",
            "pip install TotalSegmentator (its licence applies), or name another segmenter",
        )
    scheme = load_scheme(TOTALSEGMENTATOR)
    known = frozenset(m for m in scheme.maisi.values() if m)
    return Segmenter(TOTALSEGMENTATOR, known, lambda v: _by_command(v, command, device))


def _by_command(volume: Volume, command: str, device: str) -> LabelVolume:
    """Through files: one multi-label NIfTI comes back."""
    with tempfile.TemporaryDirectory() as folder:
        image, out = Path(folder) / "image.nii.gz", Path(folder) / "labels.nii.gz"
        write_volume(image, volume)
        where = "gpu" if device.startswith("cuda") else device
        words = [command, "-i", str(image), "-o", str(out), "--ml", "--device", where]
        done = subprocess.run(words, capture_output=True, text=True, check=False, encoding="utf-8")
        if done.returncode or not out.is_file():
            told = (done.stderr or done.stdout).strip()[-_LAST_LINES:]
            raise InputError(f"TotalSegmentator failed (exit {done.returncode}): {told}")
        labels = read_labels_or_none(out, volume)
    return on_grid_of(volume, labels)


def read_labels_or_none(path: Path, volume: Volume) -> LabelVolume:
    """The file's labels as MAISI ids; all 0 where it found nothing."""
    try:
        mask = read_labels(path).labels
    except MaskError as error:
        if "empty" not in error.message:
            raise
        return LabelVolume(np.zeros(volume.array.shape, np.uint8), volume.geometry, "maisi")
    ids, _ = remap(mask.array, load_scheme(TOTALSEGMENTATOR), unknown="drop")
    return LabelVolume(ids, mask.geometry, scheme="maisi")


def on_grid_of(volume: Volume, labels: LabelVolume) -> LabelVolume:
    """Turned to RAS, and brought to the volume's grid where it is another."""
    turned = to_ras(labels)
    if turned.geometry.same_as(volume.geometry, tolerance_mm=1e-2):
        return turned
    return resample_labels(turned, volume.geometry)[0]


def _torchscript(path: Path, device: str) -> Segmenter:
    """`NAME.json` beside `NAME.pt` tells labels, and how the network wants its input."""
    beside = path.with_suffix(".json")
    if not beside.is_file():
        raise InputError(
            f"{path}: {beside.name} is missing beside it",
            'it holds {"labels": {"1": "liver", ...}, "spacing_mm": [1.5, 1.5, 1.5], '
            '"window_hu": [-1000, 1000], "roi": [96, 96, 96]}',
        )
    try:
        settings = json.loads(beside.read_text(encoding="utf-8"))
        names = {int(key): str(name) for key, name in settings["labels"].items()}
    except (ValueError, KeyError, AttributeError, UnicodeDecodeError) as error:
        raise InputError(
            f"{beside}: no readable labels ({type(error).__name__})",
            'write {"labels": {"1": "liver", "2": "spleen"}}',
        ) from error
    run = script_runner(path, settings, device)
    made = _renamed(run, _table(names, path))
    return Segmenter(path.name, _known(names, path), made, sha256_of(path))


def _renamed(run: Callable[[Volume], Any], table: Any) -> Callable[[Volume], LabelVolume]:
    def segmented(volume: Volume) -> LabelVolume:
        channels = run(volume)
        return LabelVolume(table[channels], volume.geometry, scheme="maisi")

    return segmented


def _table(names: Mapping[int, str], path: Path) -> Any:
    """Network's id → MAISI id; what MAISI has no id for is 0."""
    table = np.zeros(max(256, 1 + max(names, default=0)), np.uint8)
    for label, name in names.items():
        table[label] = counterpart(name) or 0
    return table


def _known(names: Mapping[int, str], path: Path) -> frozenset[int]:
    known = frozenset(found for name in names.values() if (found := counterpart(name)))
    if not known:
        listed = ", ".join(list(names.values())[:5])
        raise InputError(f"{path}: none of its labels ({listed}) is an organ that MAISI knows")
    return known
