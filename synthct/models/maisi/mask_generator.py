"""The published mask generator: ten organ sizes → a label map in MAISI ids."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from monai.apps.generation.maisi.networks.autoencoderkl_maisi import AutoencoderKlMaisi
from monai.networks.nets.diffusion_model_unet import DiffusionModelUNet

from synthct.geometry import Shape
from synthct.models.maisi import mask_spec
from synthct.models.maisi.decode import decode
from synthct.models.maisi.guidance import autocast
from synthct.models.maisi.mask_spec import CHANNELS, LATENT_CHANNELS, ORGAN_SIZES
from synthct.models.maisi.plans import decode_plan
from synthct.models.maisi.sampling import draw_noise, sample
from synthct.models.maisi.spec import AutoencoderSpec
from synthct.models.protocols import Stage
from synthct.models.settings import Execution, Sampling
from synthct.tiling.cuts import Cut

_NO_CHANNEL = (2, 16, 18, 20, 21, 116, 117, 130, 131)
CHANNEL_IDS = (*(i for i in range(133) if i not in _NO_CHANNEL), 200)
"""MAISI id of each output channel (facts: mask_generator_channels)."""
assert len(CHANNEL_IDS) == CHANNELS

FLOAT32 = Execution("float32", 0)


@dataclass
class MaskGenerator:
    """The two networks, on one device, in evaluation mode."""

    autoencoder: AutoencoderKlMaisi
    unet: DiffusionModelUNet
    scale_factor: float
    device: torch.device
    spec: AutoencoderSpec = field(default_factory=lambda: mask_spec.MASK_SPEC.autoencoder)

    @torch.inference_mode()
    def generate(
        self,
        sizes: tuple[float, ...],
        shape: Shape,
        sampling: Sampling,
        stage: Stage = lambda name, done, total: None,
    ) -> npt.NDArray[np.uint8]:
        """A label map of `shape` voxels (multiples of 32), MAISI ids, for ten relative sizes.

        In float32 throughout unless `sampling.execution` says otherwise.
        """
        assert len(sizes) == ORGAN_SIZES
        how = sampling.execution or FLOAT32
        told = torch.tensor(sizes, dtype=torch.float32, device=self.device).view(1, 1, -1)

        def denoise(latent: torch.Tensor, timestep: float) -> torch.Tensor:
            time = torch.tensor([timestep], device=latent.device)
            with autocast(how, latent.device):
                predicted: torch.Tensor = self.unet(latent, time, context=told)
            return predicted.float()

        noise = draw_noise((1, LATENT_CHANNELS, *(n // self.spec.factor for n in shape)), sampling)
        latent = sample(denoise, noise.to(self.device), sampling, 1, stage)
        return self._labels(latent / self.scale_factor, shape, how, stage)

    def _labels(
        self, latent: torch.Tensor, shape: Shape, how: Execution, stage: Stage
    ) -> npt.NDArray[np.uint8]:
        """The likeliest channel of each voxel as MAISI id; 125 maps exist for a slab at a time."""
        ids = torch.tensor(CHANNEL_IDS, dtype=torch.uint8)
        found = np.zeros(shape, dtype=np.uint8)

        def keep(_: int, cut: Cut, axis: int, planes: torch.Tensor) -> None:
            place = [slice(None)] * 3
            place[axis] = slice(*cut)
            found[tuple(place)] = ids[planes[0].argmax(0).cpu()].numpy()

        i, j, k = latent.shape[2:]
        plan = decode_plan(
            self.spec,
            (i, j, k),
            how.decoding_bytes,
            dtype=how.decoding,
            device=self.device.type,
            host_bytes=how.host_bytes,
            spill_bytes=how.spill_bytes,
            streamed=True,
        )
        decode(
            self.autoencoder,
            latent,
            plan=plan,
            spill_dir=how.spill_folder,
            sink=keep,
            progress=lambda done, total: stage("decoding slab", done, total),
        )
        return found
