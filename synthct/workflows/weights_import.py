"""`synthct weights import`: files that a user has already, in each published layout."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from synthct.atomic import write_text
from synthct.checkpoints import catalogue
from synthct.checkpoints.catalogue import IMPORT_RECORD, Entry
from synthct.checkpoints.container import (
    PICKLED_SUFFIXES,
    SAFETENSORS,
    Container,
    open_container,
)
from synthct.checkpoints.imports import imported_roles, write_import
from synthct.checkpoints.licences import require_licence
from synthct.checkpoints.load import checked_path
from synthct.checkpoints.places import cache_folder
from synthct.errors import MissingWeights, UsageError
from synthct.workflows.progress import Progress, SilentProgress
from synthct.workflows.weights_matching import Candidate, Matching, told_by

_NAME = re.compile(r"[a-z0-9][a-z0-9-]*")
_MAX_TABLE_BYTES = 64 << 20
_SUBFOLDERS = ("", "models")


def import_weights(
    source: Path,
    name: str,
    *,
    model: str | None = None,
    accept_license: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Take the weights in `source` over as the model `name`.

    Args:
        source: a folder of published files, or one file; several files of one model may come in
            several calls.
        name: what it will be called (`--model NAME`); a name of the catalogue is that model.
        model: the catalogue entry that the files are of; told from the files by default.
        accept_license: accept a non-commercial licence.
        overwrite: replace files of an earlier import.
        progress: told what is being done.

    Raises:
        UsageError: no such model, a name that cannot be, files that fit several models, or an
            import that exists.
        MissingWeights: nothing there, or a file of the model is not among them.
        DamagedWeights: keys or shapes are another network's (all are named in `mismatches`).
        UnsafeWeights: a file wants to run code, unfolds, or leads out of its folder.
        LicenceNotAccepted: non-commercial, and not accepted.
    """
    progress = progress or SilentProgress()
    _require_name(name)
    candidates = [Candidate(path, _opened(path, source)) for path in _files_in(source)]
    entry = _entry(name, model, candidates)
    licence = require_licence(entry, accept=accept_license)
    if licence is not None:
        progress.say(licence)
    matched = Matching(entry, name, source, candidates).all()
    files = entry.files.by_role()
    _refuse_existing(name, [one.role for one in matched], files, overwrite)
    with progress.stage("converting"):
        written = write_import(name, entry.name, files, matched)
    data = _data_beside(entry, source, cache_folder() / name)
    return {
        "name": name,
        "model": entry.name,
        "folder": str(cache_folder() / name),
        "files": written,
        "data": data,
        "missing": sorted(set(files) - imported_roles(name, files)),
    }


def _data_beside(entry: Entry, source: Path, target: Path) -> list[str]:
    """Published tables that the model needs, copied where they lie in or beside `source`."""
    folder = source if source.is_dir() else source.parent
    copied = []
    for file in entry.data.values():
        places = [folder / file.name, folder / file.path, folder.parent / file.path]
        there = next((path for path in places if path.is_file()), None)
        if file.optional or there is None or there.stat().st_size > _MAX_TABLE_BYTES:
            continue
        content = checked_path(there, folder.parent).read_text("utf-8", errors="replace")
        write_text(target / file.name, content, overwrite=True)
        copied.append(file.name)
    return copied


def _require_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name!r} is no name for a model", "small letters, digits and hyphens")
    if name in catalogue.entries() and catalogue.entry(name).embedded:
        raise UsageError(f"{name} comes with synthct", "choose another --as")


def _files_in(source: Path) -> list[Path]:
    """Files of weights in a folder (and its `models`), or the file itself."""
    if source.is_file() or source.is_symlink():
        return [source]
    if not source.is_dir():
        raise MissingWeights(f"{source} does not exist", "give a folder or a file of weights")
    found = [
        path
        for folder in _SUBFOLDERS
        for path in sorted((source / folder).glob("*"))
        if path.suffix in (SAFETENSORS, *PICKLED_SUFFIXES)
    ]
    if not found:
        raise MissingWeights(
            f"{source} holds no weights: none of *{SAFETENSORS}, *{', *'.join(PICKLED_SUFFIXES)}",
            "give the folder that the published files are in",
        )
    return found


def _opened(path: Path, source: Path) -> Container:
    return open_container(checked_path(path, source if source.is_dir() else None))


def _entry(name: str, model: str | None, candidates: list[Candidate]) -> Entry:
    """The catalogue entry that the files are of: as said, as before, or as they show."""
    said = model or (name if name in catalogue.entries() else _before(name))
    if said is None:
        return told_by(candidates)
    if said not in catalogue.entries():
        raise UsageError(
            f"unknown model {said!r}; the catalogue has: {', '.join(catalogue.names())}",
            "see `synthct weights list`",
        )
    return catalogue.entry(said)


def _before(name: str) -> str | None:
    record = cache_folder() / name / IMPORT_RECORD
    return str(json.loads(record.read_text("utf-8"))["model"]) if record.is_file() else None


def _refuse_existing(
    name: str, roles: list[str], files: Mapping[str, str], overwrite: bool
) -> None:
    there = sorted(set(roles) & imported_roles(name, files))
    if there and not overwrite:
        raise UsageError(
            f"{name} has its {', '.join(there)} already and nothing is overwritten unasked",
            "pass --overwrite, or another --as",
        )
