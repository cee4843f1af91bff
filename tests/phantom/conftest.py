"""Phantoms that several tests look at, each made once."""

from __future__ import annotations

from functools import lru_cache

import pytest

from synthct.phantom import make_phantom_with_tissues
from tests.phantom.people import Made, Make


@lru_cache(maxsize=32)
def _make(region: str, spacing: float, seed: int, lesions: bool) -> Made:
    return make_phantom_with_tissues(region, (spacing,) * 3, seed, lesions=lesions)


@pytest.fixture(scope="session")
def phantom() -> Make:
    """phantom(region, spacing=4, seed=0, lesions=False) → labels, tissues; made once."""

    def make(
        region: str = "chest-abdomen", spacing: float = 4.0, seed: int = 0, lesions: bool = False
    ) -> Made:
        return _make(region, spacing, seed, lesions)

    return make
