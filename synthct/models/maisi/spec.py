"""What the three MAISI networks are made of, typed; the presets stand below the types.

The numbers of the published presets were read from the published configuration of
NV-Generate-CTMR; those of `mini-ct` are ours (see weights/maisi-mini-ct/CARD.md).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from synthct.errors import UsageError


@dataclass(frozen=True)
class AutoencoderSpec:
    """The VAE: image (1, X, Y, Z) ↔ latent (latent_channels, X/f, Y/f, Z/f), f = 2^(levels-1)."""

    num_channels: tuple[int, ...]
    num_res_blocks: tuple[int, ...]
    latent_channels: int
    norm_num_groups: int
    norm_eps: float = 1e-6
    use_convtranspose: bool = False
    """Double the decoder's grid by transposed convolutions, as MONAI's option of that name does,
    instead of interpolation: they tell a voxel's place in its latent voxel apart."""

    @property
    def factor(self) -> int:
        return int(2 ** (len(self.num_channels) - 1))


@dataclass(frozen=True)
class UNetSpec:
    """The denoiser; the ControlNet copies its encoder, so both are built from this."""

    num_channels: tuple[int, ...]
    num_res_blocks: int
    attention_levels: tuple[bool, ...]
    num_head_channels: tuple[int, ...]
    norm_num_groups: int
    resblock_updown: bool
    include_fc: bool
    regions: bool
    """Top and bottom body region as inputs (the first published version)."""
    num_class_embeds: int | None
    """Modality classes (the second published version)."""

    @property
    def multiple(self) -> int:
        """The latent's sides are multiples of this."""
        return int(2 ** (len(self.num_channels) - 1))


@dataclass(frozen=True)
class MaisiSpec:
    """One model of the family: its networks, and how it removes noise."""

    autoencoder: AutoencoderSpec
    unet: UNetSpec
    embedding_channels: tuple[int, ...]
    """Widths of the ControlNet's mask encoder; one halving of the grid per step."""
    sampler: str
    base_numel: int
    """Latent voxels at which the time shift of rectified flow is 1."""
    controlnet: bool = True
    """Whether masks steer it; without, fields of view alone (image-only models)."""
    skip: bool = False
    """The U-Net gives what `linear_share` leaves of the velocity (rectified flow), as the header of
    its file says; the published ones give all of it."""
    condition_scale: float = 100.0
    """Spacing (mm) and region vectors (one-hot) are fed times this; 100 in the published models."""

    @property
    def grid_multiple(self) -> int:
        """Sides of the image grid are multiples of this."""
        return self.autoencoder.factor * self.unet.multiple

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


_PUBLISHED_VAE = AutoencoderSpec((64, 128, 256), (2, 2, 2), 4, 32)
_RFLOW_UNET = UNetSpec(
    (64, 128, 256, 512),
    2,
    (False, False, True, True),
    (0, 0, 32, 32),
    32,
    resblock_updown=True,
    include_fc=True,
    regions=False,
    num_class_embeds=128,
)

PRESETS: dict[str, MaisiSpec] = {
    "mini-ct": MaisiSpec(
        AutoencoderSpec((16, 32, 96), (1, 2, 2), 16, 2, use_convtranspose=True),
        UNetSpec(
            num_channels=(64, 96, 96),
            num_res_blocks=1,
            attention_levels=(False, False, False),
            num_head_channels=(32, 32, 32),
            norm_num_groups=8,
            resblock_updown=False,
            include_fc=False,
            regions=True,
            num_class_embeds=None,
        ),
        embedding_channels=(32, 48, 64),
        sampler="rflow",
        base_numel=16**3,
        condition_scale=1.0,
    ),
    "medium-ct": MaisiSpec(
        AutoencoderSpec((32, 64, 128), (1, 2, 2), 8, 8),
        UNetSpec(
            num_channels=(64, 128, 192, 256),
            num_res_blocks=2,
            attention_levels=(False, False, False, True),
            num_head_channels=(0, 0, 0, 32),
            norm_num_groups=16,
            resblock_updown=True,
            include_fc=True,
            regions=True,
            num_class_embeds=None,
        ),
        embedding_channels=(16, 32, 64),
        sampler="rflow",
        base_numel=32**3,
        condition_scale=1.0,
    ),
    "mini-mr": MaisiSpec(
        AutoencoderSpec((16, 32, 64), (1, 3, 4), 8, 2, use_convtranspose=True),
        UNetSpec(
            num_channels=(48, 64, 96, 96),
            num_res_blocks=1,
            attention_levels=(False, False, False, True),
            num_head_channels=(32, 32, 32, 32),
            norm_num_groups=8,
            resblock_updown=False,
            include_fc=False,
            regions=False,
            num_class_embeds=64,
        ),
        embedding_channels=(),
        sampler="rflow",
        base_numel=16**3,
        controlnet=False,
        condition_scale=1.0,
    ),
    "tiny-mr": MaisiSpec(  # for tests
        AutoencoderSpec((8, 8), (1, 1), 2, 2),
        UNetSpec((8, 8), 1, (False, False), (8, 8), 4, False, False, False, 64),
        embedding_channels=(),
        sampler="rflow",
        base_numel=32**3,
        controlnet=False,
    ),
    "tiny": MaisiSpec(  # for tests: every code path, no quality
        AutoencoderSpec((8, 8), (1, 1), 2, 2),
        UNetSpec((8, 8), 1, (False, False), (8, 8), 4, False, False, True, None),
        embedding_channels=(4, 8),
        sampler="rflow",
        base_numel=32**3,
    ),
    "ct-ddpm": MaisiSpec(
        _PUBLISHED_VAE,
        UNetSpec(
            (64, 128, 256, 512),
            2,
            (False, False, True, True),
            (0, 0, 32, 32),
            32,
            resblock_updown=False,
            include_fc=False,
            regions=True,
            num_class_embeds=None,
        ),
        embedding_channels=(8, 32, 64),
        sampler="ddpm",
        base_numel=32**3,
    ),
    "ct-rflow": MaisiSpec(
        _PUBLISHED_VAE,
        _RFLOW_UNET,
        embedding_channels=(8, 32, 64),
        sampler="rflow",
        base_numel=32**3,
    ),
    **{
        name: MaisiSpec(
            _PUBLISHED_VAE,
            _RFLOW_UNET,
            embedding_channels=(),
            sampler="rflow",
            base_numel=32**3,
            controlnet=False,
        )
        for name in ("mr-rflow", "mr-brain-rflow")
    },
}


def preset(name: str) -> MaisiSpec:
    if name not in PRESETS:
        raise UsageError(
            f"no network preset {name!r} in the family maisi", f"one of: {', '.join(PRESETS)}"
        )
    return PRESETS[name]
