"""What was computed for a case is kept by the hashes of all that it depends on.

A run that was interrupted finds it again; another file, network or setting is another name, so
nothing old is ever taken for new.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from synthct.atomic import replacing
from synthct.evaluation.case import Case
from synthct.record import fingerprint

Arrays = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class FeatureCache:
    """Arrays by case and settings, `.npz` under `folder`; None keeps nothing."""

    folder: Path | None = None

    def path(self, case: Case, kind: str, settings: Mapping[str, Any]) -> Path | None:
        """The file for `kind` (`features`, …) of a case; None where nothing is kept."""
        if self.folder is None:
            return None
        known = {"image": case.sha256, "labels": case.labels_sha256, **settings}
        if reading := case.label_reading:
            known["label_reading"] = reading
        return self.folder / kind / f"{fingerprint(known)[:32]}.npz"

    def has(self, case: Case, kind: str, settings: Mapping[str, Any]) -> bool:
        path = self.path(case, kind, settings)
        return path is not None and _read(path) is not None

    def arrays(
        self,
        case: Case,
        kind: str,
        settings: Mapping[str, Any],
        make: Callable[[], Mapping[str, npt.NDArray[Any]]],
    ) -> Arrays:
        """What `make` returns, from the file where there is one.

        Args:
            case: its image, its labels and the scheme they are read by enter the name.
            kind: folder name.
            settings: everything else that the arrays depend on; JSON-able.
            make: computes them.
        """
        path = self.path(case, kind, settings)
        if path is not None and (kept := _read(path)) is not None:
            return kept
        made = {key: np.asarray(value) for key, value in make().items()}
        if path is not None:
            with replacing(path, overwrite=True) as temporary:
                np.savez(temporary, **made)  # type: ignore[arg-type]
        return made


def _read(path: Path) -> Arrays | None:
    """The arrays of a file that is whole, else None: it is computed again."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {key: stored[key] for key in stored.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, KeyError):
        return None
