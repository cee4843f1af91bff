"""Which tensor of a file is which of the network: names and shapes only, so that it can be tested.

Files of MONAI GenerativeModels name attention and upsampling otherwise than MONAI does, and a
published ControlNet may leave out what it shares with the U-Net that it was copied from.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from synthct.errors import DamagedWeights

Shapes = Mapping[str, tuple[int, ...]]
_SHOWN = 4  # keys named in one message

_OLDER_NAMES = (
    (re.compile(r"^(.*)\.attn\.(to_[qkv])\.(\w+)$"), r"\1.\2.\3"),
    (re.compile(r"^(.*)\.attn\.out_proj\.(\w+)$"), r"\1.proj_attn.\2"),
    (re.compile(r"^(.*transformer_blocks.*)\.out_proj\.(\w+)$"), r"\1.to_out.0.\2"),
    (re.compile(r"^(.*)\.postconv\.(.*)$"), r"\1.conv.\2"),
)
"""MONAI's name of today → that of GenerativeModels (as MONAI's `load_old_state_dict` tells it)."""

_IDLE = re.compile(r"^(.*)\.proj_attn\.\w+$")
"""Saved by GenerativeModels and not used in its forward pass where MONAI has no such layer."""


class MisfitWeights(DamagedWeights):
    """Weights of another network. `mismatches` names every key, where the message names a few."""

    def __init__(self, message: str, hint: str, mismatches: Mapping[str, list[str]]) -> None:
        super().__init__(message, hint)
        self.mismatches = dict(mismatches)

    @property
    def kind(self) -> str:
        return DamagedWeights.__name__

    def as_dict(self) -> dict[str, object]:
        return {**super().as_dict(), "mismatches": self.mismatches}


@dataclass(frozen=True)
class Fit:
    """How the tensors of a file become those of a network."""

    source: Mapping[str, str]
    """Key of the network → key in the file."""
    copied: Mapping[str, str] = field(default_factory=dict)
    """Key of the network → key in the U-Net's file: what a ControlNet's file leaves out."""
    idle: tuple[str, ...] = ()
    """Keys of the file that no network uses."""

    @property
    def renamed(self) -> int:
        return sum(key != old for key, old in self.source.items())


def fit(wanted: Shapes, found: Shapes, path: Path, unet: Shapes | None = None) -> Fit:
    """Match the keys of a file with those of the network, strictly.

    Args:
        wanted: keys and shapes of the network.
        found: those of the file at `path`.
        unet: those of the file of the U-Net that this ControlNet was copied from.

    Raises:
        MisfitWeights: a key too few, too many, or of another shape.
    """
    source = _matched(wanted, found)
    copied = {} if unet is None else _shared(wanted, source, unet)
    left = set(found) - set(source.values())
    idle = tuple(sorted(key for key in left if _is_idle(key, wanted)))
    present = {key: found[old] for key, old in source.items()}
    present |= {key: wanted[key] for key in copied}
    present |= {key: found[key] for key in left.difference(idle)}
    require_same_keys(wanted, present, path)
    return Fit(source, copied, idle)


def require_same_keys(wanted: Shapes, found: Shapes, path: Path) -> None:
    """Raise MisfitWeights unless `found` has the keys and shapes of `wanted`, no more, no less."""
    mismatches = {
        "missing": sorted(wanted.keys() - found.keys()),
        "unexpected": sorted(found.keys() - wanted.keys()),
        "of another shape": [
            f"{key} {list(found[key])} instead of {list(wanted[key])}"
            for key in sorted(wanted.keys() & found.keys())
            if wanted[key] != found[key]
        ],
    }
    complaints = [_name(what, keys) for what, keys in mismatches.items() if keys]
    if complaints:
        raise MisfitWeights(
            f"{path} does not fit the network: {'; '.join(complaints)}",
            "these are weights of another model or version",
            mismatches,
        )


def older_names(key: str) -> Iterator[str]:
    """Names that `key` had in files of MONAI GenerativeModels."""
    for pattern, older in _OLDER_NAMES:
        if pattern.match(key):
            yield pattern.sub(older, key)


def _matched(wanted: Shapes, found: Shapes) -> dict[str, str]:
    source = {key: key for key in wanted if key in found}
    for key in wanted.keys() - source.keys():
        for older in older_names(key):
            if older in found and older not in wanted:
                source[key] = older
    return source


def _shared(wanted: Shapes, source: Mapping[str, str], unet: Shapes) -> dict[str, str]:
    """What the U-Net has under the same name and in the same shape (MONAI's copy_model_state)."""
    missing = {key: wanted[key] for key in wanted.keys() - source.keys()}
    matched = _matched(missing, unet)
    return {key: old for key, old in matched.items() if unet[old] == wanted[key]}


def _is_idle(key: str, wanted: Shapes) -> bool:
    match = _IDLE.match(key)
    return match is not None and f"{match[1]}.attn.to_q.weight" in wanted


def _name(what: str, keys: list[str]) -> str:
    more = f", … ({len(keys)} in all)" if len(keys) > _SHOWN else ""
    return f"{what}: {', '.join(keys[:_SHOWN])}{more}"
