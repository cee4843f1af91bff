"""What the files of a case are called (INTERFACE, "Files out")."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

RUN_RECORD = "run.json"
REJECTED = "rejected"
CT = "ct"

_MASK_ENDINGS = (".seg.nrrd", ".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd")
_CASE_FILE = re.compile(
    r"^(?P<stem>.+)_seed-(?P<seed>\d+)"
    r"(?:\.json|_preview\.png|_(?P<kind>[A-Za-z0-9]+)\.nii(?:\.gz)?)$"
)


@dataclass(frozen=True)
class CaseNames:
    """The files of one case: the mask `stem`, one `seed`, in one folder.

    >>> CaseNames(Path("out"), "seg", 0).image.name
    'seg_seed-0_ct.nii.gz'
    """

    folder: Path
    stem: str
    seed: int
    kind: str = CT
    """The image's suffix: `ct`, or a contrast such as `T1w`."""

    @property
    def case(self) -> str:
        return f"{self.stem}_seed-{self.seed}"

    @property
    def image(self) -> Path:
        return self.folder / f"{self.case}_{self.kind}.nii.gz"

    @property
    def labels(self) -> Path:
        return self.folder / f"{self.case}_dseg.nii.gz"

    @property
    def preview(self) -> Path:
        return self.folder / f"{self.case}_preview.png"

    @property
    def sidecar(self) -> Path:
        return self.folder / f"{self.case}.json"

    @property
    def is_rejected(self) -> bool:
        return self.folder.name == REJECTED

    def by_role(self) -> dict[str, Path]:
        """Role → path, in the order in which they get their names: the sidecar last."""
        return {
            "image": self.image,
            "labels": self.labels,
            "preview": self.preview,
            "sidecar": self.sidecar,
        }

    def rejected(self) -> CaseNames:
        """Where the best try goes when none passes QC: `rejected/` inside the output folder."""
        return self if self.is_rejected else replace(self, folder=self.folder / REJECTED)

    def accepted(self) -> CaseNames:
        return replace(self, folder=self.folder.parent) if self.is_rejected else self


def stem_of(mask: Path | str | None, model: str) -> str:
    """What names a case: the mask's file without its ending, a folder's name, else the model.

    >>> stem_of("patients/seg.nii.gz", "maisi-mini-ct")
    'seg'
    """
    if mask is None:
        return model
    path = Path(mask)
    if path.is_dir():
        return path.resolve().name or model
    lower = path.name.lower()
    for ending in _MASK_ENDINGS:
        if lower.endswith(ending):
            return path.name[: -len(ending)] or "mask"
    return path.stem or "mask"


def names_of(path: Path | str) -> CaseNames | None:
    """The case that a file belongs to, told by its name alone; None for a name that is not ours.

    A sidecar, label map or preview does not tell the image's kind: `ct` is assumed.
    """
    path = Path(path)
    match = _CASE_FILE.match(path.name)
    if match is None:
        return None
    kind = match["kind"]
    kind = CT if kind in (None, "dseg") else kind
    return CaseNames(path.parent, match["stem"], int(match["seed"]), kind)
