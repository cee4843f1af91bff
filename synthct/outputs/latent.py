"""A latent in a file (`.npz`): an autoencoder's code of a volume, and where that volume lies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, ValidationError

from synthct.atomic import replacing
from synthct.errors import InputError, UsageError
from synthct.geometry import Geometry

SUFFIX = ".npz"
_OF_VOLUMES = (".nii", ".nii.gz", ".nrrd", ".mha", ".mhd")


class LatentRecord(BaseModel):
    """What a latent needs to become a volume again.

    `shape` and `affine` are those of the encoded volume, in its own orientation; `unit_range` are
    the scanner units that 0 and 1 of the network stand for; `vae_sha256` names the weights.
    """

    model_config = ConfigDict(frozen=True)

    model: str
    vae_sha256: str
    modality: str
    unit_range: tuple[float, float]
    shape: tuple[int, int, int]
    affine: list[list[float]]
    tool_version: str

    @property
    def geometry(self) -> Geometry:
        return Geometry(self.shape, np.asarray(self.affine, dtype=np.float64))


def latent_path(path: Path) -> Path:
    """`path`, with the suffix that such a file has.

    Raises:
        UsageError: it is the name of a volume, or a folder.
    """
    if path.name.lower().endswith(_OF_VOLUMES) or path.is_dir():
        what = "a folder" if path.is_dir() else "the name of a volume"
        raise UsageError(f"{path}: {what}; a latent is no volume", f"name a file {SUFFIX}")
    return path if path.suffix == SUFFIX else path.with_name(path.name + SUFFIX)


def write_latent(
    path: Path, latent: npt.NDArray[np.float32], record: LatentRecord, *, overwrite: bool = False
) -> None:
    """Write (c, i, j, k) and its record; the file has its name only when complete.

    Raises:
        UsageError: it exists and `overwrite` is false.
        OutputError: the folder cannot be written, or the disk is full.
    """
    with replacing(path, overwrite=overwrite) as temporary, open(temporary, "wb") as file:
        np.savez(file, latent=latent, record=np.array(record.model_dump_json()))


def read_latent(path: Path) -> tuple[npt.NDArray[np.float32], LatentRecord]:
    """What `write_latent` wrote.

    Raises:
        InputError: no such file, or none of ours.
    """
    if not path.is_file():
        raise InputError(f"{path} does not exist", "write one with `synthct encode`")
    try:
        with np.load(path, allow_pickle=False) as file:
            latent: npt.NDArray[Any] = file["latent"]
            record = LatentRecord.model_validate(json.loads(str(file["record"])))
    except (OSError, ValueError, KeyError, BadZipFile, EOFError, ValidationError) as error:
        raise InputError(
            f"{path} is no latent of ours", "write one with `synthct encode`"
        ) from error
    if latent.ndim != 4 or latent.dtype != np.float32 or not np.isfinite(latent).all():
        raise InputError(f"{path} holds no finite float32 latent (c, i, j, k)")
    return latent, record
