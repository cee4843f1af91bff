"""The three stages of training as tasks of one loop, from prepared data and the weights before."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from monai.apps.generation.maisi.networks.autoencoderkl_maisi import AutoencoderKlMaisi

from synthct.checkpoints.load import load_into, read_metadata, read_tensors
from synthct.errors import MissingWeights
from synthct.models.load import SCALE_FACTOR, skips
from synthct.models.maisi.image_task import ImageTask
from synthct.models.maisi.latent_task import LatentTask, LossWeights
from synthct.models.maisi.latents import encoded_cases, pair_folder
from synthct.models.maisi.networks import build_autoencoder
from synthct.models.maisi.recipes import MaisiRecipe
from synthct.models.maisi.spec import MaisiSpec, preset
from synthct.models.maisi.vae_task import VaeTask
from synthct.record import sha256_of

SCALE_BATCHES = 24
Stage = VaeTask | LatentTask | ImageTask


def build_stage(
    task: str, chosen: MaisiRecipe, folder: Path, start: Path | None, output: Path
) -> Stage:
    """The task, from the weights in `start`, or in `output` those of the stages before.

    Raises:
        MissingWeights: the stage before has left none.
    """
    if task == "maisi-vae":
        return _vae_stage(chosen, folder, start)
    before = start or output
    vae = _weights(before, "vae")
    autoencoder = load_into(lambda: build_autoencoder(preset(chosen.preset).autoencoder), vae)
    if not preset(chosen.preset).controlnet:
        return _image_stage(chosen, folder, autoencoder, vae, start)
    if task == "maisi-diffusion":
        return _diffusion_stage(chosen, folder, autoencoder, vae, start)
    return _controlnet_stage(chosen, folder, autoencoder, before)


def _vae_stage(chosen: MaisiRecipe, folder: Path, start: Path | None) -> VaeTask:
    stage = VaeTask(
        preset(chosen.preset),
        folder / "images",
        chosen.loop.seed,
        voxels=chosen.crops.voxels,
        size_factors=chosen.crops.size_factors,
        spacing_range_mm=chosen.crops.spacing_range_mm,
        phantoms=folder / "pairs" if (folder / "pairs").is_dir() else None,
        phantom_share=chosen.crops.phantom_share,
        bfloat16=chosen.loop.bfloat16,
        loss_weights=chosen.vae,
        augment=chosen.augment,
        cubes=chosen.crops.cubes,
        sides=chosen.crops.sides,
        validation=folder / "validation",
    )
    if start is not None:
        stage.begin_from(_floats(_weights(start, "vae")))
    return stage


def _image_stage(
    chosen: MaisiRecipe,
    folder: Path,
    autoencoder: AutoencoderKlMaisi,
    vae: Path,
    start: Path | None,
) -> ImageTask:
    grown = _grown(start, "unet")
    sha256 = sha256_of(vae)
    factor = _stated(grown) if grown else scale_factor(chosen, autoencoder, folder, sha256)
    stage = ImageTask(
        _spec(chosen, grown),
        folder / "images",
        folder / "latents",
        autoencoder,
        sha256,
        factor,
        seed=chosen.loop.seed,
        spacing_range_mm=chosen.crops.spacing_range_mm,
        bfloat16=chosen.loop.bfloat16,
        checkpointing=chosen.latent.checkpointing,
        by_image=chosen.latent.by_image,
        l1=chosen.latent.l1,
        validation=folder / "validation",
    )
    if grown is not None:
        stage.begin_from(_floats(grown))
    return stage


def _diffusion_stage(
    chosen: MaisiRecipe,
    folder: Path,
    autoencoder: AutoencoderKlMaisi,
    vae: Path,
    start: Path | None,
) -> LatentTask:
    """The U-Net alone: from the beginning, or on from `start`'s."""
    grown = _grown(start, "unet")
    factor = _stated(grown) if grown else scale_factor(chosen, autoencoder, folder)
    spec = _spec(chosen, grown)
    stage = _latent_task(chosen, spec, folder, autoencoder, factor, vae, controlled=False)
    if grown is not None:
        stage.begin_from(_floats(grown))
    return stage


