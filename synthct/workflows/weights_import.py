"""`synthct weights import`: files that a user has already, in each published layout."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synthct.checkpoints import catalogue
from synthct.checkpoints.catalogue import IMPORT_RECORD, Entry
from synthct.checkpoints.container import (
    PICKLED_SUFFIXES,
    SAFETENSORS,
    SCALE_FACTOR,
    Container,
    open_container,
)
from synthct.checkpoints.imports import Matched, imported_roles, write_import
from synthct.checkpoints.licences import require_licence
from synthct.checkpoints.load import checked_path
from synthct.checkpoints.naming import MisfitWeights, Shapes, fit
from synthct.checkpoints.places import cache_folder
from synthct.errors import DamagedWeights, MissingWeights, UsageError
from synthct.models.networks import shapes_of
from synthct.workflows.progress import Progress, SilentProgress

_NAME = re.compile(r"[a-z0-9][a-z0-9-]*")
_SUBFOLDERS = ("", "models")
_ORDER = ("vae", "unet", "controlnet")


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
    candidates = [_Candidate(path, _opened(path, source)) for path in _files_in(source)]
    entry = _entry(name, model, candidates)
    licence = require_licence(entry, accept=accept_license)
    if licence is not None:
        progress.say(licence)
    matched = _match_all(entry, candidates, source, name)
    files = entry.files.by_role()
    _refuse_existing(name, [one.role for one in matched], files, overwrite)
    with progress.stage("converting"):
        written = write_import(name, entry.name, files, matched)
    return {
        "name": name,
        "model": entry.name,
        "folder": str(cache_folder() / name),
        "files": written,
        "missing": sorted(set(files) - imported_roles(name, files)),
    }


@dataclass(frozen=True)
class _Candidate:
    path: Path
    container: Container


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


def _entry(name: str, model: str | None, candidates: list[_Candidate]) -> Entry:
    """The catalogue entry that the files are of: as said, as before, or as they show."""
    said = model or (name if name in catalogue.entries() else _before(name))
    if said is None:
        return _told_by(candidates)
    if said not in catalogue.entries():
        raise UsageError(
            f"unknown model {said!r}; the catalogue has: {', '.join(catalogue.names())}",
            "see `synthct weights list`",
        )
    return catalogue.entry(said)


def _before(name: str) -> str | None:
    record = cache_folder() / name / IMPORT_RECORD
    return str(json.loads(record.read_text("utf-8"))["model"]) if record.is_file() else None


def _told_by(candidates: list[_Candidate]) -> Entry:
    """The entry whose networks the files fit; among equals, the one with their published names."""
    scores = {name: _score(entry, candidates) for name, entry in catalogue.entries().items()}
    best = max(scores.values())
    names = [name for name, score in scores.items() if score == best]
    if best[0] == 0:
        names = list(scores)
    if len(names) > 1:
        raise UsageError(
            f"the files fit {'no model' if best[0] == 0 else 'several models'} of the catalogue",
            f"say which with --model: {', '.join(names)}",
        )
    return catalogue.entry(names[0])


def _score(entry: Entry, candidates: list[_Candidate]) -> tuple[int, int]:
    """Roles that some file fits, and files that bear a published name."""
    shapes = shapes_of(entry)
    fitting = sum(any(_fits(one, wanted) for one in candidates) for wanted in shapes.values())
    published = {file.name for file in entry.hub.values()}
    return fitting, sum(one.path.name in published for one in candidates)


def _fits(one: _Candidate, wanted: Shapes, unet: Shapes | None = None) -> bool:
    try:
        fit(wanted, one.container.shapes(), one.path, unet)
    except MisfitWeights:
        return False
    return True


def _match_all(
    entry: Entry, candidates: list[_Candidate], source: Path, name: str
) -> list[Matched]:
    """One file per role; of a single file, the role that it fits.

    Raises:
        MisfitWeights: a file bears the name of its role and does not fit. All are named.
    """
    shapes = shapes_of(entry)
    unet = _unet_before(entry, name)
    found: list[Matched] = []
    wrong: dict[str, MisfitWeights] = {}
    for role in (role for role in _ORDER if role in shapes):
        try:
            one = _match(entry, role, shapes[role], candidates, unet, [m.path for m in found])
        except MisfitWeights as error:
            wrong[role] = error
            continue
        if one is not None:
            found.append(one)
            unet = one.container if role == "unet" else unet
    _require_all(entry, found, wrong, candidates, source, name, shapes)
    _require_scale(found)
    return found


def _match(
    entry: Entry,
    role: str,
    wanted: Shapes,
    candidates: list[_Candidate],
    unet: Container | None,
    taken: list[Path],
) -> Matched | None:
    base = unet if role == "controlnet" else None
    known = None if base is None else base.shapes()
    names = _names_of(entry, role)
    named = [one for one in candidates if one.path.name in names]
    for one in named:
        how = fit(wanted, one.container.shapes(), one.path, known)
        return Matched(role, one.path, one.container, how, base)
    free = [one for one in candidates if one.path not in taken and _nameless(entry, one)]
    fitting = [one for one in free if _fits(one, wanted, known)]
    if len(fitting) > 1:
        both = " and ".join(one.path.name for one in fitting[:2])
        raise UsageError(f"{both} fit the {role} of {entry.name}", "import one file by itself")
    return next(
        (
            Matched(
                role, o.path, o.container, fit(wanted, o.container.shapes(), o.path, known), base
            )
            for o in fitting
        ),
        None,
    )


def _names_of(entry: Entry, role: str) -> set[str]:
    own = {entry.files.by_role()[role]}
    return own | {file.name for key, file in entry.hub.items() if key == role}


def _nameless(entry: Entry, one: _Candidate) -> bool:
    """Not the published file of another role or another model."""
    published = {file.name for other in catalogue.entries().values() for file in other.hub.values()}
    own = {name for role in entry.files.by_role() for name in _names_of(entry, role)}
    return one.path.name not in published | own


def _unet_before(entry: Entry, name: str) -> Container | None:
    """The U-Net of an earlier call: a ControlNet that comes alone may need its encoder."""
    path = cache_folder() / name / entry.files.unet
    return open_container(checked_path(path)) if path.is_file() else None


def _require_all(
    entry: Entry,
    found: list[Matched],
    wrong: Mapping[str, MisfitWeights],
    candidates: list[_Candidate],
    source: Path,
    name: str,
    shapes: Mapping[str, Shapes],
) -> None:
    if wrong:
        raise _all_of(wrong)
    if not found:
        raise _nearest(candidates, shapes, source, entry)
    there = {one.role for one in found} | imported_roles(name, entry.files.by_role())
    missing = [role for role in shapes if role not in there]
    if missing and source.is_dir():
        published = [entry.hub[role].name for role in missing if role in entry.hub]
        raise MissingWeights(
            f"{source} holds no {', '.join(missing)} of {entry.name}",
            f"looked for: {', '.join(published) or 'files that fit'}; or import file by file",
        )


def _all_of(wrong: Mapping[str, MisfitWeights]) -> MisfitWeights:
    """The first complaint, with the mismatches of every file."""
    first = next(iter(wrong.values()))
    every = {
        f"{role}: {what}": keys
        for role, error in wrong.items()
        for what, keys in error.mismatches.items()
        if keys
    }
    return MisfitWeights(first.message, "all of them: the same command with -v or --json", every)


def _nearest(
    candidates: list[_Candidate], shapes: Mapping[str, Shapes], source: Path, entry: Entry
) -> DamagedWeights:
    """What the file that comes nearest to a role lacks."""
    errors = sorted(_misfits(candidates, shapes), key=lambda pair: _count(pair[1]))
    if not errors:
        return DamagedWeights(f"nothing in {source} is of {entry.name}", "see --model")
    role, nearest = errors[0]
    return _all_of({role: nearest})


def _misfits(
    candidates: list[_Candidate], shapes: Mapping[str, Shapes]
) -> Iterator[tuple[str, MisfitWeights]]:
    for one in candidates:
        for role, wanted in shapes.items():
            try:
                fit(wanted, one.container.shapes(), one.path)
            except MisfitWeights as error:
                yield role, error


def _count(error: MisfitWeights) -> int:
    return sum(len(keys) for keys in error.mismatches.values())


def _require_scale(found: list[Matched]) -> None:
    for one in found:
        if one.role == "unet" and SCALE_FACTOR not in one.container.metadata:
            raise DamagedWeights(
                f"{one.path} states no {SCALE_FACTOR}, which latents are scaled with",
                "import the file as published, with its container",
            )


def _refuse_existing(
    name: str, roles: list[str], files: Mapping[str, str], overwrite: bool
) -> None:
    there = sorted(set(roles) & imported_roles(name, files))
    if there and not overwrite:
        raise UsageError(
            f"{name} has its {', '.join(there)} already and nothing is overwritten unasked",
            "pass --overwrite, or another --as",
        )
