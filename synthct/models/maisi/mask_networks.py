"""The published mask generator: a VAE of label maps, and a U-Net in its latents.

The numbers are those of the published configuration (ddpm version); the U-Net is told ten organ
sizes through cross-attention.
"""

from __future__ import annotations

from monai.apps.generation.maisi.networks.autoencoderkl_maisi import AutoencoderKlMaisi
from monai.networks.blocks import CrossAttentionBlock, SABlock
from monai.networks.nets.diffusion_model_unet import DiffusionModelUNet

from synthct.models.maisi import mask_spec
from synthct.models.maisi.mask_spec import CHANNELS, LABEL_BITS, LATENT_CHANNELS, ORGAN_SIZES


def build_mask_autoencoder() -> AutoencoderKlMaisi:
    """Label bits (1, 8, X, Y, Z) ↔ latent (1, 4, X/4, Y/4, Z/4) → scores (1, 125, X, Y, Z)."""
    spec = mask_spec.MASK_SPEC.autoencoder
    return AutoencoderKlMaisi(
        spatial_dims=3,
        in_channels=LABEL_BITS,
        out_channels=CHANNELS,
        latent_channels=LATENT_CHANNELS,
        num_channels=spec.num_channels,
        num_res_blocks=spec.num_res_blocks,
        norm_num_groups=spec.norm_num_groups,
        norm_eps=spec.norm_eps,
        attention_levels=[False] * len(spec.num_channels),
        with_encoder_nonlocal_attn=False,
        with_decoder_nonlocal_attn=False,
        use_checkpointing=False,
        use_convtranspose=spec.use_convtranspose,
        norm_float16=False,
        num_splits=1,
        dim_split=1,
        save_mem=False,
    )


def build_mask_unet() -> DiffusionModelUNet:
    """Noisy latent (1, 4, i, j, k), time, and sizes (1, 1, 10) → noise.

    With MONAI's own fused attention: the whole matrix of tokens by tokens, 0.5 GiB of float32 at
    the published size, is never built. The U-Net's constructor refuses that without CUDA, though
    torch has such kernels for CPUs too.
    """
    spec = mask_spec.MASK_SPEC.unet
    network = DiffusionModelUNet(
        spatial_dims=3,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        channels=spec.num_channels,
        attention_levels=spec.attention_levels,
        num_head_channels=spec.num_head_channels,
        num_res_blocks=spec.num_res_blocks,
        norm_num_groups=spec.norm_num_groups,
        with_conditioning=True,
        upcast_attention=True,
        cross_attention_dim=ORGAN_SIZES,
    )
    for block in network.modules():
        if isinstance(block, CrossAttentionBlock | SABlock):
            block.use_flash_attention = True
    return network
