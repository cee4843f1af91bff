"""Published files become ours: each matched with its network, then written once as safetensors."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from synthct.atomic import write_text
from synthct.checkpoints.catalogue import IMPORT_RECORD
from synthct.checkpoints.container import SCALE_FACTOR, SKIP, Container
from synthct.checkpoints.load import write_tensors
from synthct.checkpoints.naming import Fit
from synthct.checkpoints.places import cache_folder
from synthct.checkpoints.store import CHECKSUMS, read_checksums
from synthct.errors import DamagedWeights
from synthct.record import sha256_of


@dataclass(frozen=True)
class Matched:
    """One file whose every tensor has its place in a network.

    `unet` is the file that gives what a ControlNet's own leaves out.
    """

    role: str
    path: Path
    container: Container
    how: Fit
    unet: Container | None = None

    def tensors(self) -> dict[str, Tensor]:
        """The network's tensors under its own names, still on the mapped files.

        Raises:
            DamagedWeights: a value that is not finite.
        """
        own = {key: self.container.tensors[old] for key, old in self.how.source.items()}
        if self.unet is not None:
            own |= {key: self.unet.tensors[old] for key, old in self.how.copied.items()}
        for key, tensor in own.items():
            if tensor.is_floating_point() and not torch.isfinite(tensor).all():
                raise DamagedWeights(f"{self.path}: {key} holds values that are not finite")
        return own

    def as_dict(self) -> dict[str, object]:
        return {
            "file": self.path.name,
            "layout": self.container.layout,
            "tensors": len(self.how.source) + len(self.how.copied),
            "renamed": self.how.renamed,
            "copied_from_unet": len(self.how.copied),
            "unused": list(self.how.idle),
        }


def write_import(
    name: str, model: str, files: Mapping[str, str], matched: list[Matched]
) -> dict[str, dict[str, object]]:
    """Write the matched files as `cache/NAME/*.safetensors`: all of them, or none.

    Args:
        name: what the user calls it.
        model: the catalogue entry that it is of.
        files: role → file name.
        matched: one per role; files of other roles that are there already stay.

    Returns what was written, by role.

    Raises:
        OutputError: the cache cannot be written, or the disk is full.
        DamagedWeights: a value that is not finite.
    """
    folder = cache_folder() / name
    with _staging(folder) as staging:
        written = {one.role: _convert(one, staging / files[one.role]) for one in matched}
        folder.mkdir(parents=True, exist_ok=True)
        for one in matched:
            os.replace(staging / files[one.role], folder / files[one.role])
    sums = {files[role]: str(said["sha256"]) for role, said in written.items()}
    _write_checksums(folder, sums)
    _write_record(folder, model, written)
    return written


def imported_roles(name: str, files: Mapping[str, str]) -> set[str]:
    """Roles of which a file of this import is there."""
    return {role for role, file in files.items() if (cache_folder() / name / file).is_file()}


def _convert(one: Matched, target: Path) -> dict[str, object]:
    source = sha256_of(one.path)
    said = {"layout": one.container.layout, "source": one.path.name, "source_sha256": source}
    stated = one.container.metadata
    said |= {key: stated[key] for key in (SCALE_FACTOR, SKIP) if key in stated}
    write_tensors(target, one.tensors(), said)
    return {**one.as_dict(), "source_sha256": source, "sha256": sha256_of(target)}


@contextmanager
def _staging(folder: Path) -> Iterator[Path]:
    """A folder beside, gone afterwards: what is half written never lies under its name."""
    staging = folder.with_name(f".partial-{uuid.uuid4().hex[:8]}-{folder.name}")
    try:
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _write_checksums(folder: Path, new: Mapping[str, str]) -> None:
    path = folder / CHECKSUMS
    sums = {**read_checksums(path), **new}
    lines = [f"{digest}  {file}\n" for file, digest in sorted(sums.items())]
    write_text(path, "".join(lines), overwrite=True)


def _write_record(folder: Path, model: str, written: Mapping[str, object]) -> None:
    path = folder / IMPORT_RECORD
    before = json.loads(path.read_text("utf-8"))["files"] if path.is_file() else {}
    record = {"model": model, "files": {**before, **written}}
    write_text(path, json.dumps(record, indent=2) + "\n", overwrite=True)
