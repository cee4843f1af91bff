"""Where weights lie on this machine, and whether they are what they should be. No torch."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Literal

from synthct.checkpoints.catalogue import IMPORT_RECORD, IMPORTED, Entry
from synthct.checkpoints.places import cache_folder, embedded_folder
from synthct.checkpoints.pulled import Pulled, read_pulled
from synthct.errors import DamagedWeights, MissingWeights, UnsafeWeights
from synthct.record import sha256_of

CHECKSUMS = "SHA256SUMS"
Status = Literal["ok", "missing", "mismatch", "damaged", "unlisted", "outside"]

_OLD_START = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""The pickled magic number of `torch.save(…, _use_new_zipfile_serialization=False)`."""
_SUM_LINE = re.compile(r"^([0-9a-fA-F]{64}) [ *](.+)$")


__all__ = [
    "CHECKSUMS",
    "FileCheck",
    "Weights",
    "cache_folder",
    "check",
    "data_file",
    "embedded_folder",
    "expected_sha256",
    "folder_of",
    "found_in",
    "is_old_layout",
    "locate",
    "present",
    "read_checksums",
    "verify",
]


@dataclass(frozen=True)
class Weights:
    """The files of one model on this machine, by role (`vae`, `unet`, `controlnet`)."""

    model: str
    folder: Path
    files: Mapping[str, Path]
    homes: Mapping[str, Path] = field(default_factory=dict)

    def within(self, role: str) -> Path:
        """The folder that the file may not lead out of: the hub's cache keeps links."""
        return self.homes.get(role, self.files[role].parent)

    def sha256(self) -> dict[str, str]:
        return {role: _hashed(path) for role, path in self.files.items()}


@dataclass(frozen=True)
class FileCheck:
    """What the check of one file found.

    `damaged`: no readable header. `unlisted`: readable, and no checksum is recorded for it.
    `outside`: a link that leads out of its folder, which the loader refuses.
    """

    role: str
    path: Path
    status: Status
    size_bytes: int = 0
    actual: str = ""
    expected: str = ""

    def complaint(self) -> str:
        """One line about what is wrong; empty if nothing is."""
        if self.status == "missing":
            return f"{self.path} is missing"
        if self.status == "outside":
            return f"{self.path} is a link that leads out of its folder"
        if self.status == "damaged":
            return f"{self.path} ({self.size_bytes} bytes) is no whole {self.path.suffix[1:]} file"
        if self.status == "mismatch":
            sums = f"{self.actual[:12]}, recorded is {self.expected[:12]}"
            return f"{self.path} is not the file it should be: its sha256 begins {sums}"
        return ""

    def as_dict(self) -> dict[str, object]:
        return {
            "role": self.role,
            "path": str(self.path),
            "status": self.status,
            "size_bytes": self.size_bytes,
            "sha256": self.actual,
            "expected": self.expected,
        }


def folder_of(entry: Entry, weights: Path | None = None) -> Path:
    """Where the files of `entry` belong; `weights` (the option) goes before everything.

    `weights` is the folder of the files, one that holds a folder named as the model, or the name
    of an import.
    """
    if weights is None:
        return embedded_folder(entry.name) if entry.embedded else cache_folder() / entry.name
    weights = Path(weights).expanduser()
    if not weights.exists() and _is_import(cache_folder() / weights.name, str(weights)):
        return cache_folder() / weights.name
    named = weights / entry.name
    return named if named.is_dir() else weights


def locate(
    entry: Entry, weights: Path | None = None, roles: Collection[str] | None = None
) -> Weights:
    """The files of `entry` (of `roles` alone, where given), all present and none empty.

    Raises:
        MissingWeights: the folder or a file is not there.
        DamagedWeights: a file is empty, or is no regular file.
    """
    folder = folder_of(entry, weights)
    found = _places(entry, weights, roles)
    absent = [place.path.name for place in found.values() if not place.path.exists()]
    if absent:
        raise MissingWeights(
            f"{entry.name}: {', '.join(absent)} not found in {folder}", _how_to_get(entry, weights)
        )
    for place in found.values():
        if not place.path.is_file() or place.path.stat().st_size == 0:
            raise DamagedWeights(
                f"{place.path} is empty or not a file", _how_to_get(entry, weights)
            )
    files = {role: place.path for role, place in found.items()}
    homes = {role: place.home for role, place in found.items()}
    return Weights(entry.name, folder, files, homes)


def found_in(entry: Entry, weights: Path | None = None) -> Path:
    """The folder that the files lie in, or belong in where they are missing."""
    homes = [place.home for place in _places(entry, weights).values() if place.path.is_file()]
    return homes[-1] if homes else folder_of(entry, weights)


def present(entry: Entry, weights: Path | None = None) -> bool:
    """Whether every file of the model is on this machine."""
    return all(place.path.is_file() for place in _places(entry, weights).values())


def data_file(entry: Entry, name: str, weights: Path | None = None) -> Path:
    """A published file beside the weights (`entry.data`): of their folder, imported, or fetched.

    Raises:
        MissingWeights: it is not there, or the model has none of that name.
    """
    published, model = entry.data[name], entry.base or entry.name
    folder = folder_of(entry, weights)
    beside = [folder / published.name, folder / published.path, folder.parent / published.path]
    pulled = read_pulled(model).data.get(name)
    known = [] if pulled is None or weights is not None else [pulled.location]
    for path in (*beside, *known):
        if path.is_file():
            return path
    raise MissingWeights(
        f"{entry.name}: its {name} ({published.name}) is not on this machine",
        f"`synthct weights pull {model}{' --data' if published.optional else ''}`, or put the file "
        f"into {folder}",
    )


