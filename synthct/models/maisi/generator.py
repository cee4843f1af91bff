"""MAISI as a generator: conditions, noise, sampling, decoding; HU on the grid of the mask."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from monai.apps.generation.maisi.networks.autoencoderkl_maisi import AutoencoderKlMaisi
from monai.apps.generation.maisi.networks.controlnet_maisi import ControlNetMaisi
from monai.apps.generation.maisi.networks.diffusion_model_unet_maisi import DiffusionModelUNetMaisi

from synthct.diffusion import gaussian, rectified_flow
from synthct.diffusion.denoiser import Denoiser, Guided
from synthct.errors import UsageError
from synthct.geometry import Geometry
from synthct.labels.groups import LESION_HOSTS, LUNG_LOBES
from synthct.models.maisi.conditions import Conditions, conditions, label_bits
from synthct.models.maisi.control import MaskEmbedding
from synthct.models.maisi.decode import decode
from synthct.models.maisi.spec import MaisiSpec
from synthct.models.protocols import Stage
from synthct.models.settings import Sampling
from synthct.training.loop import autocast, fast_bfloat16
from synthct.volume.intensity import AIR_HU, unit_to_hu
from synthct.volume.volume import LabelVolume, Volume

MARGIN = 2
"""Voxels of air kept around the box of the body."""


@dataclass
class MaisiGenerator:
    """The three networks of one model, on one device, in evaluation mode."""

    spec: MaisiSpec
    autoencoder: AutoencoderKlMaisi
    unet: DiffusionModelUNetMaisi
    controlnet: ControlNetMaisi | None
    scale_factor: float
    device: torch.device
    bfloat16: bool = True

    @property
    def precision(self) -> str:
        """Of sampling; decoding is float32 throughout."""
        fast = self.bfloat16 and fast_bfloat16(self.device)
        return "bfloat16 autocast" if fast else "float32"

    def generate(
        self,
        place: LabelVolume | Geometry,
        sampling: Sampling,
        regions: tuple[str, ...],
        stage: Stage = lambda name, done, total: None,
    ) -> Volume:
        """HU, float32, on the grid of `place` (RAS).

        With labels, only the box of the body is sampled; the rest of the grid, which lies outside
        the patient, is air. Without, the whole field of view is.
        """
        geometry = place if isinstance(place, Geometry) else place.geometry
        labels = None if isinstance(place, Geometry) else place.array
        box = _whole(geometry.shape) if labels is None else _box(labels)
        part = None if labels is None else labels[box]
        shape = tuple(s.stop - s.start for s in box)
        unit = self._unit_image(shape, part, geometry.spacing_mm, sampling, regions, stage)
        hu = np.full(geometry.shape, AIR_HU, dtype=np.float32)
        hu[box] = unit_to_hu(unit)
        return Volume(hu, geometry, "CT")

    @torch.inference_mode()
    def _unit_image(
        self,
        shape: tuple[int, ...],
        labels: npt.NDArray[Any] | None,
        spacing_mm: tuple[float, float, float],
        sampling: Sampling,
        regions: tuple[str, ...],
        stage: Stage,
    ) -> npt.NDArray[np.float32]:
        """The decoder's output for a box of `shape` voxels, in network units."""
        multiple = self.spec.grid_multiple
        padded = [-(-n // multiple) * multiple for n in shape]
        told = conditions(self.spec, regions=regions, spacing_mm=spacing_mm, device=self.device)
        denoiser = self._denoiser(labels, padded, told, sampling.guidance)
        noise = self._noise(padded, sampling)
        latent = self._sample(denoiser, noise, sampling, stage)
        image = decode(
            self.autoencoder,
            latent.float() / self.scale_factor,
            progress=lambda done, total: stage("decoding slab", done, total),
        )
        i, j, k = shape
        return image[0, 0, :i, :j, :k].numpy()

    def _denoiser(
        self,
        labels: npt.NDArray[Any] | None,
        padded: list[int],
        told: Conditions,
        guidance: float,
    ) -> Denoiser:
        seen = _Bound(self, told, self._embedding(labels, padded))
        if guidance == 0:
            return seen
        blind_labels = None if labels is None else without_lesions(labels)
        return Guided(seen, _Bound(self, told, self._embedding(blind_labels, padded)), guidance)

    def _embedding(
        self, labels: npt.NDArray[Any] | None, padded: list[int]
    ) -> MaskEmbedding | None:
        """The mask as the ControlNet sees it, computed once for all steps."""
        if labels is None or self.controlnet is None:
            return None
        ids = np.zeros(padded, dtype=np.uint8)
        ids[tuple(slice(0, n) for n in labels.shape)] = labels
        with autocast(self.bfloat16, self.device):
            bits = label_bits(ids).to(self.device).float()
            return MaskEmbedding.of(self.controlnet, bits)

    def _noise(self, padded: list[int], sampling: Sampling) -> torch.Tensor:
        """Drawn on the CPU in float32 from [seed, attempt]: the same on every device."""
        channels, factor = self.spec.autoencoder.latent_channels, self.spec.autoencoder.factor
        shape = (1, channels, *(n // factor for n in padded))
        rng = np.random.default_rng([sampling.seed, sampling.attempt])
        return torch.from_numpy(rng.standard_normal(shape, dtype=np.float32)).to(self.device)

    def _sample(
        self, denoiser: Denoiser, noise: torch.Tensor, sampling: Sampling, stage: Stage
    ) -> torch.Tensor:
        advance = _counter(stage, "sampling step", sampling.steps)
        if sampling.sampler == "rflow":
            schedule = rectified_flow.RectifiedFlow(noise[0, 0].numel(), self.spec.base_numel)
            return rectified_flow.sample(
                denoiser,
                noise,
                schedule,
                sampling.steps,
                reference=sampling.reference_times,
                advance=advance,
            )
        if sampling.sampler == "ddim":
            return gaussian.sample_ddim(denoiser, noise, sampling.steps, advance=advance)
        if sampling.sampler == "ddpm":
            generator = torch.Generator().manual_seed(sampling.seed * 1009 + sampling.attempt)
            return gaussian.sample_ddpm(
                denoiser, noise, sampling.steps, generator=generator, advance=advance
            )
        raise UsageError(f"no sampler {sampling.sampler!r}", "one of: rflow, ddpm, ddim")


@dataclass
class _Bound:
    """U-Net and ControlNet with everything bound but the noisy latent and the time."""

    model: MaisiGenerator
    told: Conditions
    mask: MaskEmbedding | None

    def __call__(self, latent: torch.Tensor, timestep: float) -> torch.Tensor:
        time = torch.tensor([timestep], dtype=torch.float32, device=latent.device)
        with autocast(self.model.bfloat16, latent.device):
            residuals: dict[str, Any] = {}
            if self.mask is not None:
                down, middle = self.mask.residuals(latent, time, self.told.modality_class)
                residuals["down_block_additional_residuals"] = down
                residuals["mid_block_additional_residual"] = middle
            out: torch.Tensor = self.model.unet(
                latent, time, **self.told.unet_arguments(), **residuals
            )
        return out.float()


def without_lesions(labels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The mask with every lesion as the organ it grows in: what guidance pushes away from.

    A lung tumour becomes the lobe that most of the lung in the mask is (MAISI.md section 2).
    """
    healthy = labels.copy()
    for lesion, hosts in LESION_HOSTS.items():
        present = [int((labels == host).sum()) for host in hosts]
        if hosts != LUNG_LOBES and lesion == 128:
            continue
        healthy[labels == lesion] = hosts[int(np.argmax(present))]
    return healthy


def _box(labels: npt.NDArray[Any]) -> tuple[slice, slice, slice]:
    """The box of everything labelled, with a margin, inside the array."""
    spans = []
    for axis, n in enumerate(labels.shape):
        others = tuple(a for a in range(3) if a != axis)
        hit = np.flatnonzero((labels > 0).any(axis=others))
        spans.append(slice(max(0, int(hit[0]) - MARGIN), min(n, int(hit[-1]) + 1 + MARGIN)))
    return spans[0], spans[1], spans[2]


def _whole(shape: tuple[int, int, int]) -> tuple[slice, slice, slice]:
    i, j, k = (slice(0, n) for n in shape)
    return i, j, k


def _counter(stage: Stage, name: str, total: int) -> Callable[[], None]:
    done = 0

    def advance() -> None:
        nonlocal done
        done += 1
        stage(name, done, total)

    return advance
