"""MAISI as a generator: conditions, noise, sampling, decoding; HU on the grid of the mask."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from monai.apps.generation.maisi.networks.autoencoderkl_maisi import AutoencoderKlMaisi
from monai.apps.generation.maisi.networks.controlnet_maisi import ControlNetMaisi
from monai.apps.generation.maisi.networks.diffusion_model_unet_maisi import DiffusionModelUNetMaisi

from synthct.diffusion.rectified_flow import with_linear_share
from synthct.errors import RanOutOfMemory
from synthct.geometry import Geometry, Shape, Spacing
from synthct.models.maisi.conditions import Conditions, conditions, joined
from synthct.models.maisi.control import TILE, MaskEmbedding
from synthct.models.maisi.decode import ImageSink, decode
from synthct.models.maisi.guidance import (
    UNKNOWN_MODALITY,
    Bound,
    Told,
    autocast,
    branches,
    denoiser,
    ways_down,
)
from synthct.models.maisi.hu_file import Box, HuFile
from synthct.models.maisi.plans import decode_plan
from synthct.models.maisi.sampling import compile_blocks, draw_noise, sample
from synthct.models.maisi.several import Piece, decode_on
from synthct.models.maisi.spec import MaisiSpec
from synthct.models.protocols import Stage
from synthct.models.settings import BODY_MARGIN, Execution, Part, Sampling
from synthct.tiling.heap import is_out_of_memory
from synthct.training.precision import fast_bfloat16
from synthct.volume.intensity import AIR_HU, unit_to_hu, unit_to_mr
from synthct.volume.volume import LabelVolume, Volume

CT_CLASS = 1
SCANNER_UNITS = {"CT": (AIR_HU, unit_to_hu), "MR": (0.0, unit_to_mr)}
"""Modality → its value in air, and how a decoder's output becomes scanner units."""


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
    modality: str = "CT"

    @property
    def execution(self) -> Execution:
        """What is done where no plan says otherwise: bfloat16 where the device is fast in it."""
        fast = self.bfloat16 and fast_bfloat16(self.device)
        return Execution("bfloat16" if fast else "float32", TILE, together=True)

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
        """HU (MR: its own units) on the grid of `place` (RAS): float32, or int16 where streamed.

        With labels, only the box of the body is sampled; the rest of the grid, which lies outside
        the patient, is air. Without, the whole field of view is.
        """
        geometry = place if isinstance(place, Geometry) else place.geometry
        labels = None if isinstance(place, Geometry) else place.array
        box = _whole(geometry.shape) if labels is None or sampling.whole else _box(labels)
        part = None if labels is None else labels[box]
        i, j, k = (s.stop - s.start for s in box)
        how = sampling.execution or self.execution
        fill = self._in_file if how.streamed else self._in_memory
        with torch.inference_mode():
            latent = self.latent((i, j, k), part, geometry.spacing_mm, sampling, regions, stage)
            latent.div_(self.scale_factor)
            image = fill(latent, geometry.shape, box, how, stage)
        return Volume(image, geometry, self.modality)

    def _in_memory(
        self, latent: torch.Tensor, shape: Shape, box: Box, how: Execution, stage: Stage
    ) -> npt.NDArray[Any]:
        """Scanner units, with the decoded latent in its box and air around it."""
        air, to_scanner = SCANNER_UNITS[self.modality]
        unit = self._decoded(latent, how, stage)
        assert unit is not None  # no sink was given
        i, j, k = (slice(0, s.stop - s.start) for s in box)
        image = np.full(shape, air, dtype=np.float32)
        image[box] = to_scanner(unit[0, 0, i, j, k].numpy())
        return image

    def _in_file(
        self, latent: torch.Tensor, shape: Shape, box: Box, how: Execution, stage: Stage
    ) -> npt.NDArray[Any]:
        """The same rounded to integers, in a temporary file that the array stands for."""
        air, to_scanner = SCANNER_UNITS[self.modality]
        file = HuFile(how.spill_folder, shape, box, air=air, to_scanner=to_scanner)
        with file as volume:
            self._decoded(latent, how, stage, volume.write)
            return volume.array

    def _decoded(
        self, latent: torch.Tensor, how: Execution, stage: Stage, sink: ImageSink | None = None
    ) -> torch.Tensor | None:
        """(1, 1, X, Y, Z) on the CPU, by the plan for this shape; None where it goes to `sink`."""
        i, j, k = latent.shape[2:]
        plan = decode_plan(
            self.spec.autoencoder,
            (i, j, k),
            how.decoding_bytes,
            dtype=how.decoding,
            device=self.device.type,
            host_bytes=how.host_bytes,
            spill_bytes=how.spill_bytes,
            streamed=sink is not None,
            devices=max(1, len(how.devices)),
        )

        def progress(done: int, total: int) -> None:
            stage("decoding slab", done, total)

        if len(how.devices) > 1:
            piece = Piece(self.spec.autoencoder, self.autoencoder, latent, plan)
            return decode_on(
                how.devices, piece, spill_dir=how.spill_folder, sink=sink, progress=progress
            )
        return decode(
            self.autoencoder,
            latent,
            plan=plan,
            spill_dir=how.spill_folder,
            sink=sink,
            progress=progress,
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
        how = sampling.execution or self.execution
        if sampling.compile:
            compile_blocks(self.unet)

        def row(modality: bool) -> Conditions:
            code = sampling.modality_class if modality else UNKNOWN_MODALITY
            return conditions(
                self.spec,
                regions=regions,
                spacing_mm=spacing_mm,
                modality_class=CT_CLASS if code is None else code,
                device=self.device,
            )

        def bind(told: Sequence[Told]) -> Bound:
            rows = joined([row(modality) for modality, _ in told])
            masks = tuple(mask for _, mask in told)
            return Bound(self.unet, rows, masks, how, ways_down(told))

        with telling_of_memory("embedding"):
            told = denoiser(
                branches(sampling, labels if self.controlnet is not None else None),
                labels,
                bind=bind,
                embed=lambda shown: self._embedding(shown, padded, how),
                together=how.together,
            )
        with telling_of_memory("sampling"):
            noise = draw_noise(self._latent_shape(padded), sampling).to(self.device)
            whole = with_linear_share(told) if self.spec.skip else told
            return sample(whole, noise, sampling, self.spec.base_numel, stage).float()

    def _latent_shape(self, padded: list[int]) -> tuple[int, ...]:
        vae = self.spec.autoencoder
        return (1, vae.latent_channels, *(n // vae.factor for n in padded))

    def _embedding(
        self, labels: npt.NDArray[Any] | None, padded: list[int], how: Execution
    ) -> MaskEmbedding | None:
        """The mask as the ControlNet sees it, computed once for all steps.

        Beyond the box the outermost plane goes on: a patient who leaves the field of view is cut
        off, not ended by a plane of skin that would show as a seam.
        """
        if labels is None or self.controlnet is None:
            return None
        beyond = [(0, more - n) for n, more in zip(labels.shape, padded, strict=True)]
        ids = np.pad(labels.astype(np.uint8, copy=False), beyond, mode="edge")
        with autocast(how, self.device):
            return MaskEmbedding.of(self.controlnet, ids, device=self.device, tile=how.mask_tile)


@contextmanager
def telling_of_memory(part: Part) -> Iterator[None]:
    """Memory that runs out inside is told with the part of the work that it ran out in."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise RanOutOfMemory(part) from None


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
