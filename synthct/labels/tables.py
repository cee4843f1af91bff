"""Label tables as people write them: our own TOML or JSON, and nnU-Net's dataset.json.

A table has `labels`, id → name or (nnU-Net since version 2) name → id. It may have `name`,
`title`, `source`, and `maisi`, id → MAISI id or MAISI name, for labels whose counterpart does not
follow from their name; 0 there says that MAISI has none. Files come from anywhere, so everything
in them is checked before it is used.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synthct.errors import MaskError
from synthct.labels.groups import group_of
from synthct.labels.names import is_background, one_line

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SUFFIXES = (".toml", ".json")
MAX_ID = 65_535
MAX_NAME = 200
MAX_BYTES = 1_000_000
FREE_IDS = (2, 16, 18, 20, 21, 129, 130, 131)
"""MAISI's numbers without an organ: for classes of one's own, after fine-tuning on them."""

Resolve = Callable[[str], "int | None"]


@dataclass(frozen=True)
class Table:
    """A checked label table; `maisi` has an entry for every label."""

    name: str
    title: str
    source: str
    labels: Mapping[int, str]
    maisi: Mapping[int, int]
    reserved: Mapping[int, str]


def read(path: Path, *, resolve: Resolve, taken: Collection[str] = ()) -> Table:
    """Read a user's table. `taken` are names that it may not have.

    Raises:
        MaskError: missing, unreadable, too large, not TOML or JSON, or no label table.
    """
    table = parse(_load(path), where=str(path), resolve=resolve, default_name=path.stem)
    if table.name in taken:
        raise MaskError(
            f"{path} calls itself {table.name!r}, which is a built-in labelling scheme",
            "give it another name",
        )
    if not any(table.maisi.values()):
        raise MaskError(
            f"{path}: none of its {len(table.labels)} names is known "
            f"({_shorten(table.labels.values())})",
            "add a [maisi] table: id = MAISI id or name (`synthct mask info` lists them)",
        )
    return table


def parse(data: object, *, where: str, resolve: Resolve, default_name: str = "custom") -> Table:
    """Check a table that was read from `where`; `resolve` finds the MAISI id of a name.

    Raises:
        MaskError: it is no label table; the message says where it is not.
    """
    if not isinstance(data, dict) or not isinstance(data.get("labels"), dict):
        raise _bad(where, 'no table "labels"', 'write labels as id = "name"')
    labels = _labels(data["labels"], where)
    reserved = _labels(data["reserved"], where) if "reserved" in data else {}
    name = _text(data.get("name", default_name), where) or default_name
    return Table(
        name=name,
        title=_text(data.get("title", name), where),
        source=_text(data.get("source", where), where),
        labels=labels,
        maisi=_counterparts(data.get("maisi", {}), labels, where, resolve),
        reserved=reserved,
    )


def _load(path: Path) -> object:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        reason = error.strerror or str(error)
        raise MaskError(f"cannot read the label table {path}: {reason}", "check --labels") from None
    if len(raw) > MAX_BYTES:
        raise _bad(str(path), f"larger than {MAX_BYTES:,} bytes", "is it the right file?")
    kind = path.suffix.lower().lstrip(".").upper()
    try:
        text = raw.decode("utf-8-sig")
        if kind == "TOML":
            return tomllib.loads(text)
        return json.loads(text, object_pairs_hook=_no_duplicates)
    except (ValueError, RecursionError) as error:
        reason = one_line(str(error), most=120) or "nested too deeply"
        raise _bad(str(path), f"not {kind} ({reason})", "correct the file") from None


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return found


def _labels(table: Mapping[str, object], where: str) -> dict[int, str]:
    labels: dict[int, str] = {}
    for key, value in table.items():
        label, name = _entry(key, value, where)
        if not name:
            raise _bad(where, f"{label} has an empty name", "give every id a name")
        if label == 0:
            if not is_background(name):
                raise _bad(
                    where,
                    f"0 is called {one_line(name)!r}",
                    "0 is the background; use ids from 1 up",
                )
            continue
        if is_background(name):
            raise _bad(where, f"{label} is called {name!r}", "the background is 0")
        if label in labels:
            raise _bad(where, f"id {label} stands twice", "one name for each id")
        labels[label] = name
    if not labels:
        raise _bad(where, "it names no label", 'write labels as id = "name"')
    return dict(sorted(labels.items()))


def _entry(key: str, value: object, where: str) -> tuple[int, str]:
    if isinstance(value, (list, dict)):
        raise _bad(
            where,
            f"label {one_line(key)!r} is a region of several ids, not one id",
            "write a table with one id for each label (region-based training has none)",
        )
    if isinstance(value, str) and not (_is_number(value) and not _is_number(key)):
        return _id(key, where), _text(value, where)
    return _id(value, where), _text(key, where)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _id(value: object, where: str) -> int:
    if isinstance(value, str) and _is_number(value) and len(value) <= len(str(MAX_ID)):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_ID:
        raise _bad(where, f"{_shorten([value])} is no label id", f"ids are 0 to {MAX_ID}")
    return value


def _text(value: object, where: str) -> str:
    if not isinstance(value, str) or not value.isprintable() or len(value) > MAX_NAME:
        raise _bad(
            where, f"{_shorten([value])} is no name", f"one line of at most {MAX_NAME} characters"
        )
    return value.strip()


def _counterparts(
    explicit: object, labels: Mapping[int, str], where: str, resolve: Resolve
) -> dict[int, int]:
    if not isinstance(explicit, dict):
        raise _bad(where, '"maisi" is no table', "write it as id = MAISI id or name")
    given = {_id(key, where): _maisi(value, where, resolve) for key, value in explicit.items()}
    strangers = sorted(set(given) - set(labels))
    if strangers:
        raise _bad(where, f'"maisi" has ids without a label: {_shorten(strangers)}', "name them")
    return {
        label: given[label] if label in given else resolve(name) or 0
        for label, name in labels.items()
    }


def _maisi(value: object, where: str, resolve: Resolve) -> int:
    found = resolve(value) if isinstance(value, str) else value
    whole = isinstance(found, int) and not isinstance(found, bool)
    if isinstance(found, int) and whole and (found in (0, *FREE_IDS) or group_of(found)):
        return found
    raise _bad(
        where,
        f"{_shorten([value])} is no MAISI label",
        "MAISI ids are 1 to 132, 200 for body, 0 for none; a new structure takes a free number: "
        + ", ".join(str(free) for free in FREE_IDS),
    )


def _shorten(values: Collection[object], most: int = 5) -> str:
    shown = [one_line(str(value)) for value in list(values)[:most]]
    return ", ".join(shown) + (", …" if len(values) > most else "")


def _bad(where: str, what: str, hint: str) -> MaskError:
    return MaskError(f"{where} is no label table: {what}", hint)
