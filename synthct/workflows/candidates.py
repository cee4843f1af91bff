"""Masks to choose from: of a folder, or of the published collection. No torch.

The published collection is a zip of masks and a table (JSON) that says what each of them shows, so
that thousands need not be read to choose one.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from synthct.atomic import replacing
from synthct.errors import InputError
from synthct.geometry import Spacing
from synthct.labels.groups import REGIONS, TUMOURS, regions_present
from synthct.labels.scheme import maisi_name
from synthct.workflows.mask import info

TABLES = "candidate_masks*.json"
_ENDINGS = (".nii.gz", ".nii", ".nrrd", ".mha")
_MAX_MASK_BYTES = 1 << 30
NEAR = 0.1
"""A mask's spacing is that asked for where it differs by no more than this part of it."""


@dataclass(frozen=True)
class Candidate:
    """A mask: MAISI ids, regions, spacing along its own axes.

    `member`: its name in the archive that `path` is; empty where it is a file of its own.
    `scheme`: of its labels.
    """

    path: Path
    ids: frozenset[int]
    regions: tuple[str, ...]
    spacing_mm: Spacing
    scheme: str = "auto"
    member: str = ""

    @property
    def name(self) -> str:
        return PurePosixPath(self.member).name or self.path.name


def choose(
    folder: Path,
    anatomy: tuple[int, ...] = (),
    regions: tuple[str, ...] = (),
    spacing_mm: Spacing | None = None,
    labels: str = "auto",
) -> list[Candidate]:
    """Those that show all of `anatomy` and `regions` at about `spacing_mm`, by name.

    Args:
        folder: of masks; or of the published collection (its table, with the zip or the unpacked
            masks beside it); or the zip or the table itself. Of the published masks those with a
            tumour are for wishes of that tumour alone, as in the reference.

    Raises:
        InputError: no such folder, no masks in it, or none as wished (and what comes nearest).
    """
    table = _table_of(folder)
    if table is not None:
        found = [one for one in read_table(table) if not set(TUMOURS) & one.ids - set(anatomy)]
    else:
        found = [_read(path, labels) for path in _masks(folder)]
    fitting = [one for one in found if not _lacks(one, anatomy, regions, spacing_mm)]
    if fitting:
        return fitting
    lacks = {one.name: _lacks(one, anatomy, regions, spacing_mm) for one in found}
    best = min(lacks, key=lambda name: len(lacks[name]), default=None)
    raise InputError(
        f"none of {len(found)} masks in {folder} is as wished",
        f"nearest: {best}, which lacks {', '.join(lacks[best])}" if best else "",
    )


def read_table(table: Path) -> list[Candidate]:
    """The candidates of a published table whose masks are there, by name.

    Raises:
        InputError: no such table, or neither the archive nor the masks that it names.
    """
    rows = _rows(table)
    archives = sorted(table.parent.glob("*.zip"), key=lambda path: "mask" not in path.name)
    for archive in archives:
        members = _members(archive)
        inside = [_row(table, row, archive, members.get(_file(table, row))) for row in rows]
        found = [one for one in inside if one is not None]
        if found:
            return sorted(found, key=lambda one: one.member)
    folders = [table.parent, *sorted(p for p in table.parent.iterdir() if p.is_dir())]
    for folder in folders:
        outside = [_unpacked(table, row, folder) for row in rows]
        found = [one for one in outside if one is not None]
        if found:
            return sorted(found, key=lambda one: str(one.path))
    raise InputError(
        f"{table} names masks that are not there",
        "put the published zip (all_masks_….zip) beside it, or the folder that it unpacks to",
    )


