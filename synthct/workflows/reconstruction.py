"""A volume through an autoencoder and back: `encode`, `decode`, `evaluate reconstruction`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from synthct.atomic import refuse_existing
from synthct.checkpoints import catalogue
from synthct.errors import InputError, UsageError
from synthct.evaluation.lpips import Lpips
from synthct.evaluation.similarity import Similarity, similarity
from synthct.geometry import Geometry, Spacing
from synthct.labels.body import body_from_ct
from synthct.models.load import load_autoencoder, pick_device, pick_devices
from synthct.models.maisi.autoencoder import MaisiAutoencoder
from synthct.outputs.latent import LatentRecord, latent_path, read_latent, write_latent
from synthct.record import tool_version
from synthct.volume.intensity import HU_MAX, HU_MIN
from synthct.volume.nifti import require_nifti_name, write_volume
from synthct.volume.reading import read_image
from synthct.volume.resample import from_ras, resample_image, to_ras
from synthct.volume.volume import Volume
from synthct.workflows.engine_budget import engine_budget
from synthct.workflows.progress import Progress, SilentProgress
from synthct.workflows.timing import Clock, TimedStages

Float32 = npt.NDArray[np.float32]

_SUPERIOR = 2  # of a RAS array
_MR_HIGH_PERCENTILE = 99.5  # what 1 stands for, as in the published preprocessing of MR
_MR_BODY = 0.05  # of that: brighter is body
_COARSE = 200.0  # a narrower range does not survive rounding to whole numbers
_MR_WRITTEN = (0.0, 1000.0)  # what 0 and 1 become then, as in the publication


@dataclass(frozen=True)
class Codec:
    """Which autoencoder, where, and within how much memory."""

    model: str = catalogue.DEFAULT_MODEL
    weights: Path | None = None
    device: str = "auto"
    max_memory_bytes: int | None = None


@dataclass(frozen=True)
class _Units:
    """The scanner units that 0 and 1 of the network stand for. CT is clipped to them."""

    low: float
    high: float
    clipped: bool

    @classmethod
    def of(cls, array: Float32, modality: str) -> _Units:
        if modality == "CT":
            return cls(HU_MIN, HU_MAX, True)
        low, high = float(array.min()), float(np.percentile(array, _MR_HIGH_PERCENTILE))
        if high <= low:
            raise InputError("the image is one value throughout: nothing to encode")
        return cls(low, high, False)

    def for_whole_numbers(self) -> _Units:
        """These, or others where the file's whole numbers would lose the image."""
        wide = self.high - self.low >= _COARSE
        return self if wide else _Units(*_MR_WRITTEN, self.clipped)

    def to_network(self, array: Float32) -> Float32:
        unit = (array - np.float32(self.low)) / np.float32(self.high - self.low)
        return np.clip(unit, 0.0, 1.0, out=unit) if self.clipped else unit

    def to_scanner(self, unit: Float32) -> Float32:
        clipped = np.clip(unit, 0.0, 1.0 if self.clipped else None)
        scanner: Float32 = clipped * np.float32(self.high - self.low) + np.float32(self.low)
        return scanner


