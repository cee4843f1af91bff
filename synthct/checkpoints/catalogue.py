"""What models exist: one typed entry per TOML file in `catalogue/`, and what the user imported.

No torch.
"""

from __future__ import annotations

import json
import sys
from functools import cache
from importlib import resources
from pathlib import Path

from synthct.checkpoints.entry import (
    EMBEDDED,
    IMPORTED,
    Entry,
    FieldOfView,
    Files,
    HubFile,
    Region,
    Role,
)
from synthct.checkpoints.places import cache_folder
from synthct.errors import UsageError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = [
    "DEFAULT_MODEL",
    "EMBEDDED",
    "IMPORTED",
    "IMPORT_RECORD",
    "Entry",
    "FieldOfView",
    "Files",
    "HubFile",
    "Region",
    "Role",
    "entries",
    "entry",
    "imported",
    "names",
]

DEFAULT_MODEL = "maisi-mini-ct"
IMPORT_RECORD = "import.json"
"""In the folder of an imported model: which entry it is of, and where its files came from."""


@cache
def entries() -> dict[str, Entry]:
    """Every model of the catalogue by name, the default first."""
    folder = resources.files("synthct.checkpoints") / "catalogue"
    found = [
        Entry.model_validate(tomllib.loads(file.read_text(encoding="utf-8")))
        for file in folder.iterdir()
        if file.name.endswith(".toml")
    ]
    found.sort(key=lambda entry: (entry.name != DEFAULT_MODEL, entry.name))
    return {entry.name: entry for entry in found}


def imported() -> dict[str, Entry]:
    """Models that the user imported under names of their own, by name."""
    found = (
        _imported_as(record.parent)
        for record in sorted(cache_folder().glob(f"*/{IMPORT_RECORD}"))
        if record.parent.name not in entries()
    )
    return {entry.name: entry for entry in found if entry is not None}


def names() -> tuple[str, ...]:
    return tuple(entries())


def entry(name: str = DEFAULT_MODEL) -> Entry:
    """The entry called `name`: of the catalogue, or of an import.

    Raises:
        UsageError: there is none; the message lists those that exist.
    """
    if name in entries():
        return entries()[name]
    own = imported()
    if name in own:
        return own[name]
    raise UsageError(
        f"unknown model {name!r}; the catalogue has: {', '.join((*names(), *own))}",
        "see `synthct weights list`",
    )


def _imported_as(folder: Path) -> Entry | None:
    """The entry that the files in `folder` are of, under the name of the folder."""
    try:
        base = json.loads((folder / IMPORT_RECORD).read_text("utf-8"))["model"]
        original = entries()[base]
    except (OSError, ValueError, KeyError, TypeError):
        return None  # somebody else's file, or of a newer version
    changed = {"name": folder.name, "base": base, "source": IMPORTED, "hub": {}, "sha256": {}}
    return original.model_copy(update=changed)
