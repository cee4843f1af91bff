"""Encoded cases: mean and sigma of whole volumes in an `.npz`; sampling happens on load.

A stored sample would carry its noise through all of training (27.5 % of the published latents'
variance); with mean and sigma every look at a case draws its own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from synthct.atomic import replacing
from synthct.errors import InputError
from synthct.volume.manifest import FILE_NAME, IMAGES, LATENTS, MIRRORED, PAIRS, read_manifest

Stored = npt.NDArray[np.float16]
_AGAIN = "encode again: synthct prepare … --encode DIR, with --mirrored if it was"


@dataclass
class EncodedCase:
    """One file of latents; its arrays are read once and held (float16)."""

    path: Path

    @cached_property
    def _arrays(self) -> dict[str, npt.NDArray[Any]]:
        with np.load(self.path, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}

    @property
    def name(self) -> str:
        """Of the case, of whose volume or its mirror image this is the latent."""
        return self.path.stem.removesuffix(MIRRORED)

    @property
    def meta(self) -> dict[str, Any]:
        return dict(json.loads(str(self._arrays["meta"])))

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        i, j, k = (float(s) for s in self._arrays["spacing_mm"])
        return i, j, k

    @property
    def mean(self) -> torch.Tensor:
        """(1, C, x, y, z), float32."""
        return torch.from_numpy(self._arrays["mean"].astype(np.float32))[None]

    @property
    def labels(self) -> npt.NDArray[np.uint8] | None:
        """MAISI ids on the image's grid, padded as the image was; None without a pair."""
        return self._arrays.get("labels")

    @property
    def known(self) -> npt.NDArray[np.uint8] | None:
        """Where the labels are sure."""
        return self._arrays.get("known")

    def sample(self, rng: np.random.Generator) -> torch.Tensor:
        """A draw from N(mean, sigma²), (1, C, x, y, z), float32."""
        mean, sigma = (self._arrays[name].astype(np.float32) for name in ("mean", "sigma"))
        noise = rng.standard_normal(mean.shape, dtype=np.float32)
        return torch.from_numpy(mean + sigma * noise)[None]


def pair_folder(dataset: Path) -> Path:
    """Where the latents of pairs lie, with their labels."""
    return dataset / LATENTS / PAIRS


def save_encoded(
    path: Path,
    mean: torch.Tensor,
    sigma: torch.Tensor,
    spacing_mm: tuple[float, float, float],
    meta: Mapping[str, object],
    **more: npt.NDArray[Any],
) -> None:
    """Write mean and sigma (1, C, x, y, z) as float16, whole or not at all, over an older file.

    Raises:
        InputError: a value that float16 does not hold.
    """
    arrays = {"mean": _half(path, mean), "sigma": _half(path, sigma), **more}
    with replacing(path, overwrite=True) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(
            file,
            allow_pickle=False,
            spacing_mm=np.asarray(spacing_mm, np.float32),
            meta=np.array(json.dumps(dict(meta), sort_keys=True)),
            **arrays,
        )


def encoded_cases(folder: Path, vae_sha256: str) -> list[EncodedCase]:
    """The encoded cases in `folder`, in order of name, none where there is no such folder.

    In a dataset with a manifest these are its training cases: a latent that an earlier split left
    behind is not read.

    Raises:
        InputError: they were encoded by another autoencoder, or from an image or pair that was
            prepared anew since.
    """
    found = [EncodedCase(path) for path in sorted(folder.glob("*.npz"))]
    sources = _sources(folder) if found else None
    if sources is not None:
        found = [case for case in found if case.name in sources]
    for case in found:
        if case.meta.get("vae_sha256") != vae_sha256:
            raise InputError(
                f"{case.path} was encoded by another autoencoder than this run's", _AGAIN
            )
        if sources is not None and case.meta.get("source_sha256") != sources[case.name]:
            raise InputError(
                f"{case.path} was encoded before {case.name} was prepared as it is now", _AGAIN
            )
    return found


def _sources(folder: Path) -> dict[str, str] | None:
    """Case → hash of the prepared file that is trained on; None: no manifest says so."""
    pairs = folder.parent.name == LATENTS
    manifest = (folder.parent.parent if pairs else folder.parent) / FILE_NAME
    if not manifest.is_file():
        return None
    return read_manifest(manifest).prepared_in(PAIRS if pairs else IMAGES)


def _half(path: Path, values: torch.Tensor) -> Stored:
    half: Stored = values[0].numpy().astype(np.float16)
    if not np.isfinite(half).all():
        raise InputError(f"{path.name}: a latent that is no number, or too large for float16")
    return half
