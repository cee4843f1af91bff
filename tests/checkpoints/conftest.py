"""A hub on loopback, and caches of its own for every test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from synthct.checkpoints import stream
from tests.checkpoints.hub_server import Hub

_VARIABLES = ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HUB_OFFLINE", "HF_TOKEN")
_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


@pytest.fixture
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`SYNTHCT_HOME` and `HF_HOME` in the test's own folder."""
    for variable in (*_VARIABLES, *_PROXIES, "HUGGING_FACE_HUB_TOKEN", "HF_HUB_ETAG_TIMEOUT"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("SYNTHCT_HOME", str(tmp_path / "synthct"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "huggingface"))
    return tmp_path


@pytest.fixture
def hub(caches: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub that is asked instead of the real one."""
    served = Hub()
    server = served.start()
    monkeypatch.setenv("HF_ENDPOINT", served.url)
    monkeypatch.setattr(stream, "_PAUSE_S", 0.01)
    yield served
    server.shutdown()
    server.server_close()
