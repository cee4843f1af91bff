"""What the hub, its library and the disk say when they refuse, as errors of ours. No torch."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from synthct.checkpoints.entry import HubFile
from synthct.checkpoints.stream import transport_errors
from synthct.errors import (
    LicenceNotAccepted,
    MissingWeights,
    OfflineError,
    OutputError,
    SynthctError,
)


@contextmanager
def speaking_plainly(file: HubFile, endpoint: str, cache: Path) -> Iterator[None]:
    """Turn whatever goes wrong while `file` is fetched into an error that says what to do."""
    try:
        yield
    except SynthctError:
        raise
    except transport_errors() as error:
        raise OfflineError(f"{endpoint} does not answer: {_first_line(error)}") from error
    except Exception as error:
        known = _refusal(file, endpoint, error)
        if known is None and isinstance(error, OSError):
            known = _unwritable(file, cache, error)
        if known is None:
            raise
        raise known from error


def _refusal(file: HubFile, endpoint: str, error: Exception) -> SynthctError | None:
    from huggingface_hub import errors

    where = f"{endpoint}/{file.repo}"
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, errors.LocalEntryNotFoundError):
        return OfflineError(f"{endpoint} does not answer: {_first_line(error)}")
    if isinstance(error, errors.GatedRepoError) or status in (401, 403):
        return LicenceNotAccepted(
            f"{where} refuses {file.name} ({status}): it wants its terms accepted, or a token",
            f"accept the terms at {where}, then set HF_TOKEN to a token of that account",
        )
    if isinstance(error, (errors.EntryNotFoundError, errors.RevisionNotFoundError)):
        return MissingWeights(f"{where} has no {file.path} at this revision", "see --revision")
    if isinstance(error, errors.RepositoryNotFoundError) or status == 404:
        return MissingWeights(f"{where} is not there", "is HF_ENDPOINT right?")
    if isinstance(error, errors.FileMetadataError):
        return OfflineError(f"{endpoint} is no hub: {_first_line(error)}", "see HF_ENDPOINT")
    return None if status is None else OfflineError(f"{endpoint} answers {status}", "try later")


def _unwritable(file: HubFile, cache: Path, error: OSError) -> OutputError:
    if error.errno == errno.ENOSPC:
        return OutputError(
            f"the disk of {cache} is full; {file.name} is not whole",
            "free space, or set HF_HOME to another disk; the same command goes on from there",
        )
    return OutputError(f"cannot write to {cache}: {error.strerror or error}", "set HF_HOME")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
