"""What the published mask generator is made of, in the words of the other networks' specs.

The numbers were read from the published configuration of NV-Generate-CTMR (first version). The
networks themselves are built in `mask_networks.py`; here is what plans need, without torch.
"""

from __future__ import annotations

from dataclasses import dataclass

from synthct.models.maisi.spec import AutoencoderSpec, MaisiSpec, UNetSpec

LABEL_BITS = 8
CHANNELS = 125
"""Output channels; `mask_generator_channels` maps them to MAISI's labels."""
ORGAN_SIZES = 10
LATENT_CHANNELS = 4


@dataclass(frozen=True)
class MaskAutoencoderSpec(AutoencoderSpec):
    """A VAE of label maps: bits in, scores out, upsampling by transposed convolutions."""


@dataclass(frozen=True)
class MaskUNetSpec(UNetSpec):
    """MONAI's U-Net with transformers that look at `ORGAN_SIZES` numbers; told no spacing."""


MASK_SPEC = MaisiSpec(
    MaskAutoencoderSpec((32, 64, 128), (1, 2, 2), LATENT_CHANNELS, 32, use_convtranspose=True),
    MaskUNetSpec(
        (64, 128, 256, 512),
        2,
        (False, False, True, True),
        (0, 0, 32, 32),
        32,
        resblock_updown=False,
        include_fc=False,
        regions=False,
        num_class_embeds=None,
    ),
    embedding_channels=(),
    sampler="ddpm",
    base_numel=1,
    controlnet=False,
)


def makes_labels(spec: MaisiSpec) -> bool:
    """Whether its decoder's output is scores of labels, of which only the best is kept."""
    return isinstance(spec.autoencoder, MaskAutoencoderSpec)


def channels_in(vae: AutoencoderSpec) -> int:
    """Of what the encoder is fed."""
    return LABEL_BITS if isinstance(vae, MaskAutoencoderSpec) else 1


def channels_out(vae: AutoencoderSpec) -> int:
    """Of what the decoder makes."""
    return CHANNELS if isinstance(vae, MaskAutoencoderSpec) else 1


def context_of(unet: UNetSpec) -> int:
    """Numbers that attention looks at beside the map itself; 0: none, and no transformer."""
    return ORGAN_SIZES if isinstance(unet, MaskUNetSpec) else 0
