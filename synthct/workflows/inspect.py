"""Where did this volume come from: its record, read back from the file and the sidecar."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from synthct.errors import InputError
from synthct.outputs.case import changed_files
from synthct.outputs.names import CaseNames, names_of
from synthct.outputs.sidecar import RunRecord, Sidecar, read_record, read_sidecar

_DESCRIPTION = re.compile(
    r"^SYNTHETIC(?: labels)? synthct (?P<version>\S+) (?P<model>\S+)"
    r"(?: seed (?P<seed>\d+)(?: try (?P<attempt>\d+))?)?"
)


def inspect(path: Path | str) -> dict[str, Any]:
    """The record of a volume, a label map, a preview, a sidecar or a `run.json`.

    What is said of a file is held against the hash in its sidecar: `state` is `unchanged`,
    `changed`, `missing`, or `unknown` where no sidecar speaks of it.

    Raises:
        InputError: missing, unreadable, or nothing that synthct made.
    """
    path = Path(path)
    if not path.is_file():
        what = "is a folder; pass a file" if path.is_dir() else "no such file"
        raise InputError(f"{path}: {what}", "pass a volume or sidecar that synthct wrote")
    if path.suffix == ".json":
        return _from_json(path)
    header = _from_header(path)
    names, sidecar = _sidecar_beside(path)
    if sidecar is not None and names is not None:
        return {**_from_sidecar(path, names, sidecar), "header": header or None}
    if not header:
        raise InputError(
            f"{path} was not made by synthct: neither its header nor a sidecar says so",
            "keep the .json that was written with it beside it",
        )
    note = "no sidecar beside it: only what the header says is known"
    return {**_answer(path), "header": header, "notes": [note]}


def _answer(path: Path) -> dict[str, Any]:
    return {
        "path": str(path),
        "kind": "case",
        "synthetic": True,
        "header": None,
        "sidecar": None,
        "state": "unknown",
        "files": {},
        "record": None,
        "notes": [],
    }


def _from_json(path: Path) -> dict[str, Any]:
    if path.name == "run.json":
        run = read_record(path, RunRecord)
        return {**_answer(path), "kind": "run", "record": run.model_dump(mode="json")}
    sidecar = read_sidecar(path)
    names = names_of(path) or CaseNames(path.parent, path.stem, sidecar.sampling.seed)
    return _from_sidecar(path, names, sidecar)


def _from_sidecar(path: Path, names: CaseNames, sidecar: Sidecar) -> dict[str, Any]:
    files = changed_files(path.parent, sidecar)
    by_name = {record.name: files[role] for role, record in sidecar.files.items()}
    notes = [f"{sidecar.files[role].name} is {state}" for role, state in files.items()]
    return {
        **_answer(path),
        "sidecar": str(names.sidecar if path.suffix != ".json" else path),
        "state": by_name.get(path.name, "unknown"),
        "files": files,
        "record": sidecar.model_dump(mode="json"),
        "notes": [note for note in notes if not note.endswith("unchanged")],
    }


def _sidecar_beside(path: Path) -> tuple[CaseNames | None, Sidecar | None]:
    """The sidecar that goes with a file by its name, if it is ours and lists that file."""
    names = names_of(path)
    if names is None or not names.sidecar.is_file():
        return names, None
    sidecar = read_sidecar(names.sidecar)
    listed = {record.name for record in sidecar.files.values()}
    return names, sidecar if path.name in listed else None


def _from_header(path: Path) -> dict[str, Any]:
    """What a NIfTI header says of its origin; empty for other files and other makers."""
    from synthct.volume.nifti import is_nifti_name, read_nifti  # nibabel: only when needed

    if not is_nifti_name(path):
        return {}
    description = read_nifti(path).description
    match = _DESCRIPTION.match(description)
    if match is None:
        return {}
    seed, attempt = match["seed"], match["attempt"]
    return {
        "description": description,
        "tool_version": match["version"],
        "model": match["model"],
        "seed": None if seed is None else int(seed),
        "attempt": None if attempt is None else int(attempt),
    }
