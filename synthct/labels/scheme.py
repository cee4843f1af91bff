"""Labelling schemes: which number stands for which organ, and for which MAISI label.

The built-in schemes are the files of `schemes/`; a user's own are read by the same rules.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from synthct.errors import UsageError
from synthct.labels import names as _names
from synthct.labels import tables
from synthct.labels.groups import BODY

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["BODY", "Scheme", "load_scheme", "maisi_id", "maisi_name", "scheme_names"]

_FOLDER = Path(__file__).with_name("schemes")
_ORDER = (
    "maisi",
    "totalsegmentator",
    "totalsegmentator-v1",
    "vista3d",
    "btcv",
    "amos",
    "flare22",
    "word",
    "totalsegmentator-body",
    "totalsegmentator-lung-nodules",
    "totalsegmentator-liver-vessels",
)


@dataclass(frozen=True)
class Scheme:
    """A labelling scheme.

    Attributes:
        labels: id → name as the scheme writes it; the ids that the scheme knows.
        maisi: id → MAISI id, 0 where MAISI has no counterpart (becomes body, and is listed).
        reserved: ids that the scheme keeps free; they name no organ and are not known.
    """

    name: str
    title: str
    source: str
    labels: Mapping[int, str]
    maisi: Mapping[int, int]
    reserved: Mapping[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for attribute in ("labels", "maisi", "reserved"):
            frozen = MappingProxyType(dict(getattr(self, attribute)))
            object.__setattr__(self, attribute, frozen)

    def knows(self, ids: Iterable[int]) -> bool:
        return all(label in self.labels for label in ids)

    def inverse(self) -> Mapping[int, int]:
        """MAISI id → id of this scheme; the first one where several share a MAISI label."""
        back: dict[int, int] = {}
        for label in sorted(self.labels):
            target = self.maisi.get(label, 0)
            if target:
                back.setdefault(target, label)
        return back

    def restricted(self, ids: Iterable[int]) -> Scheme:
        """The same scheme, knowing only those of its labels that are among `ids`."""
        kept = {label: self.labels[label] for label in sorted(set(ids)) if label in self.labels}
        return replace(self, labels=kept, maisi={label: self.maisi[label] for label in kept})

    def rekeyed(self, named: Mapping[int, str]) -> Scheme:
        """The labels of this scheme under other ids: `named` is id → a name of this scheme.

        Raises:
            KeyError: a name is not of this scheme.
        """
        home = {_names.spelling(name): label for label, name in self.labels.items()}
        old = {label: home[_names.spelling(name)] for label, name in named.items()}
        labels = {label: self.labels[own] for label, own in old.items()}
        maisi = {label: self.maisi[own] for label, own in old.items()}
        return replace(self, labels=labels, maisi=maisi, reserved={})


def scheme_names() -> tuple[str, ...]:
    """The built-in schemes, the target first."""
    return _ORDER


def load_scheme(name_or_path: str) -> Scheme:
    """A built-in scheme by name, or a file: FILE.toml, FILE.json, nnU-Net's dataset.json.

    Raises:
        UsageError: neither a built-in name nor a .toml or .json file.
        MaskError: the file is missing or is no label table (`tables.py` says what one is).
    """
    if name_or_path in _ORDER:
        return _builtin(name_or_path)
    path = Path(name_or_path)
    if path.suffix.lower() in tables.SUFFIXES:
        return _from_table(tables.read(path, resolve=maisi_id, taken=_ORDER))
    close = difflib.get_close_matches(name_or_path.casefold(), _ORDER, n=1)
    raise UsageError(
        f"no labelling scheme {name_or_path!r}; known: {', '.join(_ORDER)}, FILE.toml, FILE.json",
        f"did you mean {close[0]}?" if close else "pass one of them to --labels",
    )


def maisi_name(maisi: int) -> str:
    """The name of a MAISI id ("liver", "body", also "dummy1").

    Raises:
        KeyError: no such id.
    """
    scheme = _builtin("maisi")
    return scheme.labels.get(maisi) or scheme.reserved[maisi]


def maisi_id(name: str) -> int | None:
    """The MAISI id that `name` stands for, whatever the order and spelling of its words.

    None where it is nobody's name, or the name of a whole of which MAISI knows only parts.

    >>> maisi_id("kidney_right"), maisi_id("Right kidney"), maisi_id("kidney")
    (5, 5, None)
    """
    return _index().get(_names.words(name))


@lru_cache(maxsize=len(_ORDER))
def _builtin(name: str) -> Scheme:
    with (_FOLDER / f"{name}.toml").open("rb") as file:
        data: dict[str, Any] = tomllib.load(file)
    if name == "maisi":  # names are resolved through this scheme, so it cannot be itself resolved
        home = {text: int(label) for label, text in data["labels"].items()}
        return _from_table(tables.parse(data, where=name, resolve=home.get))
    return _from_table(tables.parse(data, where=name, resolve=maisi_id))


def _from_table(table: tables.Table) -> Scheme:
    return Scheme(
        name=table.name,
        title=table.title,
        source=table.source,
        labels=table.labels,
        maisi=table.maisi,
        reserved=table.reserved,
    )


@lru_cache(maxsize=1)
def _index() -> Mapping[frozenset[str], int]:
    own = {text: label for label, text in _builtin("maisi").labels.items()}
    index = {_names.words(text): label for text, label in own.items()}
    for other, text in _names.synonyms().names.items():
        index.setdefault(_names.words(other), own[text])
    return index
