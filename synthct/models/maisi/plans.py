"""Memory plans of decoding and encoding for a spec: no weights, no torch."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Literal, TypeAlias

from synthct.models.maisi.outline import decoder_outline, encoder_outline
from synthct.models.maisi.spec import AutoencoderSpec
from synthct.tiling import budget
from synthct.tiling.budget import Plan, Room
from synthct.tiling.layers import Layer, Triple
from synthct.tiling.schedule import Schedule, schedule

Precision: TypeAlias = Literal["float32", "bfloat16"]
_ITEMSIZE = {"float32": 4, "bfloat16": 2}


def decode_plan(
    spec: AutoencoderSpec,
    latent: Triple,
    budget_bytes: int | None = None,
    *,
    dtype: Precision = "float32",
    device: str = "cpu",
    host_bytes: int | None = None,
    spill_bytes: int | None = None,
    streamed: bool = False,
    axis: int | None = None,
    devices: int = 1,
) -> Plan:
    """How a latent of `latent` voxels is decoded within `budget_bytes`.

    Args:
        budget_bytes: of each device, beside weights and latent. None: nothing is made twice.
        dtype: of maps and kernels.
        device: its kind: cpu, cuda or mps.
        host_bytes: host memory for spilled maps, where the device has a memory of its own.
        spill_bytes: room on disk for spilled maps; None: no file.
        streamed: the image goes to a sink and does not stay in memory.
        axis: spatial axis to cut; the longest by default.
        devices: that share the planes (see `several`); then the image goes into a file.

    Raises:
        MemoryBudgetError: the budget is too small; `minimum` says what works.
    """
    copied = copies_weights(dtype, axis, latent)
    streamed = streamed or devices > 1
    room = Room(budget_bytes, device, host_bytes or 0, spill_bytes or 0, streamed, copied, devices)
    axis = longest_axis(latent) if axis is None else axis
    todo = _decoder_schedule(spec, latent, axis)
    return replace(budget.choose(todo, _ITEMSIZE[dtype], room), axis=axis)


def decode_minimum(
    spec: AutoencoderSpec,
    latent: Triple,
    *,
    dtype: Precision = "float32",
    device: str = "cpu",
    host_bytes: int | None = None,
    spill_bytes: int | None = None,
    streamed: bool = False,
    axis: int | None = None,
    devices: int = 1,
) -> int:
    """Bytes of the smallest budget that `decode_plan` accepts, with the same words."""
    copied = copies_weights(dtype, axis, latent)
    streamed = streamed or devices > 1
    room = Room(None, device, host_bytes or 0, spill_bytes or 0, streamed, copied, devices)
    todo = _decoder_schedule(spec, latent, axis)
    return budget.minimum(todo, _ITEMSIZE[dtype], room)


def encode_plan(
    spec: AutoencoderSpec,
    image: Triple,
    budget_bytes: int | None = None,
    *,
    dtype: Precision = "float32",
    device: str = "cpu",
    axis: int | None = None,
) -> Plan:
    """How an image is encoded; arguments and errors as for `decode_plan`."""
    room = Room(budget_bytes, device, copies_weights=copies_weights(dtype, axis, image))
    axis = longest_axis(image) if axis is None else axis
    todo = _schedule(encoder_outline(spec), 1, image, axis)
    return replace(budget.choose(todo, _ITEMSIZE[dtype], room), axis=axis)


def longest_axis(size: tuple[int, ...]) -> int:
    return size.index(max(size))


def copies_weights(dtype: str, axis: int | None, size: tuple[int, ...]) -> bool:
    """Whether kernels must be turned or rounded, or serve as they are."""
    return dtype != "float32" or (longest_axis(size) if axis is None else axis) != 0


@lru_cache(maxsize=4)
def _decoder_schedule(spec: AutoencoderSpec, latent: Triple, axis: int | None) -> Schedule:
    """The same object for the same question, so that what is found out about it is kept."""
    axis = longest_axis(latent) if axis is None else axis
    return _schedule(decoder_outline(spec), spec.latent_channels, latent, axis)


def _schedule(layers: tuple[Layer, ...], channels: int, size: Triple, axis: int) -> Schedule:
    """With the axis that is cut put first; kernels and borders are alike along all axes."""
    turned = list(size)
    turned[0], turned[axis] = turned[axis], turned[0]
    return schedule(layers, channels, (turned[0], turned[1], turned[2]))
