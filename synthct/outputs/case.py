"""A finished case on disk: all of its files or none, and nothing overwritten unasked."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from synthct.atomic import reason_of, replacing, write_text
from synthct.errors import InputError, OutputError, UsageError
from synthct.outputs.names import RUN_RECORD, CaseNames
from synthct.outputs.sidecar import FileRecord, RunRecord, Sidecar, plain, read_sidecar, to_json
from synthct.record import sha256_of
from synthct.volume.volume import LabelVolume, Volume


def require_writable(folder: Path) -> None:
    """Make the output folder and try it, before any work is done.

    Raises:
        OutputError: a file of that name, no permission, or no space.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b"\0")
            probe.flush()
    except OSError as error:
        raise _not_writable(folder, error) from error


def refuse_existing_cases(cases: Iterable[CaseNames]) -> None:
    """Raise unless every name of every case is free, here and in `rejected/`.

    Raises:
        UsageError: a file of a case exists.
    """
    for names in cases:
        refuse_existing_case(names)


def refuse_existing_case(names: CaseNames) -> None:
    """See `refuse_existing_cases`."""
    for place in (names.accepted(), names.rejected()):
        for path in place.by_role().values():
            if os.path.lexists(path):  # a link to nothing is something
                raise UsageError(
                    f"{path} exists already and nothing is overwritten unasked",
                    "pass --overwrite, --resume, or another -o",
                )


def completed_case(names: CaseNames, request_sha256: str) -> tuple[CaseNames, Sidecar] | None:
    """The case as an earlier run left it, passed or rejected; None where something is missing.

    Raises:
        UsageError: it is there, and comes from another request.
    """
    for place in (names.accepted(), names.rejected()):
        if not place.sidecar.is_file():
            continue
        sidecar = _own_sidecar(place)
        if sidecar.request_sha256 != request_sha256:
            raise UsageError(
                f"{place.sidecar} comes from another request, which --resume cannot continue",
                "repeat that request, pass --overwrite, or choose another -o",
            )
        if _is_whole(place.folder, sidecar):
            return place, sidecar
    return None


def case_is_complete(names: CaseNames, request_sha256: str) -> bool:
    """Whether `--resume` may leave this case alone. Raises as `completed_case`."""
    return completed_case(names, request_sha256) is not None


def refuse_other_request(cases: Sequence[CaseNames], request_sha256: str) -> None:
    """For `--resume`, before any work: no case of this run may come from another request.

    Raises:
        UsageError: one does.
    """
    for names in cases:
        completed_case(names, request_sha256)


def write_case(
    names: CaseNames,
    *,
    image: Volume,
    labels: LabelVolume | None,
    label_names: Mapping[int, str],
    sidecar: Sidecar,
    preview: bytes | None = None,
    overwrite: bool = False,
) -> Sidecar:
    """Write image, labels, preview and sidecar; the names appear when all are complete.

    Everything is prepared in a hidden folder beside, then renamed, the sidecar last: a case with
    a sidecar is whole. `overwrite` (also for what `--resume` found half there) replaces an earlier
    case of the same name, in the folder as in `rejected/`.

    Returns the sidecar as written, with the hash and size of every file.

    Raises:
        UsageError: a file of the case exists and `overwrite` is false.
        OutputError: the folder cannot be written, or the disk is full.
    """
    if not overwrite:
        refuse_existing_case(names)
    with _staging(names) as stage:
        staged = CaseNames(stage, names.stem, names.seed, names.kind)
        _write_volumes(staged, image, labels, label_names, sidecar)
        if preview is not None:
            with replacing(staged.preview) as temporary:
                temporary.write_bytes(preview)
        sidecar = sidecar.model_copy(update={"files": _file_records(staged)})
        write_text(staged.sidecar, to_json(sidecar))
        if not overwrite:
            refuse_existing_case(names)
        _remove_case(names.accepted())
        _remove_case(names.rejected())
        _rename_all(staged, names)
    return sidecar


