"""MAISI's VAE as a codec: arrays in the network's range ↔ latents, through the tiled engine."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from monai.apps.generation.maisi.networks.autoencoderkl_maisi import AutoencoderKlMaisi

from synthct.models.maisi.decode import decode
from synthct.models.maisi.encode import encode
from synthct.models.maisi.plans import decode_plan
from synthct.models.maisi.several import Piece, decode_on
from synthct.models.maisi.spec import AutoencoderSpec
from synthct.models.maisi.tiled import device_of
from synthct.models.protocols import Stage
from synthct.tensors import Image, Latent
from synthct.tiling.halo import Progress

Float32 = npt.NDArray[np.float32]
_SEVERAL = 2


@dataclass(frozen=True)
class MaisiAutoencoder:
    """One VAE on its device, in evaluation mode."""

    spec: AutoencoderSpec
    network: AutoencoderKlMaisi
    sha256: str
    """Of its weights' file."""
    devices: tuple[str, ...] = ()
    """That share a decoding, where they are several."""

    def encode(self, unit: Float32, stage: Stage, budget_bytes: int | None = None) -> Float32:
        """The mean latent (c, X/f, Y/f, Z/f) of an image (X, Y, Z) in the network's range.

        Sides are padded at their ends, with 0 (air), to multiples of the VAE's factor f.
        """
        fill = [(0, -n % self.spec.factor) for n in unit.shape]
        image = torch.from_numpy(np.pad(unit, fill))[None, None]
        mean, _ = encode(
            self.network,
            image,
            budget=budget_bytes,
            progress=lambda done, total: stage("encoding slab", done, total),
        )
        latent: Float32 = mean[0].float().numpy()
        return latent

    def decode(
        self,
        latent: Float32,
        shape: tuple[int, int, int],
        stage: Stage,
        budget_bytes: int | None = None,
    ) -> Float32:
        """The image (X, Y, Z) = `shape` of a latent, in the network's range, not clipped."""
        image = self._decoded(
            torch.from_numpy(latent)[None],
            lambda done, total: stage("decoding slab", done, total),
            budget_bytes,
        )
        i, j, k = shape
        whole: Float32 = image[0, 0, :i, :j, :k].numpy()
        return whole

    def _decoded(self, latent: Latent, progress: Progress, budget_bytes: int | None) -> Image:
        if len(self.devices) < _SEVERAL:
            return decode(self.network, latent, budget=budget_bytes, progress=progress)
        i, j, k = latent.shape[2:]
        kind, count = device_of(self.network).type, len(self.devices)
        plan = decode_plan(self.spec, (i, j, k), budget_bytes, device=kind, devices=count)
        piece = Piece(self.spec, self.network, latent, plan)
        image = decode_on(self.devices, piece, progress=progress)
        assert image is not None  # no sink was given
        return image
