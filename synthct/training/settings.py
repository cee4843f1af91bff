"""`--set key=value`: change a field of a recipe, whichever of its parts has it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from synthct.errors import UsageError

HolderT = TypeVar("HolderT")
COUNTS = ("steps", "accumulate", "sync_every", "save_every", "log_every", "looks", "draws")
"""Settings that are 1 or more, wherever they stand."""


def with_settings(holder: HolderT, settings: Mapping[str, str]) -> HolderT:
    """`holder`, a dataclass, with some fields replaced, each read as the type that it has.

    Fields of dataclasses inside it are found as well. Tuples are written `2,5`.

    Raises:
        UsageError: no such field, or a value that is none of its type.
    """
    known = settings_of(holder)
    for name in settings:
        if name not in known:
            raise UsageError(f"no setting {name!r}", f"one of: {', '.join(known)}")
    return _changed(holder, settings)


def settings_of(holder: Any) -> dict[str, Any]:
    """Every setting and its value, those of inner dataclasses included."""
    found: dict[str, Any] = {}
    for field in dataclasses.fields(holder):
        value = getattr(holder, field.name)
        found |= settings_of(value) if dataclasses.is_dataclass(value) else {field.name: value}
    return found


def _changed(holder: HolderT, settings: Mapping[str, str]) -> HolderT:
    changes: dict[str, Any] = {}
    hints = get_type_hints(type(holder))
    for field in dataclasses.fields(holder):  # type: ignore[arg-type]
        value = getattr(holder, field.name)
        if dataclasses.is_dataclass(value):
            changes[field.name] = _changed(value, settings)
        elif field.name in settings:
            changes[field.name] = _read(field.name, settings[field.name], hints[field.name])
    return dataclasses.replace(holder, **changes)  # type: ignore[type-var]


def _read(name: str, text: str, hint: Any) -> object:
    inner = [arg for arg in get_args(hint) if arg not in (type(None), Ellipsis)]
    if get_origin(hint) is tuple:
        parts = text.split(",")
        if Ellipsis not in get_args(hint) and len(parts) != len(inner):
            raise UsageError(f"{name}={text}: {len(inner)} values expected, e.g. 2,5")
        return tuple(_one(name, part, inner[0]) for part in parts)
    return _one(name, text, inner[0] if inner else hint)


def _one(name: str, text: str, kind: type) -> object:
    try:
        if kind is bool:
            return {"true": True, "false": False}[text.lower()]
        value: object = kind(text)
    except (ValueError, KeyError):
        raise UsageError(f"{name}={text}: {kind.__name__} expected") from None
    if name in COUNTS and isinstance(value, int) and value < 1:
        raise UsageError(f"{name}={text}: 1 or more expected")
    return value
