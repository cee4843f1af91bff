"""From the ids of a scheme to MAISI's and back, by one lookup table.

Every id that changes its meaning on the way (dropped, merged, unknown) stands in the report.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from synthct.errors import MaskError
from synthct.labels.groups import BODY
from synthct.labels.scheme import Scheme, maisi_name

Unknown = Literal["error", "body", "drop"]
Labels = npt.NDArray[Any]

_BLOCK_VOXELS = 1 << 20  # bounds the index copies that NumPy makes of small integers
_MAX_ID = 65_535
_MAX_LISTED = 10


@dataclass(frozen=True)
class RemapReport:
    """What became of each id that the mask holds.

    Attributes:
        mapped: (id, name, MAISI id, MAISI name), those merged included.
        dropped: (id, name) without a MAISI counterpart: their voxels became body.
        merged: (MAISI id, MAISI name, ids) where several ids share one MAISI label.
        unknown: ids that the scheme does not know; what became of them was the caller's choice.
        has_envelope: a label of the mask itself is the body's envelope. The array may hold 200
            without it, where a dropped or unknown label became body: then the envelope is still
            to be completed.
    """

    mapped: tuple[tuple[int, str, int, str], ...] = ()
    dropped: tuple[tuple[int, str], ...] = ()
    merged: tuple[tuple[int, str, tuple[int, ...]], ...] = ()
    unknown: tuple[int, ...] = ()
    has_envelope: bool = False

    def notes(self) -> tuple[str, ...]:
        """What changed its meaning, a line for each kind; empty where every id has its own."""
        dropped = ", ".join(f"{label} {name}" for label, name in self.dropped)
        merged = "; ".join(
            f"{', '.join(str(label) for label in ids)} into {name}" for _, name, ids in self.merged
        )
        unknown = ", ".join(str(label) for label in self.unknown)
        lines = {
            "labels that the model does not know, made body": dropped,
            "labels merged": merged,
            "ids unknown to the scheme": unknown,
        }
        return tuple(f"{what}: {which}" for what, which in lines.items() if which)

    def as_dict(self) -> dict[str, object]:
        """JSON-able, in the words of the report."""
        return {
            "mapped": [
                {"id": label, "name": name, "maisi_id": target, "maisi_name": target_name}
                for label, name, target, target_name in self.mapped
            ],
            "dropped": [{"id": label, "name": name} for label, name in self.dropped],
            "merged": [
                {"maisi_id": target, "maisi_name": name, "ids": list(ids)}
                for target, name, ids in self.merged
            ],
            "unknown": list(self.unknown),
            "has_envelope": self.has_envelope,
        }


def ids_present(labels: Labels) -> tuple[int, ...]:
    """The ids in `labels`, 0 left out, ascending; one pass, without sorting voxels.

    Raises:
        MaskError: not integers, negative, or over 65535.
    """
    if labels.dtype.kind not in "uib":
        raise MaskError(f"labels are {labels.dtype}, not integers", "a mask holds whole numbers")
    if labels.size == 0:
        return ()
    low, high = int(labels.min()), int(labels.max())
    if low < 0:
        raise MaskError(f"the mask holds the negative label {low}", "labels are 0 and up")
    if high > _MAX_ID:
        raise MaskError(f"the mask holds the label {high}", f"labels are 0 to {_MAX_ID}")
    seen = np.zeros(high + 1, dtype=bool)
    numbers = _numbers(labels)
    for block in _blocks(numbers):
        seen[numbers[block]] = True
    return tuple(int(label) for label in np.flatnonzero(seen) if label != 0)


def remap(
    array: Labels, scheme: Scheme, unknown: Unknown = "error"
) -> tuple[npt.NDArray[np.uint8], RemapReport]:
    """Labels of `scheme` to MAISI labels.

    A label without a MAISI counterpart is tissue of the patient all the same: it becomes body
    (200), and is listed as dropped.

    Args:
        array: (i, j, k) integer ids of `scheme`.
        unknown: ids that `scheme` does not know are refused ("error"), become body ("body") or
            background ("drop").

    Returns:
        (i, j, k) uint8 MAISI ids in the memory order of `array`, and what became of each id.

    Raises:
        MaskError: unknown ids with `unknown="error"`; labels that are no labels.
    """
    ids = ids_present(array)
    strangers = tuple(label for label in ids if label not in scheme.labels)
    if strangers and unknown == "error":
        raise _unknown_ids(strangers, scheme)
    targets = {label: scheme.maisi.get(label, 0) or BODY for label in ids if label in scheme.labels}
    if unknown == "body":
        targets.update(dict.fromkeys(strangers, BODY))
    mapped = _look_up(array, targets, max(ids, default=0), np.dtype(np.uint8))
    return mapped, _report(ids, scheme, strangers)


def unmap(maisi_array: Labels, scheme: Scheme) -> Labels:
    """MAISI labels back to ids of `scheme` (`--label-out input`).

    Where several ids share a MAISI label the lowest is written. MAISI labels that the scheme
    does not have become 0, so does the body where the scheme has no envelope.

    Args:
        maisi_array: (i, j, k) MAISI ids.

    Returns:
        (i, j, k) ids of `scheme`, uint8, or uint16 where they do not fit.
    """
    ids = ids_present(maisi_array)
    back = scheme.inverse()
    targets = {label: back[label] for label in ids if label in back}
    wide = max(back.values(), default=0) > np.iinfo(np.uint8).max
    dtype = np.dtype(np.uint16 if wide else np.uint8)
    return _look_up(maisi_array, targets, max(ids, default=0), dtype)


def _look_up(
    array: Labels, targets: Mapping[int, int], highest: int, dtype: np.dtype[Any]
) -> Labels:
    table = np.zeros(highest + 1, dtype=dtype)
    for label, target in targets.items():
        table[label] = target
    numbers = _numbers(array)
    out = np.empty_like(numbers, dtype=dtype)
    for block in _blocks(numbers):
        out[block] = table[numbers[block]]
    return out


def _numbers(array: Labels) -> Labels:
    """Booleans index as a mask in NumPy; here they are the ids 0 and 1."""
    return array.view(np.uint8) if array.dtype.kind == "b" else array


def _blocks(array: Labels) -> Iterator[tuple[slice, ...]]:
    """Slabs of about a million voxels, cut along the axis that lies slowest in memory."""
    if array.ndim == 0:
        yield ()
        return
    slowest = int(np.argmax(np.abs(array.strides)))
    length = array.shape[slowest]
    step = max(1, _BLOCK_VOXELS * length // max(1, array.size))
    for start in range(0, length, step):
        yield (slice(None),) * slowest + (slice(start, start + step),)


def _report(ids: tuple[int, ...], scheme: Scheme, unknown: tuple[int, ...]) -> RemapReport:
    sharing: dict[int, list[int]] = defaultdict(list)
    for label in ids:
        sharing[scheme.maisi.get(label, 0)].append(label)
    without = [label for label in sharing.pop(0, []) if label in scheme.labels]
    mapped = sorted((label, target) for target, labels in sharing.items() for label in labels)
    return RemapReport(
        mapped=tuple(
            (label, scheme.labels[label], target, maisi_name(target)) for label, target in mapped
        ),
        dropped=tuple((label, scheme.labels[label]) for label in without),
        merged=tuple(
            (target, maisi_name(target), tuple(labels))
            for target, labels in sorted(sharing.items())
            if len(labels) > 1
        ),
        unknown=unknown,
        has_envelope=BODY in sharing,
    )


def _unknown_ids(strangers: tuple[int, ...], scheme: Scheme) -> MaskError:
    listed = ", ".join(
        f"{label} ({scheme.reserved[label]})" if label in scheme.reserved else str(label)
        for label in strangers[:_MAX_LISTED]
    )
    more = f" and {len(strangers) - _MAX_LISTED} more" if len(strangers) > _MAX_LISTED else ""
    return MaskError(
        f"{scheme.name} does not know the ids {listed}{more} that the mask holds",
        "is it another scheme (--labels)? else go on with --unknown body or --unknown drop",
    )