def encode(
    image: Path,
    output: Path,
    codec: Codec,
    *,
    spacing_mm: Spacing | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write the latent of a scan (`.npz`: the VAE's mean, and the place it was taken from).

    Args:
        image: NIfTI, NRRD or MHA.
        output: the file; `.npz` is added where it is missing.
        codec: the autoencoder.
        spacing_mm: resample to this first, along the image's own axes.
        overwrite: replace an older file.
        progress: told how far it is.

    Raises:
        UsageError: the model has no autoencoder of images; the output exists, or has the name of
            something else.
        InputError: the image cannot be read, or the output not be written.
        MemoryBudgetError, WeightsError: as in the exit codes 5 and 6.
    """
    progress = progress or SilentProgress()
    target = latent_path(output)
    _refuse_existing(target, overwrite)
    machine = _Machine(codec, progress)
    volume = machine.read(image, spacing_mm)
    units = _Units.of(volume.array, volume.modality)
    geometry, modality = volume.geometry, volume.modality
    unit = units.to_network(to_ras(volume).array)
    del volume  # the budget has no place for the scan itself
    latent = machine.encode(unit)
    record = LatentRecord(
        model=codec.model,
        vae_sha256=machine.autoencoder.sha256,
        modality=modality,
        unit_range=(units.low, units.high),
        shape=geometry.shape,
        affine=geometry.affine.tolist(),
        tool_version=tool_version(),
    )
    write_latent(target, latent, record, overwrite=overwrite)
    return {
        "output": str(target),
        "shape": list(latent.shape),
        "voxels_per_number": float(np.prod(geometry.shape) / latent.size),
        **record.model_dump(mode="json", exclude={"shape", "affine"}),
        "image_shape": list(geometry.shape),
        "spacing_mm": list(geometry.spacing_mm),
    }


def decode(
    latent_file: Path,
    output: Path,
    codec: Codec,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write the volume of a latent, on the grid that it was encoded from.

    Raises:
        UsageError: the latent is of other weights; the output exists, or is no name of a volume.
        InputError: no latent of ours, or the output cannot be written.
        MemoryBudgetError, WeightsError: as in the exit codes 5 and 6.
    """
    progress = progress or SilentProgress()
    require_nifti_name(output)
    _refuse_existing(output, overwrite)
    latent, record = read_latent(latent_file)
    machine = _Machine(codec, progress, several=True)
    _require_same_weights(latent_file, record, machine.autoencoder, codec)
    geometry = record.geometry
    _require_shape(latent_file, latent, geometry, machine.autoencoder)
    units = _Units(*record.unit_range, clipped=record.modality == "CT")
    unit = machine.decode(latent, geometry)
    _write(output, unit, units, geometry, machine, overwrite)
    return {
        "output": str(output),
        "shape": list(geometry.shape),
        "spacing_mm": list(geometry.spacing_mm),
        "modality": record.modality,
        "unit_range": [units.for_whole_numbers().low, units.for_whole_numbers().high],
        "model": codec.model,
        "vae_sha256": record.vae_sha256,
    }


def evaluate_reconstruction(
    volumes: Sequence[Path],
    codec: Codec,
    *,
    spacing_mm: Spacing | None = None,
    output: Path | None = None,
    lpips: Path | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Encode and decode scans, and hold what comes back against what went in, in the body.

    Args:
        volumes: NIfTI, NRRD or MHA.
        codec: the autoencoder.
        spacing_mm: resample to this first, along each image's own axes.
        output: folder for the reconstructions; nothing is written without.
        lpips: a file of a perceptual distance (`evaluation.lpips`); it is left out without.
        overwrite: replace older reconstructions.
        progress: told how far it is.

    Raises:
        As `encode`; also InputError for a scan without a body.
    """
    progress = progress or SilentProgress()
    if not volumes:
        raise UsageError("no volumes were given")
    targets = [None if output is None else output / _name(path) for path in volumes]
    for target in targets:
        if target is not None:
            _refuse_existing(target, overwrite)
    perceptual = None if lpips is None else Lpips.load(lpips)
    machine = _Machine(codec, progress)
    cases = [
        _one(machine, path, target, spacing_mm, overwrite, perceptual)
        for path, target in zip(volumes, targets, strict=True)
    ]
    return {
        "model": codec.model,
        "vae_sha256": machine.autoencoder.sha256,
        **({} if perceptual is None else {"lpips": _described(perceptual)}),
        "cases": cases,
        "mean": {
            key: float(np.mean([case["body"][key] for case in cases]))
            for key in ("psnr_db", "ssim", "lpips")
            if key in cases[0]["body"]
        },
    }


class _Machine:
    """The autoencoder on its device, or the first of several that decode, loaded once."""

    def __init__(self, codec: Codec, progress: Progress, *, several: bool = False) -> None:
        self.codec, self.progress = codec, progress
        self.modality = catalogue.entry(codec.model).modality
        with progress.stage("loading the model"):
            devices = pick_devices(codec.device) if several else (pick_device(codec.device),)
            loaded = load_autoencoder(codec.model, codec.weights, devices[0])
            self.autoencoder = replace(loaded, devices=tuple(map(str, devices)))

    def read(self, path: Path, spacing_mm: Spacing | None) -> Volume:
        """The scan in scanner units, finite, on the grid that is encoded."""
        volume = read_image(path, self.modality)
        fill = HU_MIN if self.modality == "CT" else 0.0
        array = np.nan_to_num(volume.array, nan=fill, posinf=fill, neginf=fill)
        volume = volume.with_array(array)
        if spacing_mm is None:
            return volume
        return resample_image(volume, volume.geometry.with_spacing(spacing_mm))

    def encode(self, unit: Float32) -> Float32:
        stages = TimedStages(self.progress, Clock())
        try:
            with torch.inference_mode():
                return self.autoencoder.encode(unit, stages, self._budget(unit.size))
        finally:
            stages.close()

    def decode(self, latent: Float32, geometry: Geometry) -> Float32:
        """The image in the network's range, RAS, for a volume that lies on `geometry`."""
        stages = TimedStages(self.progress, Clock())
        shape = geometry.as_ras().shape
        try:
            with torch.inference_mode():
                budget = self._budget(int(np.prod(shape)))
                return self.autoencoder.decode(latent, shape, stages, budget)
        finally:
            stages.close()

    def _budget(self, voxels: int) -> int | None:
        """What `--max-memory` leaves beside the image, and its padded or decoded copy."""
        autoencoder = self.autoencoder
        return engine_budget(
            self.codec.max_memory_bytes,
            autoencoder.network,
            autoencoder.spec,
            voxels,
            volumes=2,
            hint="give more, or a coarser --spacing",
        )


def _one(
    machine: _Machine,
    path: Path,
    target: Path | None,
    spacing_mm: Spacing | None,
    overwrite: bool,
    perceptual: Lpips | None,
) -> dict[str, Any]:
    volume = machine.read(path, spacing_mm)
    units = _Units.of(volume.array, volume.modality)
    ras = to_ras(volume)
    body = _body(ras, units, path)
    unit = units.to_network(ras.array)
    geometry, modality = volume.geometry, volume.modality
    del volume, ras  # the budget has no place for the scan itself
    back = machine.decode(machine.encode(unit), geometry)
    found, true = units.to_scanner(back), units.to_scanner(unit)
    data_range = units.high - units.low
    if target is not None:
        _write(target, back, units, geometry, machine, overwrite)
    inside = similarity(found, true, body, data_range).as_dict()
    whole = _whole(found, true, data_range).as_dict()
    if perceptual is not None:
        shown = np.clip(back, 0, 1), np.clip(unit, 0, 1)
        inside["lpips"] = perceptual.in_body(*shown, body)
        whole["lpips"] = perceptual.distance(*shown)
    return {
        "volume": str(path),
        "shape": list(geometry.shape),
        "spacing_mm": list(geometry.spacing_mm),
        "unit": "HU" if modality == "CT" else "as stored",
        "body": inside,
        "whole": whole,
        "output": None if target is None else str(target),
    }


def _write(
    path: Path, unit: Float32, units: _Units, geometry: Geometry, machine: _Machine, overwrite: bool
) -> None:
    """The image, RAS in the network's range, as a volume on `geometry`."""
    scanner = units.for_whole_numbers().to_scanner(unit)
    volume = from_ras(Volume(scanner, geometry.as_ras(), machine.modality), geometry)
    description = f"SYNTHETIC synthct {tool_version()} {machine.codec.model} decoded"
    write_volume(path, volume, description=description, overwrite=overwrite)


def _described(perceptual: Lpips) -> dict[str, str]:
    return {
        "network": perceptual.name,
        "sha256": perceptual.sha256,
        "slices": "every fourth of the three planes; in the body: within the box around it",
    }


def _whole(found: Float32, true: Float32, data_range: float) -> Similarity:
    return similarity(found, true, np.ones(true.shape, dtype=bool), data_range)


def _body(ras: Volume, units: _Units, path: Path) -> npt.NDArray[np.bool_]:
    """The patient: by threshold and largest component in CT, by brightness in MR."""
    if ras.modality == "CT":
        body = body_from_ct(ras.array, ras.geometry.spacing_mm, _SUPERIOR)
    else:
        body = units.to_network(ras.array) > _MR_BODY
    if not body.any():
        raise InputError(f"{path}: no body in it", "is it the modality of the model?")
    return body


def _require_same_weights(
    path: Path, record: LatentRecord, autoencoder: MaisiAutoencoder, codec: Codec
) -> None:
    if record.vae_sha256 != autoencoder.sha256:
        raise UsageError(
            f"{path} was encoded with {record.model} (sha256 {record.vae_sha256[:12]}), "
            f"the weights of {codec.model} have {autoencoder.sha256[:12]}",
            f"pass --model {record.model} and the weights it was made with",
        )


def _require_shape(
    path: Path, latent: Float32, geometry: Geometry, autoencoder: MaisiAutoencoder
) -> None:
    factor = autoencoder.spec.factor
    sides = tuple(-(-n // factor) for n in geometry.as_ras().shape)
    if latent.shape != (autoencoder.spec.latent_channels, *sides):
        raise InputError(f"{path}: a latent of {latent.shape} for a volume of {geometry.shape}")


def _refuse_existing(path: Path, overwrite: bool) -> None:
    if not overwrite:
        refuse_existing(path)


def _name(path: Path) -> str:
    stem = path.name
    for ending in (".nii.gz", ".nii", ".nrrd", ".mha", ".mhd"):
        stem = stem.removesuffix(ending)
    return f"{stem}_reconstruction.nii.gz"
