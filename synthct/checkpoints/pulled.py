"""What was fetched from the hub: which file, of which commit, with which checksum. No torch.

The files stay in the hub's own cache; this record beside our imports says which ones are meant.
A checksum that nobody published is trusted on first use and held against ever after.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, NonNegativeInt, ValidationError

from synthct.atomic import write_text
from synthct.checkpoints.entry import Commit, Sha256
from synthct.checkpoints.places import cache_folder, hub_repository, hub_snapshot
from synthct.errors import DamagedWeights

PULL_RECORD = "pulled.json"
Trust = Literal["catalogue", "hub", "first use"]


class PulledFile(BaseModel):
    """One file in the hub's cache.

    `trust`: the checksum is the catalogue's, the hub's own, or that of the first fetch.
    """

    model_config = ConfigDict(frozen=True)

    repo: str
    path: str
    revision: Commit
    sha256: Sha256
    size_bytes: NonNegativeInt
    trust: Trust

    @property
    def location(self) -> Path:
        return hub_snapshot(self.repo, self.revision, self.path)

    @property
    def home(self) -> Path:
        """The folder that the file lies in once its link is followed."""
        return hub_repository(self.repo)


class Pulled(BaseModel):
    """Everything that was fetched of one model, by role and by name of the data."""

    model_config = ConfigDict(frozen=True)

    files: dict[str, PulledFile] = {}
    data: dict[str, PulledFile] = {}

    def known(self, repo: str, path: str) -> PulledFile | None:
        """The record of this file, whatever it was fetched as."""
        everything = (*self.files.values(), *self.data.values())
        return next((f for f in everything if (f.repo, f.path) == (repo, path)), None)


def record_path(model: str) -> Path:
    return cache_folder() / model / PULL_RECORD


def read_pulled(model: str) -> Pulled:
    """The record of a model; an empty one where nothing was fetched.

    Raises:
        DamagedWeights: the record cannot be read.
    """
    path = record_path(model)
    if not path.is_file():
        return Pulled()
    try:
        return Pulled.model_validate_json(path.read_text("utf-8"))
    except (OSError, ValidationError) as error:
        raise DamagedWeights(
            f"{path} is no record of fetched weights", f"delete it and pull {model} again"
        ) from error


def write_pulled(model: str, pulled: Pulled) -> None:
    write_text(record_path(model), pulled.model_dump_json(indent=2) + "\n", overwrite=True)