def expected_sha256(entry: Entry, weights: Path | None = None) -> dict[str, str]:
    """Checksum per role, '' where none is known.

    The catalogue's, else that of `SHA256SUMS` in the folder, else that of the fetch.
    """
    return {role: place.expected for role, place in _places(entry, weights).items()}


def check(
    entry: Entry, weights: Path | None = None, roles: Collection[str] | None = None
) -> list[FileCheck]:
    """Compare every file with its recorded checksum. Says what is wrong, raises nothing for it."""
    return [_check_file(role, place) for role, place in _places(entry, weights, roles).items()]


def verify(
    entry: Entry, weights: Path | None = None, roles: Collection[str] | None = None
) -> Weights:
    """Locate the files and hold each against its checksum, where one is recorded.

    Raises:
        MissingWeights: a file is not there.
        DamagedWeights: a file differs from its checksum.
        UnsafeWeights: a link leads out of the folder.
    """
    found = locate(entry, weights, roles)
    for result in check(entry, weights, roles):
        if result.status == "outside":
            raise UnsafeWeights(result.complaint(), "copy the file itself")
        if result.status in ("mismatch", "damaged"):
            raise DamagedWeights(result.complaint(), _how_to_get(entry, weights))
    return found


@dataclass(frozen=True)
class _Place:
    """Where one file is looked for, what it may not lead out of, and its checksum if known."""

    path: Path
    home: Path
    expected: str


def _places(
    entry: Entry, weights: Path | None, roles: Collection[str] | None = None
) -> dict[str, _Place]:
    folder = folder_of(entry, weights)
    listed = read_checksums(folder / CHECKSUMS)
    pulled = read_pulled(entry.name) if weights is None and entry.hub else Pulled()
    return {
        role: _place(entry, role, folder, listed, pulled)
        for role in entry.files.by_role()
        if roles is None or role in roles
    }


def _place(
    entry: Entry, role: str, folder: Path, listed: Mapping[str, str], pulled: Pulled
) -> _Place:
    """Ours first, then a file under its published name, then the hub's cache."""
    name = entry.files.by_role()[role]
    own = _Place(folder / name, folder, entry.sha256.get(role) or listed.get(name, ""))  # type: ignore[call-overload]
    published = entry.hub.get(role)  # type: ignore[call-overload]
    if own.path.exists() or own.path.is_symlink() or published is None:
        return own
    for path in (folder / published.name, folder / published.path):
        if path.exists():
            return _Place(path, folder, published.sha256 or listed.get(path.name, ""))
    if role in pulled.files:
        file = pulled.files[role]
        return _Place(file.location, file.home, published.sha256 or file.sha256)
    return own


def _is_import(folder: Path, name: str) -> bool:
    return name == folder.name and (folder / IMPORT_RECORD).is_file()


def read_checksums(path: Path) -> dict[str, str]:
    """File name → sha256 of a file as `sha256sum` writes it; empty where there is none.

    Raises:
        DamagedWeights: a line that is no checksum.
    """
    if not path.is_file():
        return {}
    sums = {}
    for number, line in enumerate(path.read_text("utf-8", errors="replace").splitlines(), 1):
        if not line.strip():
            continue
        match = _SUM_LINE.match(line)
        if match is None:
            raise DamagedWeights(
                f"{path}, line {number}, is no checksum", "write it with `sha256sum`"
            )
        sums[match[2].strip()] = match[1].lower()
    return sums


def _check_file(role: str, place: _Place) -> FileCheck:
    path, expected = place.path, place.expected
    if not path.is_file():
        return FileCheck(role, path, "missing", expected=expected)
    if not path.resolve().is_relative_to(place.home.resolve()):
        return FileCheck(role, path, "outside", expected=expected)
    actual = _hashed(path)
    if expected and actual != expected:
        status: Status = "mismatch"
    elif not _is_whole(path):
        status = "damaged"
    else:
        status = "ok" if expected else "unlisted"
    return FileCheck(role, path, status, path.stat().st_size, actual, expected)


def _hashed(path: Path) -> str:
    """The checksum of a file, worked out once while the file stays as it is: it may be large."""
    state = path.stat()
    return _hash_of_state(path, state.st_ino, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=64)
def _hash_of_state(path: Path, inode: int, size: int, changed_ns: int) -> str:
    return sha256_of(path)


def is_old_layout(path: Path) -> bool:
    """Whether it begins as PyTorch's files did before they were zip archives (1.6)."""
    with open(path, "rb") as file:
        return file.read(len(_OLD_START)) == _OLD_START


def _is_whole(path: Path) -> bool:
    """Whether the header names tensors and the file holds them all, as far as headers tell."""
    if path.suffix != ".safetensors":
        return zipfile.is_zipfile(path) or is_old_layout(path)
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            return len(file.keys()) > 0
    except (SafetensorError, OSError):
        return False


def _how_to_get(entry: Entry, weights: Path | None) -> str:
    if weights is not None:
        return "check --weights, or leave it out"
    if entry.embedded:
        return "pass --weights DIR (docs/training.md: how to train it), or install synthct again"
    if entry.source == IMPORTED:
        return f"`synthct weights import DIR --as {entry.name} --overwrite`, or pass --weights DIR"
    return (
        f"`synthct weights pull {entry.name}`, or with files that you have: "
        f"`synthct weights import DIR --as {entry.name}`"
    )
