"""Masks of a folder that are as wished: their regions, structures and spacing. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from synthct.errors import InputError
from synthct.geometry import Spacing
from synthct.labels.groups import regions_present
from synthct.labels.scheme import maisi_name
from synthct.workflows.mask import info

_ENDINGS = (".nii.gz", ".nii", ".nrrd", ".mha")
NEAR = 0.1
"""A mask's spacing is that asked for where it differs by no more than this part of it."""


@dataclass(frozen=True)
class Candidate:
    """A mask of the folder: MAISI ids, regions, spacing along its own axes."""

    path: Path
    ids: frozenset[int]
    regions: tuple[str, ...]
    spacing_mm: Spacing


def choose(
    folder: Path,
    anatomy: tuple[int, ...] = (),
    regions: tuple[str, ...] = (),
    spacing_mm: Spacing | None = None,
    labels: str = "auto",
) -> list[Candidate]:
    """Those that show all of `anatomy` and `regions` at about `spacing_mm`, by name.

    Raises:
        InputError: no such folder, no masks in it, or none as wished (and what comes nearest).
    """
    found = [_read(path, labels) for path in _masks(folder)]
    fitting = [one for one in found if not _lacks(one, anatomy, regions, spacing_mm)]
    if fitting:
        return fitting
    lacks = {one.path.name: _lacks(one, anatomy, regions, spacing_mm) for one in found}
    best = min(lacks, key=lambda name: len(lacks[name]))
    raise InputError(
        f"none of {len(found)} masks in {folder} is as wished",
        f"nearest: {best}, which lacks {', '.join(lacks[best])}",
    )


def _masks(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder", "pass a folder of masks")
    found = sorted(path for path in folder.iterdir() if path.name.lower().endswith(_ENDINGS))
    if not found:
        raise InputError(f"{folder} holds no masks", f"files ending in {', '.join(_ENDINGS)}")
    return found


def _read(path: Path, labels: str) -> Candidate:
    volume = info(path, labels=labels).labels
    ids = frozenset(volume.ids())
    return Candidate(path, ids, regions_present(ids), volume.geometry.spacing_mm)


def _lacks(
    one: Candidate,
    anatomy: tuple[int, ...],
    regions: tuple[str, ...],
    spacing_mm: Spacing | None,
) -> list[str]:
    lacking = [maisi_name(label) for label in anatomy if label not in one.ids]
    lacking += [region for region in regions if region not in one.regions]
    if spacing_mm is not None and not _is_near(one.spacing_mm, spacing_mm):
        had = " x ".join(f"{mm:.4g}" for mm in one.spacing_mm)
        lacking.append(f"the spacing (it has {had} mm)")
    return lacking


def _is_near(had: Spacing, asked: Spacing) -> bool:
    return all(abs(a - b) <= NEAR * b for a, b in zip(had, asked, strict=True))
