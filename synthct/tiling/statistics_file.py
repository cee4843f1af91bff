"""Statistics that outlive a run: a decode of hours goes on where it was interrupted."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from synthct.atomic import replacing
from synthct.tiling.statistics import Moments

_PREFIX = "boundary."
_IDENTITY = "identity"


class StatisticsFile(MutableMapping[int, Moments]):
    """The statistics at each boundary, kept in a safetensors file of a few kilobytes.

    Args:
        path: written anew, whole, whenever something becomes known.
        identity: what the statistics are of (weights, input, precision). A file of something else
            is not used, and is overwritten.
    """

    def __init__(self, path: Path, identity: str) -> None:
        self._path, self._identity = path, identity
        self._packed = self._read() if path.exists() else {}

    def _read(self) -> dict[int, torch.Tensor]:
        try:
            found = load_file(self._path)
        except SafetensorError:  # cut off by hand, say: it is only a memory aid
            return {}
        if bytes(found.pop(_IDENTITY, torch.zeros(0)).byte().tolist()).decode() != self._identity:
            return {}
        return {int(name.removeprefix(_PREFIX)): packed for name, packed in found.items()}

    def __getitem__(self, boundary: int) -> Moments:
        return Moments.unpacked([self._packed[boundary]])

    def __setitem__(self, boundary: int, moments: Moments) -> None:
        self._packed[boundary] = moments.packed(channels=0)
        self._save()

    def __delitem__(self, boundary: int) -> None:
        del self._packed[boundary]
        self._save()

    def __iter__(self) -> Iterator[int]:
        return iter(self._packed)

    def __len__(self) -> int:
        return len(self._packed)

    def _save(self) -> None:
        identity = torch.tensor(list(self._identity.encode()), dtype=torch.uint8)
        tensors = {f"{_PREFIX}{boundary}": packed for boundary, packed in self._packed.items()}
        with replacing(self._path, overwrite=True) as unfinished:
            save_file({_IDENTITY: identity, **tensors}, unfinished)
