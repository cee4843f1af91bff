"""Convolutions of small maps on a CPU: by oneDNN where torch is slow, in float32 where it is wrong.

torch leaves a float32 convolution of one sample with a kernel up to 3×3×3 to its own loop where
channels × two sides of the map come to no more than 20,480 (ATen, `use_mkldnn` of
`native/Convolution.cpp`): so for most maps of a small latent, at 1.5 to 5 times oneDNN's time.
The sums are the same but for their rounding, and are those that any batch of two takes. What
torch.compile traces it cannot follow here, and compiled blocks are left as they are.

In bfloat16 on a CPU with AMX a 3×3×3 convolution of stride 2 onto a map that is 1 voxel long along
its last axis returns what has nothing to do with its input, or no numbers: a slab of few slices, in
the U-Net's lowest map. (torch 2.13 against float32; of 512 shapes only such.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from math import prod
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from synthct.training.precision import autocast, fast_bfloat16

_TORCH_S_LIMIT = 20_480
_LEAST_VOXELS = 128
"""Below it, oneDNN takes longer to lay out the weights than torch's loop to multiply by them."""


class _OtherConvolutions(TorchFunctionMode):
    """While it is on, `nn.Conv3d` asks `instead` first."""

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        as_a_module = function is torch.conv3d and len(args) == 7
        found = None if torch.compiler.is_compiling() or not as_a_module else self.instead(*args)
        return function(*args, **(kwargs or {})) if found is None else found

    def instead(self, source: torch.Tensor, weight: torch.Tensor, *how: Any) -> torch.Tensor | None:
        """The result, of the arguments that `nn.Conv3d` gives; None: as torch does."""
        raise NotImplementedError


class SmallMaps(_OtherConvolutions):
    """While it is on, small float32 maps on a CPU are convolved by oneDNN."""

    def instead(self, source: torch.Tensor, weight: torch.Tensor, *how: Any) -> torch.Tensor | None:
        if not is_slow(source, weight):
            return None
        bias, stride, padding, dilation, groups = how
        return torch.mkldnn_convolution(source, weight, bias, padding, stride, dilation, groups)


class OneVoxelMaps(_OtherConvolutions):
    """While it is on, strided convolutions onto 1 voxel along the last axis are of float32."""

    def instead(self, source: torch.Tensor, weight: torch.Tensor, *how: Any) -> torch.Tensor | None:
        bias, stride, *rest = how
        if stride[2] == 1 or source.shape[-1] > stride[2]:
            return None
        bias = None if bias is None else bias.float()
        with torch.autocast("cpu", enabled=False):
            return torch.conv3d(source.float(), weight.float(), bias, stride, *rest)


def small_maps(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """What small maps need on a CPU: `SmallMaps` in float32, `OneVoxelMaps` in bfloat16."""
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return nullcontext()
    return SmallMaps() if precision == "float32" else OneVoxelMaps()


@contextmanager
def step_precision(bfloat16: bool, device: torch.device) -> Iterator[None]:
    """Of a training step: bfloat16 autocast where asked for and fast, else `SmallMaps`."""
    half = bfloat16 and fast_bfloat16(device)
    with autocast(half, device), nullcontext() if half else small_maps(device, "float32"):
        yield


def is_slow(source: torch.Tensor, weight: torch.Tensor) -> bool:
    """Whether torch would take its own loop for a map (1, C, x, y, z) that oneDNN is faster for."""
    if source.dtype != torch.float32 or source.device.type != "cpu":
        return False
    one, wide = source.shape[0] == 1, weight.shape[-1] > 1
    small = prod(source.shape[:4]) <= _TORCH_S_LIMIT
    return one and wide and small and prod(source.shape[2:]) >= _LEAST_VOXELS


def bfloat16_is_wrong(sides: Sequence[int], levels: int) -> bool:
    """Whether some level's map is 2 voxels long along i, or 1 along any axis.

    There, on a CPU with AMX, 3x3x3 convolutions in torch 2.13's bfloat16 are off by as much as
    their result, or not finite (measured against float32): with 2 voxels along i the weight
    gradient; with stride 2 onto 1 voxel along k the result itself.
    """
    maps = [[-(-side // 2**level) for side in sides] for level in range(levels)]
    return any(now[0] == 2 for now in maps) or min(maps[-1]) == 1
