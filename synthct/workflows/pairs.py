"""Which label map belongs to which volume: by the names of the files, side by side.

`X_ct.nii.gz`, or any volume `X.nii.gz`, goes with `X_dseg.nii.gz`; `image.nii.gz` with
`labels.nii.gz`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from synthct.errors import InputError

SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha", ".mhd")
REJECTED = "rejected"
_CT = ("ct", "cta", "0000")
_MR = ("t1w", "t2w", "pdw", "flair", "swi", "angio", "mr")
_LABELS_OF = {"image": "labels", "ct": "dseg"}  # files that carry no name of their own


@dataclass(frozen=True)
class Pair:
    """A volume, its labels, and the name under which a report lists them."""

    name: str
    image: Path
    labels: Path

    @property
    def modality(self) -> str:
        """By the end of the file's name: MR where it says so, else CT."""
        return modality_of(self.image)


@dataclass(frozen=True)
class Found:
    """The pairs under some paths, and the volumes there that have no labels beside them."""

    pairs: tuple[Pair, ...]
    alone: tuple[Path, ...] = ()


def find_pairs(paths: Iterable[Path]) -> Found:
    """Pairs in files and folders (searched downwards); `rejected/` only where it is named.

    Raises:
        InputError: no such path; a file without its partner; nothing to pair at all.
    """
    paths = tuple(paths)
    pairs: dict[Path, Pair] = {}
    alone: dict[Path, None] = {}
    for path in paths:
        if path.is_dir():
            found = _in_folder(path)
        elif path.is_file():
            found = Found((_of_file(path),))
        else:
            raise InputError(f"{path}: no such file or folder", "check the path")
        pairs.update({pair.image.resolve(): pair for pair in found.pairs})
        alone.update(dict.fromkeys(found.alone))
    if not pairs:
        where = ", ".join(str(path) for path in paths)
        raise InputError(
            f"no volume with labels beside it in {where} "
            f"({len(alone)} volumes without, `{REJECTED}/` not searched)",
            "accepted: X_ct.nii.gz with X_dseg.nii.gz, image.nii.gz with labels.nii.gz; "
            "or name both with --image and --labels-file",
        )
    return Found(tuple(pairs.values()), tuple(alone))


def volumes_under(folder: Path) -> Found:
    """Every volume below a folder, with labels or without; `rejected/` only where it is named.

    Raises:
        InputError: no such folder.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder", "check the path")
    return _in_folder(folder)


def name_of(image: Path, folder: Path) -> str:
    """The name of a volume below `folder`, as a pair of it would be listed."""
    return _name(image, image.relative_to(folder).parent, folder)


def modality_of(image: Path) -> str:
    """By the end of the file's name: MR where it says so, else CT."""
    return "MR" if _ending(stem(image)) in _MR else "CT"


def stem(path: Path) -> str:
    """The file's name without the suffix of its format."""
    for suffix in SUFFIXES:
        if path.name.lower().endswith(suffix):
            return path.name[: -len(suffix)]
    return path.name


def _in_folder(folder: Path) -> Found:
    pairs: list[Pair] = []
    alone: list[Path] = []
    for path in _volumes(folder):
        inner = path.relative_to(folder)
        labels = _labels_beside(path)
        if labels is None:
            alone.append(path)
        else:
            pairs.append(Pair(_name(path, inner.parent, folder), path, labels))
    return Found(tuple(pairs), tuple(alone))


def _of_file(path: Path) -> Pair:
    if _is_label_name(path):
        for other in sorted(path.parent.iterdir()):
            if _is_volume(other) and not _is_label_name(other) and _labels_beside(other) == path:
                return Pair(_name(other, Path(), path.parent), other, path)
        raise InputError(f"{path}: labels without a volume beside them", "name it with --image")
    labels = _labels_beside(path)
    if labels is None:
        wanted = " or ".join(f"{name}.nii.gz" for name in _label_stems(path))
        raise InputError(
            f"{path}: no labels beside it ({wanted})", "name them with --image and --labels-file"
        )
    return Pair(_name(path, Path(), path.parent), path, labels)


def _labels_beside(image: Path) -> Path | None:
    candidates = (image.with_name(name + s) for name in _label_stems(image) for s in SUFFIXES)
    return next((path for path in candidates if path.is_file() and path != image), None)


def _label_stems(image: Path) -> tuple[str, ...]:
    own = stem(image)
    if own.lower() in _LABELS_OF:
        return (_LABELS_OF[own.lower()], f"{own}_dseg")
    if _ending(own) in _CT + _MR:
        return (f"{own.rpartition('_')[0]}_dseg", f"{own}_dseg")
    return (f"{own}_dseg",)


def _name(image: Path, inner: Path, folder: Path) -> str:
    own = stem(image)
    base = own.rpartition("_")[0] if _ending(own) in _CT + _MR else own
    if own.lower() in _LABELS_OF:
        return inner.as_posix() if inner.parts else folder.resolve().name
    return (inner / base).as_posix()


def _ending(own: str) -> str:
    return own.lower().rpartition("_")[2] if "_" in own else ""


def _is_volume(path: Path) -> bool:
    return path.name.lower().endswith(SUFFIXES) and path.is_file()


def _is_label_name(path: Path) -> bool:
    own = stem(path).lower()
    return own.endswith("_dseg") or own in _LABELS_OF.values()


def _volumes(folder: Path) -> Iterator[Path]:
    """Image files below `folder`, sorted; links are followed, each real folder entered once."""
    entered: set[str] = set()
    for root, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(root)
        folders[:] = sorted(f for f in folders if f != REJECTED and not f.startswith("."))
        if real in entered:
            folders.clear()
            continue
        entered.add(real)
        for name in sorted(files):
            path = Path(root) / name
            if not name.startswith(".") and _is_volume(path) and not _is_label_name(path):
                yield path