def write_run(folder: Path, run: RunRecord) -> Path:
    """Write `run.json`. What an earlier run recorded there is kept under `earlier`."""
    path = folder / RUN_RECORD
    run = run.model_copy(update={"earlier": _earlier_runs(path)})
    write_text(path, to_json(run), overwrite=True)
    return path


def changed_files(folder: Path, sidecar: Sidecar) -> dict[str, str]:
    """Role → `unchanged`, `changed` or `missing`, each file held against its recorded hash."""
    return {
        role: _state(folder / record.name, record.sha256) for role, record in sidecar.files.items()
    }


def _own_sidecar(names: CaseNames) -> Sidecar:
    try:
        return read_sidecar(names.sidecar)
    except InputError as error:
        raise UsageError(error.message, "pass --overwrite, or choose another -o") from error


def _is_whole(folder: Path, sidecar: Sidecar) -> bool:
    def whole(record: FileRecord) -> bool:
        path = folder / record.name
        return path.is_file() and path.stat().st_size == record.bytes

    return bool(sidecar.files) and all(whole(record) for record in sidecar.files.values())


def _state(path: Path, sha256: str) -> str:
    if not path.is_file():
        return "missing"
    return "unchanged" if sha256_of(path) == sha256 else "changed"


@contextlib.contextmanager
def _staging(names: CaseNames) -> Iterator[Path]:
    """A hidden folder beside the final names; leftovers of a killed run of this case go first."""
    prefix = f".partial-{names.case}-"
    stage = names.folder / f"{prefix}{uuid.uuid4().hex[:8]}"
    try:
        names.folder.mkdir(parents=True, exist_ok=True)
        for leftover in names.folder.iterdir():
            if leftover.name.startswith(prefix):
                shutil.rmtree(leftover, ignore_errors=True)
        stage.mkdir()
        yield stage
    except OSError as error:
        raise _not_writable(names.folder, error) from error
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _not_writable(folder: Path, error: OSError) -> OutputError:
    hint = "choose another -o"
    if error.errno == errno.ENOSPC:
        hint = f"free space, or {hint}"
    reason = reason_of(error)
    there = next((path for path in folder.absolute().parents if path.is_dir()), folder)
    if error.errno == errno.ENOENT:  # what /proc and the like say
        reason = f"{there} takes no new files"
    return OutputError(f"cannot write to {folder}: {reason}", hint)


def _write_volumes(
    staged: CaseNames,
    image: Volume,
    labels: LabelVolume | None,
    label_names: Mapping[int, str],
    sidecar: Sidecar,
) -> None:
    from synthct.volume.nifti import write_labels, write_volume  # nibabel: only when needed

    write_volume(staged.image, image, description=sidecar.description())
    if labels is not None:
        description = sidecar.description(labels=True)
        write_labels(staged.labels, labels, label_names, description=description)


def _file_records(staged: CaseNames) -> dict[str, FileRecord]:
    return {
        role: FileRecord(name=path.name, sha256=sha256_of(path), bytes=path.stat().st_size)
        for role, path in staged.by_role().items()
        if path.exists()
    }


def _rename_all(staged: CaseNames, names: CaseNames) -> None:
    """Give the final names, the sidecar last, and make the renames durable."""
    for source, target in zip(staged.by_role().values(), names.by_role().values(), strict=True):
        if source.exists():
            os.replace(source, target)
    _sync_folder(names.folder)


def _remove_case(names: CaseNames) -> None:
    """The sidecar first: files without one are no case."""
    for path in reversed(names.by_role().values()):
        path.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":  # Windows cannot open a folder to flush it
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some network file systems refuse
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _earlier_runs(path: Path) -> list[dict[str, Any]]:
    """What stood in `run.json`, oldest first; a file that is no JSON object is kept as text."""
    if not path.is_file():
        return []
    text = path.read_text(encoding="utf-8", errors="replace")
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        return [{"unreadable": text}]
    before = found.pop("earlier", [])
    return [*(before if isinstance(before, list) else []), plain(found)]
