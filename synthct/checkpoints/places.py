"""Where files of weights lie on this machine. No torch, no network."""

from __future__ import annotations

import os
from pathlib import Path


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


def hub_cache() -> Path:
    """The cache that huggingface_hub uses, by its own variables, read now and not at import."""
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if folder := os.environ.get(variable, "").strip():
            return Path(folder).expanduser()
    if home := os.environ.get("HF_HOME", "").strip():
        return Path(home).expanduser() / "hub"
    cache = os.environ.get("XDG_CACHE_HOME", "").strip() or "~/.cache"
    return Path(cache).expanduser() / "huggingface" / "hub"


def hub_repository(repo: str) -> Path:
    """Folder of one repository (`owner/name`) in that cache."""
    return hub_cache() / f"models--{repo.replace('/', '--')}"


def hub_snapshot(repo: str, revision: str, path: str) -> Path:
    """Where a file of a repository at a commit lies, if it was fetched."""
    return hub_repository(repo) / "snapshots" / revision / path
