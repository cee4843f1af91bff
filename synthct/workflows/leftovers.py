"""Files that `prepare` made in a dataset's folder and that its manifest names no more.

Nothing reads them (`models/maisi/data.cases_in`, `latents.encoded_cases`); they are removed so that
a scan taken out of training is not in the training folders either.
"""

from __future__ import annotations

import contextlib
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from synthct.volume.manifest import IMAGES, LATENTS, MIRRORED, PAIRS, PLACES, Manifest

_SOURCE_OF = {**{place: place for place in PLACES},
              LATENTS: IMAGES, f"{LATENTS}/{PAIRS}": PAIRS}  # fmt: skip
"""Folder in the dataset → the place whose cases may have a file there."""


def remove_leftovers(dataset: Path, manifest: Manifest) -> tuple[str, ...]:
    """Remove what `prepare` made for cases that are named no more; the paths within the dataset.

    A file without our own metadata, a link, and what lies in a linked folder stay.
    """
    removed = []
    for path in list(_leftovers(dataset, manifest)):
        with contextlib.suppress(OSError):  # nobody reads it: it may as well stay
            path.unlink()
            removed.append(path.relative_to(dataset).as_posix())
    for folder in sorted({dataset / Path(name).parent for name in removed}, reverse=True):
        with contextlib.suppress(OSError):  # not empty
            folder.rmdir()
    return tuple(removed)


def _leftovers(dataset: Path, manifest: Manifest) -> Iterator[Path]:
    for folder, place in _SOURCE_OF.items():
        named = manifest.prepared_in(place)
        if _linked(dataset, folder):
            continue
        for path in sorted((dataset / folder).glob("*.npz")):
            case = path.stem.removesuffix(MIRRORED) if folder.startswith(LATENTS) else path.stem
            if case not in named and _made_here(path, case):
                yield path


def _linked(dataset: Path, folder: str) -> bool:
    """Another dataset may live there."""
    return any((dataset / part).is_symlink() for part in (folder, folder.partition("/")[0]))


def _made_here(path: Path, case: str) -> bool:
    """Whether `save_case` or `save_encoded` wrote it for `case`."""
    if path.is_symlink() or not zipfile.is_zipfile(path):
        return False
    try:
        with np.load(path, allow_pickle=False) as stored:
            meta = json.loads(str(stored["meta"]))
        return bool(meta["id"] == case and meta["kind"])
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
        return False
