"""A prepared dataset as rows: one case a line in `manifest.tsv`, readable by any spreadsheet."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from synthct.atomic import write_text
from synthct.errors import InputError

FILE_NAME = "manifest.tsv"
SPLITS = ("train", "validation", "excluded")
KINDS = ("image", "real", "pseudo", "phantom")
MODALITIES = ("CT", "MR")
IMAGES, VALIDATION, PAIRS = PLACES = ("images", "validation", "pairs")
"""Where in the dataset's folder the prepared files lie, as `CASE.npz`."""
LATENTS = "latents"
"""There: latents of the images; those of the pairs lie one deeper."""
MIRRORED = ".mirrored"
"""Ends the name of a latent of the same case with left and right exchanged."""


@dataclass(frozen=True)
class Row:
    """One case.

    Attributes:
        case: its name, unique in the manifest.
        subject: the person; a person never stands in two splits.
        split: train, validation or excluded. A scan that failed is excluded, or stays in
            validation without an image.
        kind: image (no labels), real, pseudo (atlas) or phantom labels. A validation scan with
            labels is real, and has them in its image's file.
        regions: what the labels show, from the top down, joined by `+`; empty without labels.
        spacing_mm: of the prepared arrays, `i x j x k`.
        image, pair: paths within the dataset folder; empty where there is no such file.
        source, source_sha256: the scan it was made from.
        image_sha256, pair_sha256: of the prepared files.
        made_by: fingerprint of what was asked for this case; another one makes it anew. Empty
            where it failed, so that it is tried again.
        reason: why it is excluded, failed or has no pair, or what was left out.
        modality: CT or MR.
        contrast: of MR, `t1`, `t2`, `flair`, …; empty where it is not known.
        skull_stripped: of MR, `yes` or `no`.
    """

    case: str
    subject: str
    split: str
    kind: str
    regions: str = ""
    spacing_mm: str = ""
    image: str = ""
    pair: str = ""
    source: str = ""
    source_sha256: str = ""
    image_sha256: str = ""
    pair_sha256: str = ""
    made_by: str = ""
    reason: str = ""
    modality: str = "CT"
    contrast: str = ""
    skull_stripped: str = ""

    def __post_init__(self) -> None:
        if not self.case or not self.subject:
            raise InputError("a manifest row needs a case and a subject")
        if self.split not in SPLITS:
            raise InputError(f"{self.case}: split {self.split!r}; accepted: {', '.join(SPLITS)}")
        if self.modality not in MODALITIES:
            raise InputError(
                f"{self.case}: modality {self.modality!r}; accepted: {', '.join(MODALITIES)}"
            )
        if self.kind not in KINDS:
            raise InputError(f"{self.case}: kind {self.kind!r}; accepted: {', '.join(KINDS)}")


COLUMNS = tuple(f.name for f in fields(Row))
_LATER = 3  # columns that the first manifests did not have


class Manifest(Mapping[str, Row]):
    """Rows by case, in order of name."""

    def __init__(self, rows: Iterable[Row] = ()) -> None:
        rows = tuple(rows)
        self._rows = {row.case: row for row in sorted(rows, key=lambda r: r.case)}
        if len(self._rows) != len(rows):
            raise InputError("a case stands twice in the manifest")
        self._check_subjects()

    def __getitem__(self, case: str) -> Row:
        return self._rows[case]

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def with_row(self, row: Row) -> Manifest:
        """This manifest with `row` added, or in the place of the row of the same case."""
        return Manifest([*(r for r in self._rows.values() if r.case != row.case), row])

    def without(self, cases: Iterable[str]) -> Manifest:
        gone = set(cases)
        return Manifest(row for row in self._rows.values() if row.case not in gone)

    def prepared_in(self, place: str) -> dict[str, str]:
        """Case → hash of its file in one of `PLACES`: what may be read there, and nothing else.

        Images and pairs are those of the training split; a file of another split is not named.
        """
        files = {
            row.case: (row.pair, row.pair_sha256)
            if place == PAIRS
            else (row.image, row.image_sha256)
            for row in self.split("validation" if place == VALIDATION else "train")
        }
        return {case: sha for case, (name, sha) in files.items() if name == f"{place}/{case}.npz"}

    def split(self, name: str) -> tuple[Row, ...]:
        return tuple(row for row in self._rows.values() if row.split == name)

    def _check_subjects(self) -> None:
        training = {r.subject for r in self.split("train")}
        both = training & {r.subject for r in self.split("validation")}
        if both:
            raise InputError(
                f"subjects in training and validation at once: {', '.join(sorted(both))}",
                "split by subject, not by scan",
            )


def read_manifest(path: Path) -> Manifest:
    """Read `manifest.tsv`.

    Raises:
        InputError: missing, other columns than ours, or rows that make no sense.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: no manifest can be read", "run `synthct prepare`") from error
    table = csv.DictReader(io.StringIO(text), delimiter="\t", quoting=csv.QUOTE_NONE)
    if tuple(table.fieldnames or ()) not in (COLUMNS, COLUMNS[:-_LATER]):
        raise InputError(f"{path}: columns {table.fieldnames}; expected {list(COLUMNS)}")
    try:
        return Manifest(Row(**row) for row in table)
    except TypeError as error:
        raise InputError(f"{path}: a row with too many or too few columns") from error


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Write `manifest.tsv` whole or not at all, over an older one."""
    lines = ["\t".join(COLUMNS)]
    for row in manifest.values():
        lines.append("\t".join(_cell(value) for value in asdict(row).values()))
    write_text(path, "\n".join(lines) + "\n", overwrite=True)


def _cell(value: str) -> str:
    return " ".join(value.split())
