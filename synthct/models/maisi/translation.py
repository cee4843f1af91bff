"""MONAI's MAISI autoencoder as the list of layers that tiling runs.

The translation reads the modules and changes nothing in them. `num_splits`, `dim_split`, `save_mem`
and `print_info` steer MONAI's own splitting and have no meaning here; `norm_float16` is storage in
half precision, for which `dtype` stands in `decode` and `encode`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from monai.apps.generation.maisi.networks.autoencoderkl_maisi import (
    AutoencoderKlMaisi,
    MaisiConvolution,
    MaisiDecoder,
    MaisiDownsample,
    MaisiEncoder,
    MaisiGroupNorm3D,
    MaisiResBlock,
    MaisiUpsample,
)
from monai.networks.blocks import Convolution, SpatialAttentionBlock
from monai.networks.nets.autoencoderkl import AEKLResBlock
from torch import Tensor, nn

from synthct.tensors import FeatureMap
from synthct.tiling.layers import (
    Conv,
    GroupNorm,
    Layer,
    Residual,
    UnknownLayer,
    Upsample,
    Whole,
)
from synthct.tiling.modules import from_torch, silu


def decoder_layers(autoencoder: AutoencoderKlMaisi) -> tuple[Layer, ...]:
    """The decoder with the 1x1x1 convolution before it, as tiling's layers."""
    decoder = autoencoder.decoder
    if type(decoder) is not MaisiDecoder:
        raise _unknown(decoder)
    return (*translate(autoencoder.post_quant_conv), *_all(decoder.blocks))


def encoder_layers(autoencoder: AutoencoderKlMaisi) -> tuple[Layer, ...]:
    """The encoder without the two 1x1x1 convolutions after it, as tiling's layers."""
    encoder = autoencoder.encoder
    if type(encoder) is not MaisiEncoder:
        raise _unknown(encoder)
    return _all(encoder.blocks)


def translate(module: nn.Module) -> tuple[Layer, ...]:
    """The layers of one MONAI or torch module; by exact type, for a subclass may compute otherwise.

    Raises:
        UnknownLayer: no rule for this type.
    """
    rule = _RULES.get(type(module))
    return rule(module) if rule is not None else (from_torch(module),)


def _all(modules: nn.ModuleList) -> tuple[Layer, ...]:
    return tuple(layer for module in modules for layer in translate(module))


def _unknown(module: nn.Module) -> UnknownLayer:
    return UnknownLayer(
        f"{type(module).__name__} is not one of MONAI's MAISI networks, whose layers are known",
        "add a rule for it in synthct/models/maisi/translation.py",
    )


def _children(module: nn.Module) -> tuple[Layer, ...]:
    """A sequence of sub-modules run one after the other (MONAI's `Convolution`)."""
    return tuple(layer for child in module.children() for layer in translate(child))


def _wrapped(module: nn.Module) -> tuple[Layer, ...]:
    return translate(cast(nn.Module, module.conv))


def _group_norm(module: nn.Module) -> tuple[Layer, ...]:
    norm = cast(nn.GroupNorm, module)
    return (GroupNorm(norm.num_groups, norm.eps, norm.weight, norm.bias),)


def _upsample(module: nn.Module) -> tuple[Layer, ...]:
    return _wrapped(module) if module.use_convtranspose else (Upsample(), *_wrapped(module))


def _downsample(module: nn.Module) -> tuple[Layer, ...]:
    """One plane of zeros behind every axis (`pad` is (0, 1) three times), then a stride of two."""
    (conv,) = _wrapped(module)
    assert isinstance(conv, Conv)
    pad = cast("tuple[int, ...]", module.pad)
    before = conv.before[0] + pad[4], conv.before[1] + pad[2], conv.before[2] + pad[0]
    after = conv.after[0] + pad[5], conv.after[1] + pad[3], conv.after[2] + pad[1]
    return (Conv(conv.weight, conv.bias, conv.stride, before, after, conv.dilation, conv.groups),)


def _residual(module: nn.Module) -> tuple[Layer, ...]:
    block = cast(MaisiResBlock, module)
    first = (*translate(block.norm1), silu(), *translate(block.conv1))
    second = (*translate(block.norm2), silu(), *translate(block.conv2))
    return (Residual((*first, *second), translate(block.nin_shortcut)),)


def _attention(module: nn.Module) -> tuple[Layer, ...]:
    def attend(x: FeatureMap) -> FeatureMap:
        kind = next(module.parameters()).dtype
        return cast(Tensor, module(x.to(kind).contiguous())).to(x.dtype)

    return (Whole(attend, "attention"),)


def _nothing(module: nn.Module) -> tuple[Layer, ...]:
    return ()


_RULES: dict[type[nn.Module], Callable[[nn.Module], tuple[Layer, ...]]] = {
    MaisiConvolution: _wrapped,
    Convolution: _children,
    MaisiGroupNorm3D: _group_norm,
    MaisiUpsample: _upsample,
    MaisiDownsample: _downsample,
    MaisiResBlock: _residual,
    AEKLResBlock: _residual,
    SpatialAttentionBlock: _attention,
    nn.Identity: _nothing,
}
