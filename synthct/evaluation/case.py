"""One volume of a study: where it lies, and how it is read. Arrays come in RAS, finite."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np

from synthct.errors import InputError, MaskError
from synthct.labels.detect import AUTO, detect
from synthct.labels.groups import BODY
from synthct.labels.remap import Unknown, remap
from synthct.record import sha256_of
from synthct.volume.intensity import AIR_HU
from synthct.volume.reading import read_image, read_labels
from synthct.volume.resample import to_ras
from synthct.volume.volume import LabelVolume, Volume

Role = Literal["real", "synthetic", "training"]
Schemes = str | Mapping[Role, str]
"""Scheme of the masks' ids: one for all, or by role (`auto` where a role is not named)."""


def scheme_for(role: Role, schemes: Schemes) -> str:
    """The scheme of a role's masks."""
    return schemes if isinstance(schemes, str) else schemes.get(role, AUTO)


@dataclass(frozen=True)
class Case:
    """A volume on disk, with its labels where it has any.

    Attributes:
        name: unique within its role.
        image: NIfTI, NRRD or MHA.
        labels: a mask on the image's grid, or None.
        role: what it is in the study.
        modality: CT or MR.
        scheme: of the mask's ids; `auto` finds out.
        unknown: what becomes of ids that the scheme does not know.
    """

    name: str
    image: Path
    labels: Path | None = None
    role: Role = "real"
    modality: str = "CT"
    scheme: str = "auto"
    unknown: Unknown = "error"

    def volume(self) -> Volume:
        """The scan: float32 (i, j, k) in RAS, its own spacing; what is not finite becomes air.

        Raises:
            InputError: as `read_image`.
        """
        volume = to_ras(read_image(self.image, self.modality))
        fill = AIR_HU if self.modality == "CT" else 0.0
        return volume.with_array(np.nan_to_num(volume.array, nan=fill, posinf=fill, neginf=fill))

    def label_map(self) -> LabelVolume:
        """MAISI ids on the grid of `volume()`. 200 (body) only where the mask has an envelope.

        Raises:
            InputError: the case has no mask, or it lies on another grid than the image.
            MaskError: as `read_labels`, `detect` and `remap`; it names the file.
        """
        if self.labels is None:
            raise InputError(f"{self.name}: no labels beside {self.image}")
        mask = read_labels(self.labels)
        try:
            found = detect(mask.labels.ids(), mask.labels.names, self.scheme)
            array, report = remap(mask.labels.array, found.scheme, unknown=self.unknown)
        except MaskError as error:
            hint = f"{error.hint} (one folder alone: --real-labels, --synth-labels)"
            raise MaskError(f"{self.labels}: {error.message}", hint) from error
        if not report.has_envelope:
            array[array == BODY] = 0
        labels = to_ras(LabelVolume(array, mask.labels.geometry, scheme="maisi"))
        volume = read_image(self.image, self.modality).geometry.as_ras()
        if not labels.geometry.same_as(volume, tolerance_mm=1e-2):
            raise MaskError(
                f"{self.labels}: its grid {labels.geometry.shape} is not the image's {volume.shape}"
            )
        return labels

    @cached_property
    def sha256(self) -> str:
        """Of the image's file."""
        return sha256_of(self.image)

    @cached_property
    def labels_sha256(self) -> str:
        """Of the mask's file or folder; empty without one."""
        return "" if self.labels is None else sha256_of(self.labels)

    @property
    def label_reading(self) -> dict[str, str]:
        """How the mask's ids are read, where that was chosen; a scheme from a file by its hash."""
        chosen = {} if self.scheme == AUTO else {"scheme": self.scheme}
        if chosen and (file := Path(self.scheme)).is_file():
            chosen = {"scheme": file.name, "scheme_sha256": sha256_of(file)}
        if self.unknown != "error":
            chosen["unknown"] = self.unknown
        return chosen if self.labels is not None else {}

    def as_dict(self) -> dict[str, object]:
        known: dict[str, object] = {"name": self.name, "file": self.image.name}
        known |= {"sha256": self.sha256, "modality": self.modality}
        if self.labels is not None:
            known |= {"labels": self.labels.name, "labels_sha256": self.labels_sha256}
            known |= {"scheme": AUTO, **self.label_reading}
        return known
