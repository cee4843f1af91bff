"""What ran: versions, the platform, and the fingerprints of files."""

from __future__ import annotations

import hashlib
import json
import platform
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from synthct.errors import InputError

_PACKAGES = ("torch", "monai", "numpy", "nibabel", "SimpleITK", "scipy", "safetensors")
_CHUNK_BYTES = 1 << 20


def tool_version() -> str:
    """Version of the installed synthct; of the checkout where it was never installed."""
    try:
        return metadata.version("synthct")
    except metadata.PackageNotFoundError:
        import synthct

        return str(getattr(synthct, "__version__", "0+unknown"))


def versions() -> dict[str, str]:
    """Name → version of everything that shapes the numbers; absent packages are left out.

    Reads the installed metadata and imports none of the packages.
    """
    found = {"synthct": tool_version(), "python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def platform_summary() -> dict[str, str]:
    """The machine in words. No host name and no user name: records travel."""
    return {
        "system": platform.system(),
        "release": platform.release(),
        "machine": platform.machine(),
        "implementation": sys.implementation.name,
    }


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file; of a folder, that of its files' names and contents.

    Raises:
        InputError: it cannot be read.
    """
    try:
        if path.is_dir():
            return _sha256_of_folder(path)
        digest = hashlib.sha256()
        with open(path, "rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
        return digest.hexdigest()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error


def fingerprint(request: Mapping[str, Any]) -> str:
    """SHA-256 of a request: the same for the same values, whatever their order."""
    text = json.dumps(request, sort_keys=True, ensure_ascii=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _sha256_of_folder(folder: Path) -> str:
    digest = hashlib.sha256()
    for file in sorted(p for p in folder.iterdir() if p.is_file()):
        digest.update(f"{file.name}\0{sha256_of(file)}\n".encode())
    return digest.hexdigest()