def _spec(chosen: MaisiRecipe, unet: Path | None) -> MaisiSpec:
    """Whether networks learn all of the velocity is for the U-Net to say, and where none is to be
    gone on from for the recipe."""
    spec = preset(chosen.preset)
    asked = chosen.latent.skip if unet is None else skips(read_metadata(unet))
    return replace(spec, skip=asked and spec.sampler == "rflow")


def _controlnet_stage(
    chosen: MaisiRecipe, folder: Path, autoencoder: AutoencoderKlMaisi, before: Path
) -> LatentTask:
    unet, vae = _weights(before, "unet"), _weights(before, "vae")
    spec, factor = _spec(chosen, unet), _stated(unet)
    stage = _latent_task(chosen, spec, folder, autoencoder, factor, vae, controlled=True)
    grown = _grown(before, "controlnet")
    stage.begin_from(_floats(unet), _floats(grown) if grown else None)
    return stage


def _latent_task(
    chosen: MaisiRecipe,
    spec: MaisiSpec,
    folder: Path,
    autoencoder: AutoencoderKlMaisi,
    factor: float,
    vae: Path,
    *,
    controlled: bool,
) -> LatentTask:
    frozen = chosen.loop.trainable == "controlnet"  # the U-Net is, and learns nothing without masks
    return LatentTask(
        spec,
        folder / "pairs",
        autoencoder,
        factor,
        controlled,
        seed=chosen.loop.seed,
        voxels=chosen.crops.voxels,
        size_factors=chosen.crops.size_factors,
        spacing_range_mm=chosen.crops.spacing_range_mm,
        phantom_share=chosen.crops.phantom_share,
        blind_share=0.0 if frozen else chosen.latent.blind_share,
        weights=LossWeights(chosen.latent.reference_voxels, chosen.latent.most, chosen.latent.air),
        bfloat16=chosen.loop.bfloat16,
        unet_moves=not frozen,
        contrast=chosen.latent.contrast,
        contrast_margin=chosen.latent.contrast_margin,
        checkpointing=chosen.latent.checkpointing,
        by_image=chosen.latent.by_image,
        l1=chosen.latent.l1,
        looks=chosen.latent.looks,
        draws=chosen.latent.draws,
        validation=folder / "validation",
        latents=pair_folder(folder) if chosen.latent.encoded else None,
        vae_sha256=sha256_of(vae),
    )


def _grown(folder: Path | None, role: str) -> Path | None:
    """Weights of a stage that goes on from there; None where it begins."""
    path = None if folder is None else folder / f"{role}.safetensors"
    return path if path is not None and path.is_file() else None


def _floats(path: Path) -> dict[str, torch.Tensor]:
    return {key: value.float() for key, value in read_tensors(path).items()}


def scale_factor(
    chosen: MaisiRecipe, autoencoder: AutoencoderKlMaisi, folder: Path, vae_sha256: str = ""
) -> float:
    """1 / standard deviation of the latents of some scans: what diffusion multiplies them with."""
    encoded = encoded_cases(folder / "latents", vae_sha256) if vae_sha256 else []
    if encoded:
        latents = [case.mean.flatten() for case in encoded[:SCALE_BATCHES]]
    else:
        scans = VaeTask(
            preset(chosen.preset),
            folder / "images",
            seed=1,
            spacing_range_mm=chosen.crops.spacing_range_mm,
        )
        with torch.no_grad():
            latents = [
                autoencoder.encode(scans.batch(n))[0].flatten() for n in range(SCALE_BATCHES)
            ]
    return float(1.0 / torch.cat(latents).std())


def _stated(unet: Path) -> float:
    return float(read_metadata(unet)[SCALE_FACTOR])


def _weights(folder: Path, role: str) -> Path:
    path = folder / f"{role}.safetensors"
    if not path.is_file():
        raise MissingWeights(
            f"{path} not found: this stage begins from the one before",
            "train that first, or point --from to its folder",
        )
    return path
