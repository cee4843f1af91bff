"""What the published mask generator is told: ten relative organ sizes, at most one tumour."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from synthct.errors import UsageError
from synthct.labels.scheme import maisi_id, maisi_name

SIZED = (10, 1, 12, 4, 62, 23, 24, 26, 27, 128)
"""MAISI ids in the order of the condition (facts: FIELD_OF_VIEW, mask generator)."""
TUMOURS = (23, 24, 26, 27, 128)
ABSENT = -1.0

Sizes = tuple[float, ...]


def anatomy_ids(words: Iterable[str]) -> tuple[int, ...]:
    """The MAISI ids that `words` name.

    Raises:
        UsageError: one names none.
    """
    found = []
    for word in words:
        label = maisi_id(word)
        if label is None:
            raise UsageError(f"no structure {word!r} among MAISI's labels", "e.g. liver, spleen")
        found.append(label)
    return tuple(dict.fromkeys(found))


def wished_sizes(pairs: Iterable[str]) -> dict[int, float]:
    """`liver=0.5` → {1: 0.5}; 0 to 1, or -1 for absent.

    Raises:
        UsageError: not NAME=SIZE, a structure whose size cannot be told, or a size out of range.
    """
    found: dict[int, float] = {}
    for pair in pairs:
        name, _, text = pair.partition("=")
        try:
            size = float(text)
        except ValueError:
            raise UsageError(f"{pair!r} is no NAME=SIZE", "e.g. --organ-size liver=0.5") from None
        (label,) = anatomy_ids([name])
        if label not in SIZED:
            known = ", ".join(maisi_name(i) for i in SIZED)
            raise UsageError(f"the size of {name!r} cannot be told", f"those of: {known}")
        if not (0 <= size <= 1 or size == ABSENT):
            raise UsageError(f"{pair}: sizes go from 0 to 1, and -1 is absent", "e.g. liver=0.5")
        found[label] = size
    return found


def condition(
    anatomy: Sequence[int], sizes: Mapping[int, float], table: Sequence[Sequence[float]]
) -> Sizes:
    """The ten numbers: those wished for, the others from the row of `table` that is closest.

    Organs and a tumour wished for without a size take the row's, from rows that have them; without
    a wish for a tumour there is none.

    Raises:
        UsageError: more than one tumour, or no row has what is wished for.
    """
    tumours = [i for i in TUMOURS if i in anatomy or sizes.get(i, ABSENT) != ABSENT]
    if len(tumours) > 1:
        names = ", ".join(maisi_name(i) for i in tumours)
        raise UsageError(
            f"at most one tumour in a mask; wished for: {names}", "leave out all but one"
        )
    needed = [SIZED.index(i) for i in anatomy if i in SIZED and i not in sizes]
    rows = [row for row in table if all(row[at] != ABSENT for at in needed)]
    if not rows:
        names = ", ".join(maisi_name(SIZED[at]) for at in needed)
        raise UsageError(f"the published table of sizes has no case with {names}", "--organ-size")
    wished = {SIZED.index(label): size for label, size in sizes.items()}

    def distance(row: Sequence[float]) -> float:
        return sum(abs(row[at] - size) for at, size in wished.items())

    nearest = min(rows, key=distance)
    closest = list(nearest)
    for label in TUMOURS:
        if label not in tumours:
            closest[SIZED.index(label)] = ABSENT
    for at, size in wished.items():
        closest[at] = size
    return tuple(closest)
