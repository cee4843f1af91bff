"""How organ names are read: the same organ under different spellings."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_SYNONYMS = Path(__file__).with_name("synonyms.toml")
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")
_WORD = re.compile(r"[^\W_]+")
_GENERIC = re.compile(r"(label|segment|class|region|roi|structure)?[\s_-]*\d*", re.IGNORECASE)
_BACKGROUND = frozenset({"background", "bg", "clear label", "unlabeled", "unlabelled"})


@dataclass(frozen=True)
class Synonyms:
    """What `synonyms.toml` says: words left out, words and whole names written otherwise."""

    ignored: frozenset[str]
    words: Mapping[str, str]
    names: Mapping[str, str]


@lru_cache(maxsize=1)
def synonyms() -> Synonyms:
    with _SYNONYMS.open("rb") as file:
        table = tomllib.load(file)
    return Synonyms(frozenset(table["ignored"]), table["words"], table["names"])


def spelling(name: str) -> str:
    """`name` in lower case with single spaces: equal spellings are the same label.

    >>> spelling("Kidney_Left")
    'kidney left'
    """
    return re.sub(r"[\s_-]+", " ", name.casefold()).strip()


def words(name: str) -> frozenset[str]:
    """The words that matter in `name`, in no order: equal sets are the same organ.

    >>> sorted(words("kidney_left")) == sorted(words("Left Kidney"))
    True
    """
    known = synonyms()
    found = _WORD.findall(_CAMEL.sub(" ", name).casefold())
    return frozenset(known.words.get(w, w) for w in found if w not in known.ignored)


def one_line(text: str, most: int = 40) -> str:
    """`text` as it can stand in a message: no control characters, not longer than `most`."""
    shown = "".join(c if c.isprintable() else "?" for c in text[: most + 1])
    return shown if len(shown) <= most else f"{shown[: most - 1]}…"


def is_background(name: str) -> bool:
    return spelling(name) in _BACKGROUND


def is_generic(name: str) -> bool:
    """True for names that name nothing: empty, a number, "Label 3", "Segment_1"."""
    return _GENERIC.fullmatch(name.strip()) is not None
