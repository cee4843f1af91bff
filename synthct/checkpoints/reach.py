"""Is there a way to the hub? Asked first, so that a machine without network says so in seconds."""

from __future__ import annotations

import os
import ssl
import threading
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from urllib.parse import SplitResult, urlsplit
from urllib.request import getproxies, proxy_bypass

from synthct.errors import OfflineError

TIMEOUT_S = 2.5
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
    """Raise OfflineError unless something answers at `endpoint`, within `timeout_s()`.

    Name resolution has no timeout of its own, so the attempt is left behind when it takes longer.
    Where a proxy stands in between, nothing can be told from here.
    """
    parts = urlsplit(endpoint)
    if parts.scheme in getproxies() and not proxy_bypass(parts.hostname or ""):
        return
    problem = ["no answer"]
    attempt = threading.Thread(target=_knock, args=(parts, problem), daemon=True)
    attempt.start()
    attempt.join(timeout_s())
    if problem:
        raise OfflineError(f"{endpoint} cannot be reached: {problem[0]}")


def _knock(address: SplitResult, problem: list[str]) -> None:
    """Any answer will do, a refusal too: what it means is for the hub's library to say."""
    kind = HTTPSConnection if address.scheme == "https" else HTTPConnection
    line = kind(address.hostname or "", address.port, timeout=timeout_s())
    try:
        line.request("HEAD", "/")
        line.getresponse()
    except (ssl.SSLError, HTTPException):
        problem.clear()
    except OSError as error:
        problem[0] = str(error.strerror or error)
    else:
        problem.clear()
    finally:
        line.close()
