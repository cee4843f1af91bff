"""Convolutions of small maps on a CPU: by oneDNN where torch is slow, in float32 where it is wrong.

torch leaves a float32 convolution of one sample with a kernel up to 3×3×3 to its own loop where
channels × two sides of the map come to no more than 20,480 (ATen, `use_mkldnn` of
`native/Convolution.cpp`): so for most maps of a small latent, at 1.5 to 5 times oneDNN's time.
The sums are the same but for their rounding, and are those that any batch of two takes. What
torch.compile traces it cannot follow here, and compiled blocks are left as they are.

In bfloat16 on a CPU with AMX a 3×3×3 convolution of stride 2 onto a map that is 1 voxel long along
its last axis returns what has nothing to do with its input, or no numbers (torch 2.13, of 512
shapes just those, measured against float32): a slab of few slices, in the U-Net's lowest map.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from math import prod
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

_TORCH_S_LIMIT = 20_480
_LEAST_VOXELS = 128
"""Below it, oneDNN takes longer to lay out the weights than torch's loop to multiply by them."""


class SmallMaps(TorchFunctionMode):
    """While it is on, small float32 maps on a CPU are convolved by oneDNN."""

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if function is torch.conv3d and not torch.compiler.is_compiling() and _as_a_module(args):
            source, weight, bias, stride, padding, dilation, groups = args
            return torch.mkldnn_convolution(source, weight, bias, padding, stride, dilation, groups)
        return function(*args, **(kwargs or {}))


class OneVoxelMaps(TorchFunctionMode):
    """While it is on, strided convolutions onto 1 voxel along the last axis are of float32."""

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if function is torch.conv3d and not torch.compiler.is_compiling() and _onto_one(args):
            source, weight, bias, stride, padding, dilation, groups = args
            bias = None if bias is None else bias.float()
            with torch.autocast("cpu", enabled=False):
                return torch.conv3d(
                    source.float(), weight.float(), bias, stride, padding, dilation, groups
                )
        return function(*args, **(kwargs or {}))


def _onto_one(args: tuple[Any, ...]) -> bool:
    """Whether these are `nn.Conv3d`'s arguments for a map that is halved to 1 along k."""
    return len(args) == 7 and args[3][2] > 1 and args[0].shape[-1] <= args[3][2]


def _as_a_module(args: tuple[Any, ...]) -> bool:
    """Whether these are the arguments that `nn.Conv3d` gives, of a slow map."""
    return len(args) == 7 and is_slow(*args[:2])


def small_maps(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """What small maps need on a CPU: `SmallMaps` in float32, `OneVoxelMaps` in bfloat16."""
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return nullcontext()
    return SmallMaps() if precision == "float32" else OneVoxelMaps()


def is_slow(source: torch.Tensor, weight: torch.Tensor) -> bool:
    """Whether torch would take its own loop for a map (1, C, x, y, z) that oneDNN is faster for."""
    if source.dtype != torch.float32 or source.device.type != "cpu":
        return False
    one, wide = source.shape[0] == 1, weight.shape[-1] > 1
    small = prod(source.shape[:4]) <= _TORCH_S_LIMIT
    return one and wide and small and prod(source.shape[2:]) >= _LEAST_VOXELS
