"""Convolution of three planes at two thirds of the multiply-adds: Winograd's F(2, 3) along the cut.

Two output planes of a kernel of three planes (g0, g1, g2) come from four input planes by four
plane convolutions instead of six (Lavin and Gray 2016, section 4.1, here along one axis only):

    m0 = (d0 - d2) * g0                 y0 = m0 + m1 + m2
    m1 = (d1 + d2) * (g0 + g1 + g2)/2   y1 = m1 - m2 - m3
    m2 = (d2 - d1) * (g0 - g1 + g2)/2
    m3 = (d1 - d3) * g2

It is the same sum in another order; in float32 its rounding is about twice that of the plain
kernel. In half precision the sums of planes would have to be
rounded once more, so it is not used there.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from synthct.tensors import Plane, Slab
from synthct.tiling.layers import PAIR_TAPS, Conv, goes_by_pairs

# Channels summed in one go. oneDNN adds all products of an output voxel in one float32 chain; parts
# of 64 channels keep a whole decoder's rounding at 1.5e-6 of the image instead of 2.2e-6.
_CHAIN = 64


def serves(layer: Conv) -> bool:
    """Whether a layer, ready to run, is computed so: on a CPU, where `goes_by_pairs`."""
    weight = layer.weight
    exact = weight.dtype in (torch.float32, torch.float64)
    return exact and weight.device.type == "cpu" and goes_by_pairs(layer, weight.dtype.itemsize)


def convolve(layer: Conv, slab: Slab, before: int, count: int) -> Slab:
    """`count` output planes, the first of which begins `before` planes before `slab`.

    Args:
        slab: (1, c, planes, j, k); planes before and after it count as zero.
    """
    source, kernels = _Planes(slab, before), _kernels(layer.weight)
    j, k = slab.shape[3:]
    grown = [layer.extent(n, axis) for axis, n in ((1, j), (2, k))]
    shape = (count, layer.channels, *grown)
    out = torch.empty(shape, dtype=slab.dtype, memory_format=torch.channels_last)
    for first in range(0, count - 1, 2):
        _pair(layer, kernels, [source[first + n] for n in range(4)], out[first : first + 2])
    if count % 2:
        _single(layer, [source[count - 1 + n] for n in range(PAIR_TAPS)], out[count - 1 :])
    return out.transpose(0, 1)[None]


def _kernels(weight: Tensor) -> tuple[Tensor, ...]:
    """The four plane kernels, made anew for every slab: a hundredth of its time, and no memory."""
    g0, g1, g2 = weight.unbind(2)
    half = (g0 + g2) / 2
    return g0, half + g1 / 2, half - g1 / 2, g2


class _Planes:
    """The planes (1, c, j, k) of a slab by number; zeros where there is none."""

    def __init__(self, slab: Slab, before: int) -> None:
        self._slab, self._before = slab, before
        self._nothing: Plane | None = None

    def __getitem__(self, number: int) -> Plane:
        number -= self._before
        if 0 <= number < self._slab.shape[2]:
            return self._slab[:, :, number]
        if self._nothing is None:
            self._nothing = torch.zeros_like(self._slab[:, :, 0])
        return self._nothing


def _pair(layer: Conv, kernels: tuple[Tensor, ...], planes: list[Plane], out: Tensor) -> None:
    d0, d1, d2, d3 = planes
    g0, plus, minus, g2 = kernels
    m1 = _convolved(layer, (d1, d2), plus, layer.bias)
    m2 = _convolved(layer, (d2, d1), minus, sign=-1)
    y0, y1 = torch.add(m1, m2, out=out[:1]), torch.sub(m1, m2, out=out[1:])
    del m1, m2
    y0.add_(_convolved(layer, (d0, d2), g0, sign=-1))
    y1.sub_(_convolved(layer, (d1, d3), g2, sign=-1))


def _single(layer: Conv, planes: list[Plane], out: Tensor) -> None:
    g0, g1, g2 = layer.weight.unbind(2)
    out.copy_(_convolved(layer, planes[:1], g0, layer.bias))
    out.add_(_convolved(layer, planes[1:2], g1))
    out.add_(_convolved(layer, planes[2:], g2))


def _convolved(
    layer: Conv, terms: Sequence[Plane], kernel: Tensor, bias: Tensor | None = None, sign: int = 1
) -> Plane:
    """The sum of one or two planes (the second with `sign`), convolved, some channels at a time."""
    found: Plane | None = None
    for first in range(0, kernel.shape[1], _CHAIN):
        part = slice(first, first + _CHAIN)
        plane = terms[0][:, part]
        if len(terms) > 1:
            plane = torch.add(plane, terms[1][:, part], alpha=sign)
        if found is None:
            found = _plane_convolution(plane, kernel[:, part], bias, layer.before[1:])
        else:
            found.add_(_plane_convolution(plane, kernel[:, part], None, layer.before[1:]))
    assert found is not None
    return found


def _plane_convolution(
    plane: Plane, kernel: Tensor, bias: Tensor | None, padding: tuple[int, ...]
) -> Plane:
    if plane.dtype == torch.float32 and torch.backends.mkldnn.is_available():
        return torch.mkldnn_convolution(plane, kernel, bias, padding, (1, 1), (1, 1), 1)
    return functional.conv2d(plane, kernel, bias, 1, padding)
