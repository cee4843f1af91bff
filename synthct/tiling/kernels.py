"""One layer on one window of planes: borders, cropping, and the fastest call that torch offers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn import functional

from synthct.tensors import Slab
from synthct.tiling import winograd
from synthct.tiling.cuts import Cut
from synthct.tiling.layers import (
    FEW_CHANNELS,
    Conv,
    Layer,
    Pointwise,
    TransposedConv,
    Triple,
    Upsample,
)

# oneDNN sums all products of an output voxel in one float32 chain when channels come last. From
# this length on that costs two to three times the rounding error of its blocked kernels, and
# exactness with it.
_LONG_SUM = 1024


def apply(layer: Layer, slab: Slab, have: Cut, want: Cut) -> Slab:
    """Output planes `want` of `layer` from input planes `have`; what lies outside counts as zero.

    The result may share memory with `slab` only for a pointwise layer, which works in place.
    """
    if isinstance(layer, Conv):
        return _conv(layer, slab, have, want)
    if isinstance(layer, TransposedConv):
        return _transposed(layer, slab, have, want)
    if isinstance(layer, Upsample):
        return _upsample(layer, slab, have, want)
    assert isinstance(layer, Pointwise)
    return layer.function(slab)


@contextmanager
def full_precision() -> Iterator[None]:
    """float32 means float32: no TF32 in the convolutions of a GPU, which would cost 1e-3."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def memory_format(device: torch.device) -> torch.memory_format:
    """How a map lies in memory: on a CPU channels last, which most layers are faster with."""
    return torch.channels_last_3d if device.type == "cpu" else torch.contiguous_format


def _is_long_sum(layer: Conv) -> bool:
    return layer.weight[0].numel() > _LONG_SUM


def _conv(layer: Conv, slab: Slab, have: Cut, want: Cut) -> Slab:
    first, last = layer.reach(*want)
    before = (have[0] - first, layer.before[1], layer.before[2])
    after = (last - have[1], layer.after[1], layer.after[2])
    if layer.by_pairs:
        return winograd.convolve(layer, slab, before[0], want[1] - want[0])
    if layer.stride[0] == 1 and before[0] != after[0]:
        # Pad both ends alike and drop the surplus planes: cheaper than a padded copy of the slab.
        both = max(before[0], after[0])
        whole = _conv_padded(layer, slab, (both, *before[1:]), (both, *after[1:]))
        return whole.narrow(2, both - before[0], want[1] - want[0])
    return _conv_padded(layer, slab, before, after)


def _conv_padded(layer: Conv, slab: Slab, before: Triple, after: Triple) -> Slab:
    if before != after:
        pads = [
            amount
            for pair in zip(reversed(before), reversed(after), strict=True)
            for amount in pair
        ]
        slab, before = functional.pad(slab, pads), (0, 0, 0)
    if _few_outputs(layer, slab):
        return _conv_by_product(layer, slab, before)
    if _prefers_onednn(slab):
        if _is_long_sum(layer):
            slab = slab.contiguous()
        # torch's own choice falls back to a loop 15 times slower for narrow, thin inputs.
        return torch.mkldnn_convolution(
            slab, layer.weight, layer.bias, before, layer.stride, layer.dilation, layer.groups
        )
    return functional.conv3d(
        slab, layer.weight, layer.bias, layer.stride, before, layer.dilation, layer.groups
    )


def _prefers_onednn(slab: Slab) -> bool:
    on_cpu = slab.device.type == "cpu" and slab.dtype == torch.float32
    return on_cpu and torch.backends.mkldnn.is_available() and bool(torch.backends.mkldnn.enabled)


def _few_outputs(layer: Conv, slab: Slab) -> bool:
    plain = layer.stride == layer.dilation == (1, 1, 1) and layer.groups == 1
    exact = slab.dtype in (torch.float32, torch.float64)
    narrow = layer.channels <= FEW_CHANNELS and slab.shape[1] >= 8 * layer.channels
    return plain and narrow and exact and slab.device.type == "cpu"


def _conv_by_product(layer: Conv, slab: Slab, padding: Triple) -> Slab:
    """Every tap as one row of a matrix product, then the taps shifted and summed."""
    channels, kernel = slab.shape[1], layer.weight.shape[2:]
    if slab[0].is_contiguous():
        voxels = slab[0].view(channels, -1)
    else:
        voxels = slab[0].permute(1, 2, 3, 0).reshape(-1, channels).t()
    rows = layer.weight.permute(2, 3, 4, 0, 1).reshape(-1, channels)
    taps = (rows @ voxels).view(*kernel, layer.channels, *slab.shape[2:])
    size = [n + 2 * p - k + 1 for n, p, k in zip(slab.shape[2:], padding, kernel, strict=True)]
    out = slab.new_zeros((layer.channels, *size))
    if layer.bias is not None:
        out += layer.bias.view(-1, 1, 1, 1)
    for place in torch.cartesian_prod(*(torch.arange(k) for k in kernel)).tolist():
        _add_shifted(out, taps[tuple(place)], [t - p for t, p in zip(place, padding, strict=True)])
    return out[None]


def _add_shifted(out: Tensor, tap: Tensor, shift: list[int]) -> None:
    """out[x] += tap[x + shift] wherever both exist; both (c, i, j, k)."""
    here, there = [slice(None)], [slice(None)]
    for n_out, n_in, by in zip(out.shape[1:], tap.shape[1:], shift, strict=True):
        first, last = max(0, -by), min(n_out, n_in - by)
        if last <= first:
            return
        here.append(slice(first, last))
        there.append(slice(first + by, last + by))
    out[tuple(here)] += tap[tuple(there)]


def _transposed(layer: TransposedConv, slab: Slab, have: Cut, want: Cut) -> Slab:
    whole = functional.conv_transpose3d(
        slab,
        layer.weight,
        layer.bias,
        layer.stride,
        (0, *layer.padding[1:]),
        (0, *layer.output_padding[1:]) if layer.stride[0] == 1 else layer.output_padding,
        layer.groups,
    )
    first = want[0] + layer.padding[0] - have[0] * layer.stride[0]
    return whole.narrow(2, first, want[1] - want[0])


def _upsample(layer: Upsample, slab: Slab, have: Cut, want: Cut) -> Slab:
    if slab.device.type == "cpu":  # the interpolation is 3 to 6 times faster with channels last
        slab = slab.contiguous(memory_format=torch.channels_last_3d)
    whole = functional.interpolate(slab, scale_factor=2.0, mode=layer.mode)
    return whole.narrow(2, want[0] - 2 * have[0], want[1] - want[0])
