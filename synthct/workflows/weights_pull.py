"""`synthct weights pull`: published files into the hub's cache, and a record of which. No torch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from synthct.checkpoints import catalogue, hub
from synthct.checkpoints.catalogue import Entry, HubFile
from synthct.checkpoints.licences import require_licence
from synthct.checkpoints.pulled import Pulled, PulledFile, read_pulled, write_pulled
from synthct.checkpoints.stream import Progress as Told
from synthct.errors import OfflineError, UsageError
from synthct.workflows.progress import Advance, Progress, SilentProgress

_MIB = 1 << 20


def pull(
    name: str,
    *,
    accept_license: bool = False,
    revision: str | None = None,
    data: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Fetch the published files of a model, or find them in the cache.

    Args:
        name: of the catalogue.
        accept_license: accept a non-commercial licence.
        revision: commit, branch or tag of the repository, instead of the one recorded.
        data: also what is large and not needed to load the model (candidate masks).
        progress: told how far it is.

    Raises:
        UsageError: no such model, or one that is nowhere to be fetched from.
        LicenceNotAccepted: non-commercial and not accepted, or the repository is gated.
        OfflineError: no network and not in the cache; the hint says what to run elsewhere.
        MissingWeights, DamagedWeights, OutputError: see `hub.fetch`.
    """
    progress = progress or SilentProgress()
    entry = catalogue.entry(name)
    if not entry.hub:
        raise UsageError(f"{name} is {entry.source}: nothing is to be fetched")
    licence = require_licence(entry, accept=accept_license)
    if licence is not None:
        progress.say(licence)
    pulled = read_pulled(name)
    wanted = _wanted(entry, data)
    pins: dict[str, str] = (
        {} if revision is None else dict.fromkeys(_repositories(wanted), revision)
    )
    with _told_what_to_run(entry, wanted, revision):
        for kind, key, file in wanted:
            got = _one(file, pins.get(file.repo), pulled, progress)
            pins[file.repo] = got.revision
            pulled = _with(pulled, kind, key, got)
            write_pulled(name, pulled)
    return {
        "model": name,
        "licence": entry.licence,
        "files": {key: _said(got) for key, got in pulled.files.items()},
        "data": {key: _said(got) for key, got in pulled.data.items()},
    }


_Wanted = list[tuple[str, str, HubFile]]


def _wanted(entry: Entry, data: bool) -> _Wanted:
    files: _Wanted = [("files", role, file) for role, file in entry.hub.items()]
    extra = {key: file for key, file in entry.data.items() if data or not file.optional}
    return files + [("data", key, file) for key, file in extra.items()]


def _repositories(wanted: _Wanted) -> list[str]:
    return list(dict.fromkeys(file.repo for *_, file in wanted))


def _one(file: HubFile, pin: str | None, pulled: Pulled, progress: Progress) -> PulledFile:
    known = pulled.known(file.repo, file.path)
    revision = pin or (known.revision if known is not None else None)
    with _bar(progress, file.name) as told:
        return hub.fetch(file, revision, known, told)


@contextmanager
def _bar(progress: Progress, name: str) -> Iterator[Told]:
    """A stage that counts MiB, opened when the first bytes come."""
    with ExitStack() as stack:
        advance: Advance | None = None
        shown = 0

        def told(done: int, total: int) -> None:
            nonlocal advance, shown
            if advance is None:
                mib = -(-total // _MIB) or None
                advance = stack.enter_context(progress.stage(f"{name} (MiB)", mib))
            advance(done // _MIB - shown)
            shown = done // _MIB

        yield told


def _with(pulled: Pulled, kind: str, key: str, got: PulledFile) -> Pulled:
    return pulled.model_copy(update={kind: {**getattr(pulled, kind), key: got}})


@contextmanager
def _told_what_to_run(entry: Entry, wanted: _Wanted, revision: str | None) -> Iterator[None]:
    """Without a way to the hub: the command for a machine that has one."""
    try:
        yield
    except OfflineError as error:
        if error.hint:
            raise
        raise OfflineError(error.message, _elsewhere(entry, wanted, revision)) from error


def _elsewhere(entry: Entry, wanted: _Wanted, revision: str | None) -> str:
    at = f" --revision {revision}" if revision else ""
    folder = entry.name
    fetches = [
        f"`hf download {repo} {' '.join(f.path for *_, f in wanted if f.repo == repo)}{at} "
        f"--local-dir {folder}`"
        for repo in _repositories(wanted)
    ]
    return (
        f"where there is network: {' and '.join(fetches)}; bring the folder, then "
        f"`synthct weights import {folder} --as {entry.name}`"
    )


def _said(got: PulledFile) -> dict[str, Any]:
    return {**got.model_dump(mode="json"), "location": str(got.location)}
