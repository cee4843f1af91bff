"""Where weights lie on this machine, and whether they are what they should be. No torch."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from synthct.checkpoints.catalogue import Entry
from synthct.errors import DamagedWeights, MissingWeights, UnsafeWeights
from synthct.record import sha256_of

CHECKSUMS = "SHA256SUMS"
Status = Literal["ok", "missing", "mismatch", "damaged", "unlisted", "outside"]

_SUM_LINE = re.compile(r"^([0-9a-fA-F]{64}) [ *](.+)$")


@dataclass(frozen=True)
class Weights:
    """The files of one model on this machine, by role (`vae`, `unet`, `controlnet`)."""

    model: str
    folder: Path
    files: Mapping[str, Path]

    def sha256(self) -> dict[str, str]:
        return {role: sha256_of(path) for role, path in self.files.items()}


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
            return f"{self.path} ({self.size_bytes} bytes) is no whole safetensors file"
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


def cache_folder() -> Path:
    """`SYNTHCT_HOME`, else the cache folder of the platform. It need not exist."""
    home = os.environ.get("SYNTHCT_HOME", "").strip()
    if home:
        return Path(home).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("synthct", appauthor=False))


def embedded_folder(model: str) -> Path:
    """Inside the package where a wheel put it, else `weights/` of the checkout."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "_weights" / model
    return inside if inside.is_dir() else package.parent / "weights" / model


def folder_of(entry: Entry, weights: Path | None = None) -> Path:
    """Where the files of `entry` belong; `weights` (the option) goes before everything.

    `weights` is the folder of the files, or one that holds a folder named as the model.
    """
    if weights is not None:
        weights = Path(weights).expanduser()
        named = weights / entry.name
        return named if named.is_dir() else weights
    return embedded_folder(entry.name) if entry.embedded else cache_folder() / entry.name


def locate(entry: Entry, weights: Path | None = None) -> Weights:
    """The files of `entry`, all present and none empty.

    Raises:
        MissingWeights: the folder or a file is not there.
        DamagedWeights: a file is empty, or is no regular file.
    """
    folder = folder_of(entry, weights)
    files = {role: folder / name for role, name in entry.files.by_role().items()}
    absent = [path.name for path in files.values() if not path.exists()]
    if absent:
        raise MissingWeights(
            f"{entry.name}: {', '.join(absent)} not found in {folder}", _how_to_get(entry, weights)
        )
    for path in files.values():
        if not path.is_file() or path.stat().st_size == 0:
            raise DamagedWeights(f"{path} is empty or not a file", _how_to_get(entry, weights))
    return Weights(entry.name, folder, files)


def expected_sha256(entry: Entry, folder: Path) -> dict[str, str]:
    """Checksum per role: the catalogue's, else that of `SHA256SUMS` in the folder, else ''."""
    listed = read_checksums(folder / CHECKSUMS)
    return {
        role: entry.sha256.get(role) or listed.get(name, "")  # type: ignore[call-overload]
        for role, name in entry.files.by_role().items()
    }


def check(entry: Entry, weights: Path | None = None) -> list[FileCheck]:
    """Compare every file with its recorded checksum. Says what is wrong, raises nothing for it."""
    folder = folder_of(entry, weights)
    expected = expected_sha256(entry, folder)
    return [
        _check_file(role, folder / name, expected[role])
        for role, name in entry.files.by_role().items()
    ]


def verify(entry: Entry, weights: Path | None = None) -> Weights:
    """Locate the files and hold each against its checksum, where one is recorded.

    Raises:
        MissingWeights: a file is not there.
        DamagedWeights: a file differs from its checksum.
        UnsafeWeights: a link leads out of the folder.
    """
    found = locate(entry, weights)
    for result in check(entry, weights):
        if result.status == "outside":
            raise UnsafeWeights(result.complaint(), "copy the file itself")
        if result.status in ("mismatch", "damaged"):
            raise DamagedWeights(result.complaint(), _how_to_get(entry, weights))
    return found


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


def _check_file(role: str, path: Path, expected: str) -> FileCheck:
    if not path.is_file():
        return FileCheck(role, path, "missing", expected=expected)
    if not path.resolve().is_relative_to(path.parent.resolve()):
        return FileCheck(role, path, "outside", expected=expected)
    actual = sha256_of(path)
    if expected and actual != expected:
        status: Status = "mismatch"
    elif not _has_header(path):
        status = "damaged"
    else:
        status = "ok" if expected else "unlisted"
    return FileCheck(role, path, status, path.stat().st_size, actual, expected)


def _has_header(path: Path) -> bool:
    """Whether a safetensors file names its tensors and holds them all; other files pass."""
    if path.suffix != ".safetensors":
        return True
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
        return "install synthct again, or pass --weights DIR"
    return f"files of {entry.source} belong there, or pass --weights DIR"
