"""Which tensors the networks of a preset have: read from a list, so that no torch is needed.

The lists (`tensors/PRESET.tsv`: role, key, shape) are written by `make tensor-lists` from the
networks themselves; a test holds them to one another. A list that was written for another spec
than the one in `spec.py` says nothing, so a stale one never stands in the way of good weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources

from synthct.models.maisi.spec import MaisiSpec, preset
from synthct.record import fingerprint

Shapes = Mapping[str, tuple[int, ...]]
"""Key → shape of every tensor in one file."""

_SPEC = "# spec "


def tensors_of(name: str) -> dict[str, Shapes] | None:
    """Role (`vae`, `unet`, `controlnet`) → its tensors; None where no valid list is there."""
    file = resources.files("synthct.models.maisi") / "tensors" / f"{name}.tsv"
    if not file.is_file():
        return None
    head, *rows = file.read_text(encoding="utf-8").splitlines()
    if head.removeprefix(_SPEC) != spec_hash(preset(name)):
        return None
    found: dict[str, dict[str, tuple[int, ...]]] = {}
    for row in rows:
        role, key, shape = row.split("\t")
        found.setdefault(role, {})[key] = tuple(int(n) for n in shape.split("x") if n)
    return dict(found)


def spec_hash(spec: MaisiSpec) -> str:
    """Of the parameters that decide the shapes."""
    said = spec.as_dict()
    return fingerprint({k: said[k] for k in ("autoencoder", "unet", "embedding_channels")})


def format_list(spec: MaisiSpec, tensors: Mapping[str, Shapes]) -> str:
    """The text of a list; `tensors_of` reads it back."""
    rows = [
        f"{role}\t{key}\t{'x'.join(str(n) for n in shape)}"
        for role, shapes in tensors.items()
        for key, shape in shapes.items()
    ]
    return "\n".join([_SPEC + spec_hash(spec), *rows]) + "\n"
