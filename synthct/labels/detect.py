"""Which scheme does a mask follow? Decided only where it is certain, refused otherwise.

Wrong organs are worse than a refusal. By id alone a raw TotalSegmentator mask is a valid MAISI
mask with 115 of 117 organs wrong, and small ids are used by everybody. So without names only the
body envelope (200) speaks for a scheme, MAISI, and only beside an id that no other scheme reads
in another way: anybody can add 200 to a mask of theirs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from synthct.errors import MaskError
from synthct.labels.groups import BODY
from synthct.labels.names import is_background, is_generic, one_line, spelling
from synthct.labels.scheme import Scheme, load_scheme, maisi_id, scheme_names

AUTO = "auto"
MAX_LISTED = 8
MAX_NAME = 200


@dataclass(frozen=True)
class Detection:
    """The scheme of a mask, and in one phrase why it is that one."""

    scheme: Scheme
    reason: str


def detect(ids: Collection[int], names: Mapping[int, str], hint: str | None = None) -> Detection:
    """Find the scheme of a mask.

    Args:
        ids: the ids present in the mask; 0 is ignored.
        names: id → name as it came with the file (header or file names), empty where none did.
        hint: a scheme's name or file (`--labels`); None or "auto" to decide from the mask.

    Raises:
        MaskError: no label, several schemes fit, none does, or `hint` contradicts `names`.
        UsageError: `hint` is no scheme.
    """
    present = tuple(sorted({int(label) for label in ids} - {0}))
    if not present:
        raise MaskError("the mask is empty: it holds no label but 0", "is it the right file?")
    named = _meaningful(names, present)
    if hint is not None and hint != AUTO:
        return _by_hint(hint, named)
    if named:
        return _by_names(named, present, names)
    return _by_ids(present)


def counterpart(name: str) -> int | None:
    """The MAISI id of `name`: 0 where a known scheme has it without one, None for a stranger."""
    known = _known_names().get(spelling(name))
    return maisi_id(name) if known is None else known


@lru_cache(maxsize=1)
def _known_names() -> Mapping[str, int]:
    known: dict[str, int] = {}
    for scheme in _schemes():
        for label, name in scheme.labels.items():
            known.setdefault(spelling(name), scheme.maisi[label])
    return known


def _schemes() -> tuple[Scheme, ...]:
    return tuple(load_scheme(name) for name in scheme_names())


def _meaningful(names: Mapping[int, str], present: Collection[int]) -> dict[int, str]:
    """The names of the ids present that name something ("Label 3" does not), each one line."""
    return {
        label: one_line(names[label], most=MAX_NAME)
        for label in present
        if label in names and not is_generic(names[label])
    }


def _by_hint(hint: str, named: Mapping[int, str]) -> Detection:
    scheme = load_scheme(hint)
    against = [label for label in named if _contradicts(scheme, label, named[label])]
    own_numbers = bool(against) or not scheme.knows(named)
    if own_numbers and _spelled_by(scheme, named.values()):
        return Detection(
            scheme.rekeyed(named), f"--labels {hint}; the file numbers them in its own way"
        )
    if not against:
        return Detection(scheme, f"--labels {hint}")
    label = against[0]
    raise MaskError(
        f"the file calls {label} {one_line(named[label])!r}, in {scheme.name} it is "
        f"{scheme.labels[label]!r} ({len(against)} of {len(named)} names contradict)",
        f"leave out --labels {hint} to go by the names in the file, or correct one of the two",
    )


def _contradicts(scheme: Scheme, label: int, name: str) -> bool:
    """True where `name` is the known name of another organ than the scheme has at `label`."""
    if label not in scheme.labels or spelling(scheme.labels[label]) == spelling(name):
        return False
    if is_background(name):
        return True
    organ = counterpart(name)
    return organ is not None and organ != scheme.maisi[label]


def _by_names(
    named: Mapping[int, str], present: Collection[int], names: Mapping[int, str]
) -> Detection:
    nothing = [label for label, name in named.items() if is_background(name)]
    if nothing:
        raise MaskError(
            f"the file calls {_list(nothing)} background, but background is 0",
            "correct the names, or set those voxels to 0",
        )
    whole = _following(named, names)
    if whole is not None:
        scheme = whole if len(named) == len(present) else whole.restricted(named)
        return Detection(scheme, f"names and ids in the file are those of {whole.name}")
    for scheme in _schemes():
        if _spelled_by(scheme, named.values()):
            reason = f"names in the file are those of {scheme.name}"
            return Detection(scheme.rekeyed(named), reason)
    return _by_organ_names(named)


def _following(named: Mapping[int, str], names: Mapping[int, str]) -> Scheme | None:
    """The scheme whose names stand at the same ids; the one with most of `names` if several."""
    follows = [s for s in _schemes() if _agreeing(s, named) == len(named)]
    return max(follows, key=lambda s: _agreeing(s, names), default=None)


def _agreeing(scheme: Scheme, names: Mapping[int, str]) -> int:
    return sum(
        label in scheme.labels and spelling(scheme.labels[label]) == spelling(name)
        for label, name in names.items()
    )


def _spelled_by(scheme: Scheme, names: Iterable[str]) -> bool:
    own = {spelling(name) for name in scheme.labels.values()}
    return all(spelling(name) in own for name in names)


def _by_organ_names(named: Mapping[int, str]) -> Detection:
    """Names of no scheme as a whole: each is looked up for itself, strangers become body."""
    maisi = {label: counterpart(name) or 0 for label, name in named.items()}
    matched = sum(target > 0 for target in maisi.values())
    if not matched:
        raise MaskError(
            f"none of the {len(named)} names in the file is a known organ "
            f"({_list(named.values())})",
            "say what they are with --labels FILE.toml",
        )
    scheme = Scheme(
        name="names",
        title="Names that came with the mask",
        source="the mask's header or file names",
        labels=named,
        maisi=maisi,
    )
    return Detection(scheme, f"{matched} of {len(named)} names in the file are known organs")


def _by_ids(present: tuple[int, ...]) -> Detection:
    fitting = [scheme for scheme in _schemes() if scheme.knows(present)]
    if not fitting:
        raise MaskError(
            f"no known labelling scheme has all of the ids in the mask ({_list(present)}), "
            "and it came without names",
            f"name the scheme with --labels {'|'.join(scheme_names())}|FILE.toml",
        )
    if BODY in present:
        others = _other_readings(fitting[0], set(present) - {BODY})
        if not others:
            return Detection(fitting[0], f"{BODY} is the body envelope of {fitting[0].name} alone")
        fitting += others
    raise MaskError(
        f"the mask came without names, and its ids ({_list(present)}) do not tell its scheme",
        f"name the scheme with --labels {'|'.join(s.name for s in fitting)}|FILE.toml",
    )


def _other_readings(scheme: Scheme, organs: Collection[int]) -> list[Scheme]:
    """Other schemes that know all of `organs` and read one of them as something else."""
    return [
        other
        for other in _schemes()
        if other.knows(organs) and any(other.maisi[i] != scheme.maisi[i] for i in organs)
    ]


def _list(values: Collection[object]) -> str:
    shown = ", ".join(one_line(str(value)) for value in list(values)[:MAX_LISTED])
    return shown + (f", … {len(values)} in all" if len(values) > MAX_LISTED else "")
