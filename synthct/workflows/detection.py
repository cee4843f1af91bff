"""Which scheme a mask follows; and where that cannot be told, why its names did not help."""

from __future__ import annotations

from collections.abc import Sequence

from synthct.errors import MaskError
from synthct.labels.detect import Detection, detect
from synthct.volume.label_names import NAMES_NOT_READ
from synthct.volume.volume import LabelVolume


def detect_scheme(labels: LabelVolume, notes: Sequence[str], hint: str) -> Detection:
    """As `labels.detect`; the `notes` are those of the reader.

    Raises:
        MaskError: as `detect`, with the reader's note about names that it could not read.
        UsageError: `hint` is no scheme.
    """
    try:
        return detect(labels.ids(), labels.names, hint)
    except MaskError as error:
        reasons = [note for note in notes if note.startswith(NAMES_NOT_READ)]
        if not reasons:
            raise
        raise MaskError(f"{error.message}; {reasons[0]}", error.hint) from error
