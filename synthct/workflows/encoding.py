"""The second half of `synthct prepare`: whole volumes through an autoencoder, into `latents/`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from synthct.checkpoints.load import load_into, read_metadata
from synthct.errors import InputError, MissingWeights, UsageError
from synthct.geometry import Shape, Spacing
from synthct.models.maisi import data
from synthct.models.maisi.encode import encode
from synthct.models.maisi.latents import EncodedCase, pair_folder, save_encoded
from synthct.models.maisi.networks import build_autoencoder
from synthct.models.maisi.spec import MaisiSpec, preset
from synthct.record import sha256_of
from synthct.volume.manifest import FILE_NAME, LATENTS, MIRRORED, Row, read_manifest
from synthct.workflows.engine_budget import engine_budget
from synthct.workflows.progress import Progress, SilentProgress

PRESET = "preset"
"""Metadata of trained weights: the networks' preset."""
_VOLUMES = 4  # float32 volumes beside the engine's maps: read, resized, padded, mirrored


@dataclass(frozen=True)
class EncodeRequest:
    """What to encode, and with what.

    Attributes:
        dataset: a folder that `prepare` made.
        weights: folder with the trained `vae.safetensors`.
        spec: preset of its networks; None: as the file says.
        max_memory_bytes: bound on what encoding takes.
        mirrored: encode every volume a second time with left and right exchanged.
        multiple: resample every side to the nearest multiple of this, as the published recipe does
            (128), the new spacing recorded; None: pad with air to what the networks need.
    """

    dataset: Path
    weights: Path
    spec: str | None = None
    max_memory_bytes: int | None = None
    mirrored: bool = False
    multiple: int | None = None


@dataclass(frozen=True)
class Encoded:
    """How many volumes this run encoded, and how many stood there already."""

    made: int
    kept: int

    def as_dict(self) -> dict[str, object]:
        return {"encoded": self.made, "encoded_before": self.kept}


def encode_dataset(request: EncodeRequest, progress: Progress | None = None) -> Encoded:
    """Encode the training images and pairs of a dataset; mean and sigma are stored.

    Raises:
        MissingWeights: no autoencoder in the folder.
        UsageError: its networks' preset is not known.
        InputError: nothing to encode.
        MemoryBudgetError: a volume does not go through within the budget.
    """
    progress = progress or SilentProgress()
    manifest = read_manifest(request.dataset / FILE_NAME)
    todo = _todo(request, manifest.split("train"))
    if not todo:
        raise InputError(f"{request.dataset}: no training scans to encode")
    desk = _Encoder(request)
    made = 0
    with progress.stage("encoding", len(todo)) as advance:
        for source, sha256, target, mirrored in todo:
            made += desk.enter(source, sha256, target, mirrored)
            advance()
    return Encoded(made, len(todo) - made)


def _todo(request: EncodeRequest, rows: tuple[Row, ...]) -> list[tuple[Path, str, Path, bool]]:
    """Source, its hash, target, and whether left and right are exchanged."""
    found: list[tuple[Path, str, Path, bool]] = []
    for row in rows:
        for name, sha256, folder in (
            (row.image, row.image_sha256, request.dataset / LATENTS),
            (row.pair, row.pair_sha256, pair_folder(request.dataset)),
        ):
            for mirrored in (False, True)[: 1 + request.mirrored] if name else ():
                target = folder / f"{row.case}{MIRRORED if mirrored else ''}.npz"
                found.append((request.dataset / name, sha256, target, mirrored))
    return found


