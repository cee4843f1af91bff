"""A file has its final name only when it is complete: write beside, fsync, rename."""

from __future__ import annotations

import contextlib
import errno
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

from synthct.errors import OutputError, UsageError


def refuse_existing(path: Path) -> None:
    if os.path.lexists(path):  # a link to nothing is something
        raise UsageError(
            f"{path} exists already and nothing is overwritten unasked",
            "pass --overwrite, or another -o",
        )


@contextlib.contextmanager
def replacing(path: Path | str, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it gets the final name, else it is removed.

    The temporary name keeps the suffixes (`.nii.gz`), so that writers that look at them work.

    Raises:
        UsageError: `path` exists and `overwrite` is false.
        OutputError: the folder cannot be written, or the disk is full.
    """
    path = Path(path)
    if not overwrite:
        refuse_existing(path)
    temporary = path.with_name(f".partial-{uuid.uuid4().hex[:8]}-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        if not overwrite:
            refuse_existing(path)
        os.replace(temporary, path)
    except OSError as error:
        raise _output_error(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def write_text(path: Path | str, text: str, *, overwrite: bool = False) -> None:
    with replacing(path, overwrite=overwrite) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _output_error(path: Path, error: OSError) -> OutputError:
    if error.errno == errno.ENOSPC:
        return OutputError(f"cannot write {path}: the disk is full", "free space, or another -o")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return OutputError(f"cannot write {path}: permission denied", "choose a folder you own")
    return OutputError(f"cannot write {path}: {reason_of(error)}", "choose another -o")


def reason_of(error: OSError) -> str:
    """What the system says, in words about folders that it calls files."""
    if error.errno in (errno.EEXIST, errno.ENOTDIR):
        return f"{error.filename or 'its folder'} is a file, not a folder"
    return error.strerror or str(error)
