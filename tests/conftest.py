"""Fixtures that every floor shares."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_DEFAULT = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of openly licensed scans; not on a user's machine."""
    folder = Path(os.environ.get("SYNTHCT_SHARED_DATA", _DEFAULT))
    if not (folder / "ct").is_dir():
        pytest.skip("the shared scans (../shared/data) are not on this machine")
    return folder
