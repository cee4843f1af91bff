"""The published mask generator: a VAE of label maps, and a U-Net in its latents.

The numbers are those of the published configuration (ddpm version); the U-Net is told ten organ
sizes through cross-attention.
"""

from __future__ import annotations

from monai.apps.generation.maisi.networks.autoencoderkl_maisi import AutoencoderKlMaisi
from monai.networks.nets.diffusion_model_unet import DiffusionModelUNet

LABEL_BITS = 8
CHANNELS = 125
"""Output channels; `mask_generator_channels` maps them to MAISI's labels."""
ORGAN_SIZES = 10
LATENT_CHANNELS = 4


def build_mask_autoencoder() -> AutoencoderKlMaisi:
    """Label bits (1, 8, X, Y, Z) ↔ latent (1, 4, X/4, Y/4, Z/4) → scores (1, 125, X, Y, Z)."""
    return AutoencoderKlMaisi(
        spatial_dims=3,
        in_channels=LABEL_BITS,
        out_channels=CHANNELS,
        latent_channels=LATENT_CHANNELS,
        num_channels=(32, 64, 128),
        num_res_blocks=(1, 2, 2),
        norm_num_groups=32,
        norm_eps=1e-6,
        attention_levels=(False, False, False),
        with_encoder_nonlocal_attn=False,
        with_decoder_nonlocal_attn=False,
        use_checkpointing=False,
        use_convtranspose=True,
        norm_float16=False,
        num_splits=1,
        dim_split=1,
        save_mem=False,
    )


def build_mask_unet() -> DiffusionModelUNet:
    """Noisy latent (1, 4, i, j, k), time, and sizes (1, 1, 10) → noise."""
    return DiffusionModelUNet(
        spatial_dims=3,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        channels=(64, 128, 256, 512),
        attention_levels=(False, False, True, True),
        num_head_channels=(0, 0, 32, 32),
        num_res_blocks=2,
        with_conditioning=True,
        upcast_attention=True,
        cross_attention_dim=ORGAN_SIZES,
    )
