"""Bytes over the network into a partial file that outlives interruptions. No torch."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from synthct.errors import DamagedWeights, OfflineError

_TRIES = 5  # in a row without a single new byte
_PAUSE_S = 1.0
_READ_TIMEOUT_S = 30.0
_PARTIAL_CONTENT = 206

Progress = Callable[[int, int], None]
"""Called with (bytes done, bytes in all)."""


def stream_to(
    partial: Path, url: str, headers: Mapping[str, str], size_bytes: int, progress: Progress
) -> None:
    """Fetch what `partial` lacks, again and again until it is whole.

    Args:
        partial: what is there of it already is kept, and asked for no second time.
        url: where it lies.
        headers: to send along.
        size_bytes: of the whole; 0 where nobody said, which one whole answer then settles.
        progress: told how far it is.

    Raises:
        OfflineError: the connection broke `_TRIES` times in a row without a new byte.
        DamagedWeights: more came than there is.
    """
    broken = transport_errors()
    idle = 0
    while True:
        before = _size(partial)
        if size_bytes and before == size_bytes:
            return
        reason = "it ended early"
        try:
            _append(partial, url, headers, size_bytes, progress)
            if not size_bytes:
                return
        except broken as error:
            reason = str(error) or type(error).__name__
        done = _size(partial)
        if done > size_bytes > 0:
            partial.unlink()
            raise DamagedWeights(f"{done} bytes of {size_bytes} came from {url}", "pull again")
        idle = 0 if done > before else idle + 1
        if idle >= _TRIES:
            raise OfflineError(
                f"the connection broke at {done} of {size_bytes or '?'} bytes: {reason}",
                "the same command goes on from there",
            )
        time.sleep(_PAUSE_S * idle)


def transport_errors() -> type[Exception]:
    """The base of the HTTP library's network errors, whichever huggingface_hub brings along."""
    from huggingface_hub import get_session

    library = importlib.import_module(type(get_session()).__module__.partition(".")[0])
    base: type[Exception] = library.TransportError
    return base


def _append(
    partial: Path, url: str, headers: Mapping[str, str], size_bytes: int, progress: Progress
) -> None:
    """One request for the rest; from the start where the server gives nothing but the whole."""
    from huggingface_hub import get_session

    start = _size(partial) if size_bytes else 0
    asked = {**headers, "Range": f"bytes={start}-"} if start else dict(headers)
    with get_session().stream(
        "GET", url, headers=asked, timeout=_READ_TIMEOUT_S, follow_redirects=True
    ) as response:
        _require_success(response)
        if response.status_code != _PARTIAL_CONTENT:
            start = 0
        with open(partial, "ab" if start else "wb") as out:
            for chunk in response.iter_bytes():
                out.write(chunk)
                start += len(chunk)
                if start > size_bytes > 0:
                    return  # more than there is: the caller refuses it
                progress(start, size_bytes)


def _require_success(response: Any) -> None:
    from huggingface_hub.utils import hf_raise_for_status  # type: ignore[attr-defined]

    if response.is_error:
        response.read()
    hf_raise_for_status(response)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
