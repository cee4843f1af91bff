"""What models there are, where their weights lie, and whether they are whole. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from synthct.checkpoints import catalogue, store
from synthct.checkpoints.catalogue import Entry
from synthct.errors import DamagedWeights, MissingWeights


def list_models() -> dict[str, Any]:
    """Every model of the catalogue, the default first, and whether its files are here."""
    return {
        "default": catalogue.DEFAULT_MODEL,
        "models": [_summary(entry) for entry in catalogue.entries().values()],
    }


def show(name: str = catalogue.DEFAULT_MODEL, weights: Path | None = None) -> dict[str, Any]:
    """The whole catalogue entry of a model, with its files on this machine.

    Raises:
        UsageError: the catalogue has no such model.
    """
    entry = catalogue.entry(name)
    folder = store.folder_of(entry, weights)
    return {
        **entry.model_dump(mode="json"),
        "folder": str(folder),
        "present": _present(entry, weights),
        "card": _card(folder),
        "sha256": store.expected_sha256(entry, folder),
    }


def where(name: str | None = None, weights: Path | None = None) -> dict[str, Any]:
    """The folder of a model's files (of every model by default), and the cache."""
    entries = catalogue.entries().values() if name is None else [catalogue.entry(name)]
    return {
        "cache": str(store.cache_folder()),
        "models": {entry.name: str(store.folder_of(entry, weights)) for entry in entries},
    }


def verify(names: Sequence[str] = (), weights: Path | None = None) -> dict[str, Any]:
    """Hash the files of `names` (by default: of every model that is here, and the default one).

    Raises:
        UsageError: the catalogue has no such model.
        MissingWeights: a file is not there.
        DamagedWeights: a file has another checksum than recorded, or cannot be read.
    """
    entries = [catalogue.entry(name) for name in names] or [
        entry for entry in catalogue.entries().values() if _worth_checking(entry, weights)
    ]
    checks = {entry.name: store.check(entry, weights) for entry in entries}
    _raise_for([check for found in checks.values() for check in found])
    return {
        "passed": True,
        "models": {name: [check.as_dict() for check in found] for name, found in checks.items()},
    }


def _raise_for(checks: Sequence[store.FileCheck]) -> None:
    wrong = [check for check in checks if check.complaint()]
    if not wrong:
        return
    more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
    kind = MissingWeights if all(c.status == "missing" for c in wrong) else DamagedWeights
    raise kind(wrong[0].complaint() + more, "install synthct again, or copy the file again")


def _worth_checking(entry: Entry, weights: Path | None) -> bool:
    return entry.name == catalogue.DEFAULT_MODEL or _present(entry, weights)


def _summary(entry: Entry) -> dict[str, Any]:
    return {
        "name": entry.name,
        "title": entry.title,
        "task": entry.task,
        "modality": entry.modality,
        "body_part": entry.body_part,
        "source": entry.source,
        "licence": entry.licence,
        "noncommercial": entry.noncommercial,
        "present": _present(entry, None),
    }


def _present(entry: Entry, weights: Path | None) -> bool:
    folder = store.folder_of(entry, weights)
    return all((folder / name).is_file() for name in entry.files.by_role().values())


def _card(folder: Path) -> str | None:
    card = folder / "CARD.md"
    return str(card) if card.is_file() else None
