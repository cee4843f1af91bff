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
from synthct.geometry import Geometry, Shape, Spacing
from synthct.labels.groups import LESION_HOSTS, LUNG_LOBES
from synthct.models.maisi.conditions import Conditions, conditions
from synthct.models.maisi.control import TILE, MaskEmbedding
from synthct.models.maisi.decode import decode
from synthct.models.maisi.plans import decode_plan
from synthct.models.maisi.prediction import predict
from synthct.models.maisi.spec import MaisiSpec
from synthct.models.protocols import Stage
from synthct.models.settings import BODY_MARGIN, Execution, Sampling
from synthct.training.loop import fast_bfloat16
from synthct.volume.intensity import AIR_HU, unit_to_hu
from synthct.volume.volume import LabelVolume, Volume


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
    def execution(self) -> Execution:
        """What is done where no plan says otherwise: bfloat16 where the device is fast in it."""
        fast = self.bfloat16 and fast_bfloat16(self.device)
        return Execution("bfloat16" if fast else "float32", TILE)

    @property
    def precision(self) -> str:
        """Of sampling where no plan says otherwise."""
        return self.execution.sampling

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
        i, j, k = (s.stop - s.start for s in box)
        unit = self._unit_image((i, j, k), part, geometry.spacing_mm, sampling, regions, stage)
        hu = np.full(geometry.shape, AIR_HU, dtype=np.float32)
        hu[box] = unit_to_hu(unit)
        return Volume(hu, geometry, "CT")

    @torch.inference_mode()
    def _unit_image(
        self,
        shape: Shape,
        labels: npt.NDArray[Any] | None,
        spacing_mm: Spacing,
        sampling: Sampling,
        regions: tuple[str, ...],
        stage: Stage,
    ) -> npt.NDArray[np.float32]:
        """The decoder's output for a box of `shape` voxels, in network units."""
        latent = self.latent(shape, labels, spacing_mm, sampling, regions, stage)
        image = self._decoded(latent.div_(self.scale_factor), sampling, stage)
        i, j, k = shape
        return image[0, 0, :i, :j, :k].numpy()

    def _decoded(self, latent: torch.Tensor, sampling: Sampling, stage: Stage) -> torch.Tensor:
        """(1, 1, X, Y, Z) on the CPU, by the plan for this shape."""
        how = sampling.execution or self.execution
        i, j, k = latent.shape[2:]
        plan = decode_plan(
            self.spec.autoencoder,
            (i, j, k),
            how.decoding_bytes,
            dtype=how.decoding,
            device=self.device.type,
            host_bytes=how.host_bytes,
            spill_bytes=how.spill_bytes,
        )
        return decode(
            self.autoencoder,
            latent,
            plan=plan,
            spill_dir=how.spill_folder,
            progress=lambda done, total: stage("decoding slab", done, total),
        )

    @torch.inference_mode()
    def latent(
        self,
        shape: Shape,
        labels: npt.NDArray[Any] | None,
        spacing_mm: Spacing,
        sampling: Sampling,
        regions: tuple[str, ...],
        stage: Stage = lambda name, done, total: None,
    ) -> torch.Tensor:
        """A sample (1, C, x, y, z), float32, for a box of `shape` voxels padded to the stride."""
        multiple = self.spec.grid_multiple
        padded = [-(-n // multiple) * multiple for n in shape]
        told = conditions(self.spec, regions=regions, spacing_mm=spacing_mm, device=self.device)
        denoiser = self._denoiser(labels, padded, told, sampling)
        return self._sample(denoiser, self._noise(padded, sampling), sampling, stage).float()

    def _denoiser(
        self,
        labels: npt.NDArray[Any] | None,
        padded: list[int],
        told: Conditions,
        sampling: Sampling,
    ) -> Denoiser:
        how = sampling.execution or self.execution
        seen = _Bound(self, told, self._embedding(labels, padded, how), how)
        if sampling.guidance == 0:
            return seen
        blind = None if labels is None else without_lesions(labels)
        unseen = _Bound(self, told, self._embedding(blind, padded, how), how)
        return Guided(seen, unseen, sampling.guidance)

    def _embedding(
        self, labels: npt.NDArray[Any] | None, padded: list[int], how: Execution
    ) -> MaskEmbedding | None:
        """The mask as the ControlNet sees it, computed once for all steps."""
        if labels is None or self.controlnet is None:
            return None
        ids = np.zeros(padded, dtype=np.uint8)
        ids[tuple(slice(0, n) for n in labels.shape)] = labels
        with _autocast(how, self.device):
            return MaskEmbedding.of(self.controlnet, ids, device=self.device, tile=how.mask_tile)

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
    how: Execution

    def __call__(self, latent: torch.Tensor, timestep: float) -> torch.Tensor:
        time = torch.tensor([timestep], dtype=torch.float32, device=latent.device)
        with _autocast(self.how, latent.device):
            return predict(self.model.unet, self.mask, self.told, latent, time).float()


def _autocast(how: Execution, device: torch.device) -> torch.autocast:
    return torch.autocast(device.type, torch.bfloat16, enabled=how.sampling == "bfloat16")


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
        spans.append(
            slice(max(0, int(hit[0]) - BODY_MARGIN), min(n, int(hit[-1]) + 1 + BODY_MARGIN))
        )
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
