"""Masks that come as objects: a nibabel image goes through the same door as a file."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from synthct.errors import UsageError

NAME = "mask.nii.gz"
"""What a mask without a file is called: its cases are `mask_seed-0_…`."""


@contextmanager
def mask_file(mask: Any) -> Iterator[Path | None]:
    """A path for `mask`: itself, or a temporary NIfTI file of a nibabel image.

    Raises:
        UsageError: neither a path nor an image.
    """
    if mask is None or isinstance(mask, (str, Path)):
        yield None if mask is None else Path(mask)
        return
    if not hasattr(mask, "to_filename"):
        raise UsageError(f"a mask of type {type(mask).__name__}", "pass a path or a nibabel image")
    with tempfile.TemporaryDirectory(prefix="synthct-") as folder:
        path = Path(folder) / NAME
        mask.to_filename(path)
        yield path
