"""MONAI's three MAISI networks, built from a spec. Nothing of MONAI is edited or patched."""

from __future__ import annotations

from typing import TypeVar

from monai.apps.generation.maisi.networks.autoencoderkl_maisi import AutoencoderKlMaisi
from monai.apps.generation.maisi.networks.controlnet_maisi import ControlNetMaisi
from monai.apps.generation.maisi.networks.diffusion_model_unet_maisi import DiffusionModelUNetMaisi
from monai.networks.blocks import SABlock
from torch import nn

from synthct.models.maisi.spec import AutoencoderSpec, MaisiSpec

LABEL_BITS = 8

NetworkT = TypeVar("NetworkT", bound=nn.Module)


def build_autoencoder(spec: AutoencoderSpec) -> AutoencoderKlMaisi:
    """The VAE on float32 activations (`norm_float16` breaks on the CPU), unsplit."""
    return AutoencoderKlMaisi(
        spatial_dims=3,
        in_channels=1,
        out_channels=1,
        latent_channels=spec.latent_channels,
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


def build_unet(spec: MaisiSpec) -> DiffusionModelUNetMaisi:
    unet = spec.unet
    network = DiffusionModelUNetMaisi(
        spatial_dims=3,
        in_channels=spec.autoencoder.latent_channels,
        out_channels=spec.autoencoder.latent_channels,
        num_channels=unet.num_channels,
        num_res_blocks=[unet.num_res_blocks] * len(unet.num_channels),
        attention_levels=unet.attention_levels,
        num_head_channels=unet.num_head_channels,
        norm_num_groups=unet.norm_num_groups,
        resblock_updown=unet.resblock_updown,
        include_fc=unet.include_fc,
        num_class_embeds=unet.num_class_embeds,
        include_top_region_index_input=unet.regions,
        include_bottom_region_index_input=unet.regions,
        include_spacing_input=True,
    )
    return _with_fused_attention(network)


def build_controlnet(spec: MaisiSpec) -> ControlNetMaisi:
    unet = spec.unet
    return ControlNetMaisi(
        spatial_dims=3,
        in_channels=spec.autoencoder.latent_channels,
        num_channels=unet.num_channels,
        num_res_blocks=[unet.num_res_blocks] * len(unet.num_channels),
        attention_levels=unet.attention_levels,
        num_head_channels=unet.num_head_channels,
        norm_num_groups=unet.norm_num_groups,
        resblock_updown=unet.resblock_updown,
        include_fc=unet.include_fc,
        num_class_embeds=unet.num_class_embeds,
        conditioning_embedding_in_channels=LABEL_BITS,
        conditioning_embedding_num_channels=spec.embedding_channels,
        use_checkpointing=False,
        use_flash_attention=True,
    )


def _with_fused_attention(network: NetworkT) -> NetworkT:
    """Set MONAI's own flag `use_flash_attention`: `scaled_dot_product_attention` on every device.

    MONAI's U-Net refuses the flag on a machine without CUDA, though torch has fused kernels for
    CPUs too; without it the whole matrix of tokens by tokens is built (72 GiB at 128×128×192).
    """
    for block in network.modules():
        if isinstance(block, SABlock):
            block.use_flash_attention = True
    return network
