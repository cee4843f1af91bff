"""The hub on loopback, as in the tests of `checkpoints`."""

from tests.checkpoints.conftest import caches, hub

__all__ = ["caches", "hub"]
