"""Files from the hub into its own cache: pinned, resumed, held against a checksum. No torch.

huggingface_hub says where a file lies, who may read it and how its cache is laid out. The bytes are
streamed by us (its own download starts over in every process) into a partial file beside the cached
ones, which becomes one of them only when its checksum is the one that is known.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from synthct.checkpoints.entry import HubFile
from synthct.checkpoints.places import hub_cache, hub_repository, hub_snapshot
from synthct.checkpoints.pulled import PulledFile, Trust
from synthct.checkpoints.reach import is_offline, require_reachable, timeout_s
from synthct.checkpoints.refusals import speaking_plainly
from synthct.checkpoints.stream import Progress, stream_to
from synthct.errors import DamagedWeights, OfflineError
from synthct.record import sha256_of

DEFAULT_ENDPOINT = "https://huggingface.co"
MAIN = "main"
PARTIAL = ".synthct-partial"
_SHA256 = re.compile(r"[0-9a-f]{64}")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_ETAG = re.compile(r"[0-9A-Za-z-]{1,128}")  # it becomes a file name


@dataclass(frozen=True)
class _Remote:
    """What the hub says of one file at one commit."""

    url: str
    revision: str
    etag: str
    size_bytes: int


def endpoint() -> str:
    """`HF_ENDPOINT`, read now."""
    return (os.environ.get("HF_ENDPOINT", "").strip() or DEFAULT_ENDPOINT).rstrip("/")


def fetch(
    file: HubFile,
    revision: str | None = None,
    known: PulledFile | None = None,
    progress: Progress = lambda done, total: None,
) -> PulledFile:
    """Bring one file into the hub's cache, or find it there.

    Args:
        file: what is wanted.
        revision: commit, branch or tag; by default the catalogue's pin, else the branch `main`.
        known: the record of an earlier fetch of the same file.
        progress: told how far it is.

    Raises:
        OfflineError: no network (or `HF_HUB_OFFLINE`), and it is not in the cache.
        LicenceNotAccepted: the repository wants its terms accepted, or a token (`HF_TOKEN`).
        MissingWeights: no such file, repository or revision.
        DamagedWeights: its checksum is another than the one known; it is not kept.
        OutputError: the cache cannot be written, or the disk is full.
    """
    revision = revision or file.revision or MAIN
    cached = _cached(file, revision)
    if cached is not None and (is_offline() or _as_known(file, *cached, known)):
        return _record(file, *cached, known)
    if is_offline():
        raise OfflineError(f"HF_HUB_OFFLINE is set, and {file.name} is not in the cache")
    require_reachable(endpoint())
    with speaking_plainly(file, endpoint(), hub_cache()):
        remote = _ask(file, revision)
        _download(file, remote, _checksum(file, remote.revision, remote.etag, known), progress)
        _link(file, remote)
    return _record(
        file, remote.revision, hub_snapshot(file.repo, remote.revision, file.path), known
    )


def _cached(file: HubFile, revision: str) -> tuple[str, Path] | None:
    """Commit and path of a file that is in the cache; a branch is asked for, while there is a way.

    >>> _cached(HubFile(repo="nobody/nothing", path="a.pt"), "0" * 40) is None
    True
    """
    commit = revision
    if not _COMMIT.fullmatch(revision):
        reference = hub_repository(file.repo) / "refs" / revision
        if not (is_offline() and reference.is_file()):
            return None
        commit = reference.read_text("utf-8").strip()
    path = hub_snapshot(file.repo, commit, file.path)
    return (commit, path) if path.is_file() else None


def _checksum(file: HubFile, revision: str, stored_as: str, known: PulledFile | None) -> str | None:
    """The catalogue's, that of an earlier fetch of this commit, or the hub's own.

    The hub stores a large file under its checksum: `stored_as` is that name.
    """
    if file.sha256 is not None:
        return file.sha256
    if known is not None and known.revision == revision:
        return known.sha256
    return stored_as if _SHA256.fullmatch(stored_as) else None


def _as_known(file: HubFile, revision: str, path: Path, known: PulledFile | None) -> bool:
    """Whether the cached file is whole; where nobody knows a checksum, it is taken as it is."""
    wanted = _checksum(file, revision, path.resolve().name, known)
    return wanted is None or sha256_of(path) == wanted


def _ask(file: HubFile, revision: str) -> _Remote:
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    url = hf_hub_url(file.repo, file.path, revision=revision, endpoint=endpoint())
    said = get_hf_file_metadata(url, timeout=timeout_s(), endpoint=endpoint())
    commit, etag = said.commit_hash or "", said.etag or ""
    if not (_COMMIT.fullmatch(commit) and _ETAG.fullmatch(etag)):
        raise OfflineError(
            f"{endpoint()} is no hub: it names no commit, or no checksum, of {file.name}",
            "see HF_ENDPOINT",
        )
    return _Remote(said.location, commit, etag, int(said.size or 0))


def _download(file: HubFile, remote: _Remote, wanted: str | None, progress: Progress) -> None:
    """Stream into the partial file until it is whole, then give it its name in the cache."""
    from filelock import FileLock

    blob = hub_repository(file.repo) / "blobs" / remote.etag
    blob.parent.mkdir(parents=True, exist_ok=True)
    partial = blob.with_name(blob.name + PARTIAL)
    with FileLock(f"{partial}.lock"):  # one process at a time fetches the same file
        if blob.exists() and wanted in (None, sha256_of(blob)):
            return
        stream_to(partial, remote.url, _headers(remote.url), remote.size_bytes, progress)
        actual = sha256_of(partial)
        if wanted is not None and actual != wanted:
            partial.unlink()
            raise _other_checksum(file, actual, wanted)
        os.replace(partial, blob)


def _headers(url: str) -> dict[str, str]:
    """The token goes to the hub alone: where it sends us on to has signed addresses."""
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    own = urlsplit(url).netloc == urlsplit(endpoint()).netloc
    headers: Mapping[str, str] = build_hf_headers(token=None if own else False)
    return {**headers, "Accept-Encoding": "identity"}


def _link(file: HubFile, remote: _Remote) -> None:
    """Let huggingface_hub enter the finished blob in its cache, as it does with its own."""
    from huggingface_hub import hf_hub_download

    hf_hub_download(
        file.repo,
        file.path,
        revision=remote.revision,
        cache_dir=hub_cache(),
        endpoint=endpoint(),
        etag_timeout=timeout_s(),
    )


def _record(file: HubFile, revision: str, path: Path, known: PulledFile | None) -> PulledFile:
    """The record of a file in the cache, once its checksum is the one known."""
    stored = path.resolve()
    wanted = _checksum(file, revision, stored.name, known)
    actual = sha256_of(path)
    if wanted is not None and actual != wanted:
        raise _other_checksum(file, actual, wanted)
    trust: Trust = "first use"
    if file.sha256 is not None:
        trust = "catalogue"
    elif stored.name == actual:
        trust = "hub"
    return PulledFile(
        repo=file.repo,
        path=file.path,
        revision=revision,
        sha256=actual,
        size_bytes=stored.stat().st_size,
        trust=trust,
    )


def _other_checksum(file: HubFile, actual: str, wanted: str) -> DamagedWeights:
    return DamagedWeights(
        f"{file.repo}/{file.path}: its sha256 begins {actual[:12]}, it should begin {wanted[:12]}",
        "it is not used; pull again, and if it stays so, ask its publisher",
    )