def brought_out(one: Candidate, folder: Path, *, overwrite: bool = False) -> Path:
    """The candidate as a file: itself, or out of its archive into `folder`.

    Raises:
        InputError: the archive is damaged, or the mask in it is no mask's size.
        OutputError: it cannot be written.
    """
    if not one.member:
        return one.path
    target = folder / one.name
    if target.exists() and not overwrite:
        return target
    try:
        with zipfile.ZipFile(one.path) as archive:
            size = archive.getinfo(one.member).file_size
            if size > _MAX_MASK_BYTES:
                raise InputError(f"{one.path}: {one.member} claims {size} bytes")
            content = archive.read(one.member)
    except (zipfile.BadZipFile, KeyError, EOFError, NotImplementedError, RuntimeError) as error:
        raise InputError(f"{one.path}: {one.member} cannot be read", "fetch it again") from error
    with replacing(target, overwrite=overwrite) as temporary:
        temporary.write_bytes(content)
    return target


def _table_of(place: Path) -> Path | None:
    """The published table that `place` is, holds, or stands beside."""
    if place.is_file() and place.suffix == ".json":
        return place
    if place.is_file() and place.suffix == ".zip":
        found = _newest_table(place.parent)
        if found is None:
            raise InputError(
                f"{place}: the table of its masks is not beside it", f"put {TABLES} there"
            )
        return found
    if not place.is_dir():
        return None
    if any(path.name.lower().endswith(_ENDINGS) for path in place.iterdir()):
        return None  # a folder of masks
    return _newest_table(place) or _newest_table(place.parent)


def _newest_table(folder: Path) -> Path | None:
    found = sorted(folder.glob(TABLES))
    return found[-1] if found else None


def _rows(table: Path) -> list[Mapping[str, Any]]:
    try:
        rows = json.loads(table.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{table}: cannot be read as JSON", "fetch it again") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise InputError(f"{table} is no table of candidate masks", "a list of objects is read")
    return rows


def _file(table: Path, row: Mapping[str, Any]) -> str:
    """The mask's path in the collection, without what leads there (`./`)."""
    name = row.get("pseudo_label_filename")
    if not isinstance(name, str):
        raise InputError(f"{table}: a mask without pseudo_label_filename")
    return str(PurePosixPath(name))


def _members(archive: Path) -> dict[str, str]:
    """Path in the collection → member: with and without the folder that all of them lie in."""
    try:
        with zipfile.ZipFile(archive) as opened:
            names = [name for name in opened.namelist() if name.lower().endswith(_ENDINGS)]
    except (zipfile.BadZipFile, OSError) as error:
        raise InputError(f"{archive} is no whole zip file", "fetch it again") from error
    inner = {"/".join(PurePosixPath(name).parts[1:]): name for name in names}
    return {**inner, **{str(PurePosixPath(name)): name for name in names}}


def _row(
    table: Path, row: Mapping[str, Any], path: Path, member: str | None, *, packed: bool = True
) -> Candidate | None:
    if member is None:
        return None
    try:
        ids = frozenset(int(label) for label in row["label_list"])
        i, j, k = (abs(float(mm)) for mm in row["spacing"])
        regions = _regions(row) or regions_present(ids)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{table}: {_file(table, row)} lacks what it shows: {error}") from error
    return Candidate(path, ids, regions, (i, j, k), "maisi", member if packed else "")


def _unpacked(table: Path, row: Mapping[str, Any], folder: Path) -> Candidate | None:
    """The mask as a file inside `folder`; a name that leads out of it is not followed."""
    file = PurePosixPath(_file(table, row))
    path = folder / file
    if file.is_absolute() or ".." in file.parts or not path.is_file():
        return None
    return _row(table, row, path, file.name, packed=False)


def _regions(row: Mapping[str, Any]) -> tuple[str, ...]:
    """From the first to the last region, each told by one of four numbers; () where not told."""
    if "top_region_index" not in row:
        return ()
    top, bottom = (
        next(n for n, told in enumerate(row[f"{end}_region_index"]) if told)
        for end in ("top", "bottom")
    )
    return tuple(REGIONS)[top : bottom + 1]


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
    return Candidate(path, ids, regions_present(ids), volume.geometry.spacing_mm, labels)


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
