"""Is there a way to the hub? Asked first, so that a machine without network says so in seconds."""

from __future__ import annotations

import os
import socket
import threading
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from synthct.errors import OfflineError

TIMEOUT_S = 3.0
_YES = {"1", "on", "yes", "true"}


def is_offline() -> bool:
    """`HF_HUB_OFFLINE`, read now."""
    return os.environ.get("HF_HUB_OFFLINE", "").strip().lower() in _YES


def timeout_s() -> float:
    """Seconds to wait for the hub to say something of a file: `HF_HUB_ETAG_TIMEOUT`, or ours."""
    try:
        return float(os.environ.get("HF_HUB_ETAG_TIMEOUT", "")) or TIMEOUT_S
    except ValueError:
        return TIMEOUT_S


def require_reachable(endpoint: str) -> None:
    """Raise OfflineError unless something listens at `endpoint`, within `timeout_s()`.

    Name resolution has no timeout of its own, so the attempt is left behind when it takes longer.
    Where a proxy stands in between, nothing can be told from here.
    """
    parts = urlsplit(endpoint)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    if parts.scheme in getproxies() and not proxy_bypass(host):
        return
    problem = ["no answer"]
    attempt = threading.Thread(target=_connect, args=(host, port, problem), daemon=True)
    attempt.start()
    attempt.join(timeout_s())
    if problem:
        raise OfflineError(f"{endpoint} cannot be reached: {problem[0]}")


def _connect(host: str, port: int, problem: list[str]) -> None:
    try:
        socket.create_connection((host, port), timeout=timeout_s()).close()
    except OSError as error:
        problem[0] = str(error.strerror or error)
    else:
        problem.clear()
