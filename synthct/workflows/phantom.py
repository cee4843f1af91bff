"""Make a label map of a person who does not exist, and write it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from synthct.atomic import refuse_existing
from synthct.geometry import Shape, Spacing
from synthct.labels.scheme import maisi_name
from synthct.phantom import make_phantom
from synthct.volume.nifti import require_nifti_name, write_labels
from synthct.volume.volume import LabelVolume

DEFAULT_SPACING_MM: Spacing = (3.0, 3.0, 3.0)


@dataclass(frozen=True, eq=False)
class WrittenPhantom:
    """A phantom and the file it went into."""

    output: Path
    region: str
    seed: int
    labels: LabelVolume

    @property
    def volumes_ml(self) -> dict[str, float]:
        """Name of each structure → its volume in ml."""
        counts = np.bincount(self.labels.array.ravel(), minlength=256)
        voxel_ml = self.labels.geometry.voxel_mm3 / 1000
        return {maisi_name(i): float(counts[i] * voxel_ml) for i in self.labels.ids()}

    def as_dict(self) -> dict[str, object]:
        geometry = self.labels.geometry
        return {
            "output": str(self.output),
            "region": self.region,
            "seed": self.seed,
            "scheme": self.labels.scheme,
            "shape": list(geometry.shape),
            "spacing_mm": list(geometry.spacing_mm),
            "extent_mm": list(geometry.extent_mm),
            "orientation": geometry.orientation,
            "structures": {name: round(ml, 2) for name, ml in self.volumes_ml.items()},
        }


def write_phantom(
    output: Path | str,
    *,
    region: str = "chest-abdomen",
    spacing_mm: Spacing = DEFAULT_SPACING_MM,
    seed: int = 0,
    lesions: bool = False,
    size: Shape | None = None,
    overwrite: bool = False,
) -> WrittenPhantom:
    """Make the phantom of `make_phantom` and write it as NIfTI with the MAISI names.

    Raises:
        UsageError: the name is no NIfTI name, the file exists, or there is no such region.
        GridError: a spacing or size outside of what is possible.
        OutputError: the folder cannot be written, or the disk is full.
    """
    output = Path(output)
    require_nifti_name(output)
    if not overwrite:
        refuse_existing(output)
    labels = make_phantom(region, spacing_mm, seed, lesions=lesions, shape=size)
    names = {label: maisi_name(label) for label in labels.ids()}
    description = f"SYNTHETIC phantom {region} seed {seed}"
    write_labels(output, labels, names, description=description, overwrite=overwrite)
    return WrittenPhantom(output, region, seed, labels)
