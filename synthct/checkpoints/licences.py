"""Licences of published weights: shown once; non-commercial ones accepted once. No torch."""

from __future__ import annotations

import json
from pathlib import Path

from synthct.atomic import write_text
from synthct.checkpoints.entry import Entry
from synthct.checkpoints.places import cache_folder
from synthct.errors import LicenceNotAccepted

RECORD = "licences.json"


def require_licence(entry: Entry, *, accept: bool = False) -> str | None:
    """What to show the user before files of `entry` are used; None where it was shown before.

    Raises:
        LicenceNotAccepted: non-commercial, and neither accepted now nor before.
    """
    if entry.embedded:
        return None
    known = _read()
    before = known.get(entry.licence)
    if entry.noncommercial and not accept and before != "accepted":
        raise LicenceNotAccepted(
            f"{entry.name} is under the {entry.licence}, which forbids commercial use: "
            f"{entry.licence_url}",
            "read it, then say so once with --accept-license",
        )
    now = "accepted" if accept or before == "accepted" else "shown"
    if now != before:
        _write({**known, entry.licence: now})
    return None if before else f"licence of {entry.name}: {entry.licence}, {entry.licence_url}"


def _path() -> Path:
    return cache_folder() / RECORD


def _read() -> dict[str, str]:
    try:
        content = json.loads(_path().read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _write(known: dict[str, str]) -> None:
    write_text(_path(), json.dumps(known, indent=2) + "\n", overwrite=True)
