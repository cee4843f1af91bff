"""MONAI's MAISI autoencoder as the list of layers that tiling runs; decoding and encoding by it.

The translation reads the modules and changes nothing in them. `num_splits`, `dim_split`, `save_mem`
and `print_info` steer MONAI's own splitting and have no meaning here; `norm_float16` is storage in
half precision, for which `dtype` stands here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
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

from synthct.errors import UsageError
from synthct.tensors import FeatureMap, Image, Latent
from synthct.tiling import budget as plans
from synthct.tiling.halo import Planner, Progress, run
from synthct.tiling.layers import (
    Conv,
    GroupNorm,
    Layer,
    Residual,
    UnknownLayer,
    Upsample,
    Whole,
    from_torch,
    silu,
)


def decode(
    autoencoder: AutoencoderKlMaisi,
    latent: Latent,
    *,
    slabs: int | None = None,
    slab_planes: int | None = None,
    budget: int | None = None,
    axis: int | None = None,
    dtype: torch.dtype = torch.float32,
    progress: Progress | None = None,
) -> Image:
    """What `autoencoder.decode(latent)` gives in evaluation mode, slab by slab, float32 on the CPU.

    Args:
        latent: (n, c, i, j, k), already divided by the scale factor. Any device; the work is done
        where
            the autoencoder is.
        slabs: number of slabs. At most one of `slabs`, `slab_planes` and `budget` may be given;
            without them slabs cost little beside the maps.
        slab_planes: planes of a slab at full resolution.
        budget: bytes that may be allocated beside weights, latent and result.
        axis: spatial axis to cut; the longest by default.
        dtype: float32 is exact to rounding (relative L2 under 3e-6), bfloat16 to about 1e-2.
        progress: called with (done, total) after every slab.

    Raises:
        UnknownLayer: the autoencoder holds a layer that tiling does not know.
        MemoryBudgetError: `budget` is too small for one plane at a time.
        UsageError: two ways of cutting at once, or an axis other than 0, 1, 2.
    """
    planner = _planner(slabs, slab_planes, budget)
    layers = decoder_layers(autoencoder)
    latent = latent.to(_device(autoencoder))
    return run(
        layers, latent, axis=_axis(latent, axis), planner=planner, dtype=dtype, progress=progress
    )


def encode(
    autoencoder: AutoencoderKlMaisi,
    image: Image,
    *,
    slabs: int | None = None,
    slab_planes: int | None = None,
    budget: int | None = None,
    axis: int | None = None,
    dtype: torch.dtype = torch.float32,
    progress: Progress | None = None,
) -> tuple[Latent, Latent]:
    """What `autoencoder.encode(image)` gives in evaluation mode: mean and sigma, on the CPU.

    Arguments and errors as for `decode`; also GridError for an image with an axis shorter than the
    autoencoder's factor.
    """
    planner = _planner(slabs, slab_planes, budget)
    layers = encoder_layers(autoencoder)
    device = _device(autoencoder)
    image = image.to(device)
    hidden = run(
        layers, image, axis=_axis(image, axis), planner=planner, dtype=dtype, progress=progress
    )
    return _mean_and_sigma(autoencoder, hidden.to(device))


@torch.no_grad()
def _mean_and_sigma(autoencoder: AutoencoderKlMaisi, hidden: FeatureMap) -> tuple[Latent, Latent]:
    kind = next(autoencoder.parameters()).dtype
    mean = autoencoder.quant_conv_mu(hidden.to(kind))
    log_variance = autoencoder.quant_conv_log_sigma(hidden.to(kind)).clamp(-30.0, 20.0)
    return mean.to("cpu", hidden.dtype), torch.exp(log_variance / 2).to("cpu", hidden.dtype)


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
        "add a rule for it in synthct/models/maisi/decode.py",
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


def _planner(slabs: int | None, slab_planes: int | None, budget: int | None) -> Planner:
    given = [name for name in (slabs, slab_planes, budget) if name is not None]
    if len(given) > 1 or any(value < 1 for value in given):
        raise UsageError(
            f"slabs={slabs}, slab_planes={slab_planes}, budget={budget}: at most one may be given, "
            "and it must be at least 1",
            "leave them out for slabs that cost little beside the maps",
        )
    if slabs is not None:
        return lambda schedule, itemsize: plans.by_count(schedule, slabs, itemsize)
    if slab_planes is not None:
        return lambda schedule, itemsize: plans.by_thickness(schedule, slab_planes, itemsize)
    if budget is not None:
        return lambda schedule, itemsize: plans.by_memory(schedule, budget, itemsize)
    return plans.automatic


def _axis(image: FeatureMap, axis: int | None) -> int:
    if axis is None:
        sizes = list(image.shape[2:])
        return sizes.index(max(sizes))
    if axis not in (0, 1, 2):
        raise UsageError(f"axis {axis}; the spatial axes are 0, 1 and 2")
    return axis


def _device(autoencoder: AutoencoderKlMaisi) -> torch.device:
    return next(autoencoder.parameters()).device