class _Encoder:
    """The autoencoder, loaded once."""

    def __init__(self, request: EncodeRequest) -> None:
        self.request = request
        path = request.weights / "vae.safetensors"
        if not path.is_file():
            raise MissingWeights(f"{path} not found", "train maisi-vae first, or name its folder")
        self.spec = _spec(request.spec or read_metadata(path).get(PRESET), path)
        self.network = load_into(lambda: build_autoencoder(self.spec.autoencoder), path)
        self.sha256 = sha256_of(path)

    def enter(self, source: Path, sha256: str, target: Path, mirrored: bool) -> bool:
        """Encode a volume unless its latent stands there already; whether it was encoded."""
        made_by = {"vae_sha256": self.sha256, "source_sha256": sha256,
                   "multiple": self.request.multiple}  # fmt: skip
        if target.is_file() and _stands(target, made_by):
            return False
        case = data.Case(source)
        image, spacing_mm, more = self._image(case, mirrored)
        mean, sigma = self._encoded(image)
        save_encoded(target, mean, sigma, spacing_mm, {**case.meta, **made_by}, **more)
        return True

    def _image(
        self, case: data.Case, mirrored: bool
    ) -> tuple[torch.Tensor, Spacing, dict[str, npt.NDArray[Any]]]:
        """The volume in network units, (1, 1, X, Y, Z), and its labels on the same grid."""
        arrays = {n: a for n, a in case.arrays.items() if n in ("image", "labels", "known")}
        if mirrored:
            arrays = {name: a[::-1] for name, a in arrays.items()}
        if "labels" in arrays:
            arrays["image"] = np.where(arrays["labels"] == 0, data.AIR_HU, arrays["image"])
        shape, spacing_mm, padded = self._grid(case)
        image = _padded(data.resize_image(arrays.pop("image"), shape), padded,
                        data.AIR[case.modality])  # fmt: skip
        more = {name: _padded_ids(data.resize_labels(a, shape), padded)
                for name, a in arrays.items()}  # fmt: skip
        return data.unit_image(image, case.modality), spacing_mm, more

    def _grid(self, case: data.Case) -> tuple[Shape, Spacing, Shape]:
        """Voxels to resample to, their spacing, and voxels with the padding."""
        need = self.spec.grid_multiple
        multiple = self.request.multiple
        if multiple is None:
            i, j, k = (-(-n // need) * need for n in case.shape)
            a, b, c = (float(s) for s in case.spacing_mm)
            return case.shape, (a, b, c), (i, j, k)
        if multiple % need:
            raise UsageError(f"{multiple} is no multiple of {need}, which the networks need")
        sides = [max(multiple, round(n / multiple) * multiple) for n in case.shape]
        spacing = [
            float(s) * n / m for s, n, m in zip(case.spacing_mm, case.shape, sides, strict=True)
        ]
        i, j, k = sides
        return (i, j, k), (spacing[0], spacing[1], spacing[2]), (i, j, k)

    def _encoded(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        with torch.inference_mode():
            mean, sigma = encode(self.network, image, budget=self._budget(image.numel()))
        return mean.float(), sigma.float()

    def _budget(self, voxels: int) -> int | None:
        """What `--max-memory` leaves beside the volumes themselves."""
        return engine_budget(
            self.request.max_memory_bytes,
            self.network,
            self.spec.autoencoder,
            voxels,
            _VOLUMES,
            hint="raise it, or prepare coarser scans",
        )


def _spec(name: str | None, path: Path) -> MaisiSpec:
    if name is None:
        raise UsageError(
            f"{path} does not say which networks it is of", "name them: --spec mini-ct"
        )
    return preset(name)


def _stands(path: Path, made_by: Mapping[str, object]) -> bool:
    meta = EncodedCase(path).meta
    return all(meta.get(key) == value for key, value in made_by.items())


def _padded(image: torch.Tensor, shape: Shape, fill: float) -> torch.Tensor:
    missing = [m - n for n, m in zip(image.shape[2:], shape, strict=True)]
    ends = [n for m in reversed(missing) for n in (0, m)]
    return torch.nn.functional.pad(image, ends, value=fill)


def _padded_ids(ids: npt.NDArray[Any], shape: Shape) -> npt.NDArray[Any]:
    missing = [(0, m - n) for n, m in zip(ids.shape, shape, strict=True)]
    return np.pad(ids, missing)
