"""What models there are, where their weights lie, and whether they are whole. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from synthct.checkpoints import catalogue, store
from synthct.checkpoints.catalogue import Entry
from synthct.checkpoints.pulled import read_pulled
from synthct.errors import DamagedWeights, MissingWeights, UnsafeWeights, WeightsError


def list_models() -> dict[str, Any]:
    """Every model of the catalogue, the default first, and whether its files are here."""
    return {
        "default": catalogue.DEFAULT_MODEL,
        "models": [_summary(entry) for entry in _all_entries()],
    }


def show(name: str = catalogue.DEFAULT_MODEL, weights: Path | None = None) -> dict[str, Any]:
    """The whole catalogue entry of a model, with its files on this machine.

    `conditions.mask` says whether it follows a mask; `revisions` the commit of each repository that
    was fetched from, which later pulls stay at.

    Raises:
        UsageError: the catalogue has no such model.
    """
    entry = catalogue.entry(name)
    folder = store.folder_of(entry, weights)
    return {
        **entry.model_dump(mode="json"),
        "conditions": {"mask": entry.task == "mask-to-ct", **entry.conditions.model_dump()},
        "revisions": {file.repo: file.revision for file in read_pulled(entry.name).files.values()},
        "folder": str(store.found_in(entry, weights)),
        "present": store.present(entry, weights),
        "card": _card(folder),
        "sha256": store.expected_sha256(entry, weights),
    }


def where(name: str | None = None, weights: Path | None = None) -> dict[str, Any]:
    """The folder of a model's files (of every model by default), and the cache."""
    entries = _all_entries() if name is None else [catalogue.entry(name)]
    return {
        "cache": str(store.cache_folder()),
        "models": {entry.name: str(store.found_in(entry, weights)) for entry in entries},
    }


def verify(names: Sequence[str] = (), weights: Path | None = None) -> dict[str, Any]:
    """Hash the files of `names` (by default: of every model that is here, and the default one).

    Raises:
        UsageError: the catalogue has no such model.
        MissingWeights: a file is not there.
        DamagedWeights: a file has another checksum than recorded, or cannot be read.
        UnsafeWeights: a link leads out of its folder.
    """
    checks = {entry.name: store.check(entry, weights) for entry in named(names, weights)}
    _raise_for([check for found in checks.values() for check in found])
    return {
        "passed": True,
        "models": {name: [check.as_dict() for check in found] for name, found in checks.items()},
    }


def named(names: Sequence[str], weights: Path | None = None) -> list[Entry]:
    """The entries called `names`; without a name, what is here, and the default model."""
    return [catalogue.entry(name) for name in names] or [
        entry for entry in _all_entries() if _worth_checking(entry, weights)
    ]


def _raise_for(checks: Sequence[store.FileCheck]) -> None:
    wrong = [check for check in checks if check.complaint()]
    if not wrong:
        return
    more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
    kind: type[WeightsError] = DamagedWeights
    if all(check.status == "missing" for check in wrong):
        kind = MissingWeights
    elif wrong[0].status == "outside":
        kind = UnsafeWeights
    raise kind(
        wrong[0].complaint() + more,
        "fetch the file again: `weights pull`, `weights import --overwrite`, or a new install",
    )


def _worth_checking(entry: Entry, weights: Path | None) -> bool:
    return entry.name == catalogue.DEFAULT_MODEL or store.present(entry, weights)


def _all_entries() -> list[Entry]:
    return [*catalogue.entries().values(), *catalogue.imported().values()]


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
        "steps": entry.default_steps,
        "guidance": entry.default_guidance,
        "guides": entry.guides,
        "base": entry.base,
        "present": store.present(entry, None),
    }


def _card(folder: Path) -> str | None:
    card = folder / "CARD.md"
    return str(card) if card.is_file() else None
