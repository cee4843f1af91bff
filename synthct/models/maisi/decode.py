"""Latent to image, slab by slab, in the memory there is."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias, overload

import torch
from monai.apps.generation.maisi.networks.autoencoderkl_maisi import AutoencoderKlMaisi

from synthct.models.maisi.tiled import checked_axis, device_of, planner
from synthct.models.maisi.translation import decoder_layers
from synthct.tensors import Image, Latent, Slab
from synthct.tiling.budget import Plan, Room
from synthct.tiling.cuts import Cut
from synthct.tiling.halo import Progress, run
from synthct.tiling.statistics_file import StatisticsFile

# (sample, planes [start, stop), axis that they count along, their values (1, 1, i, j, k))
ImageSink: TypeAlias = Callable[[int, Cut, int, Slab], None]


@overload
def decode(
    autoencoder: AutoencoderKlMaisi,
    latent: Latent,
    *,
    slabs: int | None = None,
    slab_planes: int | None = None,
    budget: int | None = None,
    plan: Plan | None = None,
    axis: int | None = None,
    dtype: torch.dtype | None = None,
    spill_dir: Path | None = None,
    sink: None = None,
    progress: Progress | None = None,
    statistics: Path | None = None,
) -> Image: ...


@overload
def decode(
    autoencoder: AutoencoderKlMaisi,
    latent: Latent,
    *,
    slabs: int | None = None,
    slab_planes: int | None = None,
    budget: int | None = None,
    plan: Plan | None = None,
    axis: int | None = None,
    dtype: torch.dtype | None = None,
    spill_dir: Path | None = None,
    sink: ImageSink,
    progress: Progress | None = None,
    statistics: Path | None = None,
) -> None: ...


def decode(
    autoencoder: AutoencoderKlMaisi,
    latent: Latent,
    *,
    slabs: int | None = None,
    slab_planes: int | None = None,
    budget: int | None = None,
    plan: Plan | None = None,
    axis: int | None = None,
    dtype: torch.dtype | None = None,
    spill_dir: Path | None = None,
    sink: ImageSink | None = None,
    progress: Progress | None = None,
    statistics: Path | None = None,
) -> Image | None:
    """What `autoencoder.decode(latent)` gives in evaluation mode, slab by slab, float32 on the CPU.

    Args:
        latent: (n, c, i, j, k), already divided by the scale factor. Any device; the work is done
            where the autoencoder is.
        slabs: number of slabs. At most one of `slabs`, `slab_planes`, `budget` and `plan` may be
            given; without them slabs cost little beside the maps, and nothing is made twice.
        slab_planes: planes of a slab at full resolution.
        budget: bytes that may be allocated on the device beside weights and latent.
        plan: from `plans.decode_plan` for the same shape; brings its axis and dtype.
        axis: spatial axis to cut; the longest by default.
        dtype: float32 is exact to rounding (relative L2 under 3e-6), bfloat16 to about 1e-2.
        spill_dir: folder for the file of a plan that spills to disk.
        sink: takes finished slabs in order instead of one image; see `hu_file.HuFile`. Where memory
            runs out on the way, it begins again at plane 0.
        progress: called with (done, total) after every slab.
        statistics: file for what a sweep has measured, of a latent with n = 1. A decode that was
            interrupted goes on from it; one of other weights, latent or precision begins anew.

    Raises:
        UnknownLayer: the autoencoder holds a layer that tiling does not know.
        MemoryBudgetError: `budget` is too small, or the machine ran out of memory with the
            smallest plan; `minimum` says what works.
        UsageError: two ways of cutting at once, an axis other than 0, 1, 2, or a plan for something
            else.
    """
    axis = checked_axis(latent, axis if plan is None else plan.axis)
    if dtype is None:
        dtype = torch.float32 if plan is None else getattr(torch, plan.dtype)
    room = Room(
        device=device_of(autoencoder).type,
        streamed=sink is not None,
        copies_weights=dtype != torch.float32 or axis != 0,
    )
    chosen = planner(slabs=slabs, slab_planes=slab_planes, budget=budget, plan=plan, room=room)
    return run(
        decoder_layers(autoencoder),
        latent.to(device_of(autoencoder)),
        axis=axis,
        planner=chosen,
        dtype=dtype,
        sink=None if sink is None else _counting_along(sink, axis),
        spill_folder=spill_dir,
        progress=progress,
        statistics=None if statistics is None else _kept(statistics, autoencoder, latent, dtype),
    )


def _kept(
    path: Path, autoencoder: AutoencoderKlMaisi, latent: Latent, dtype: torch.dtype
) -> StatisticsFile:
    digest = hashlib.sha256(str(dtype).encode())
    for tensor in (latent, *autoencoder.decoder.state_dict().values()):
        digest.update(f"{tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().float().contiguous().numpy().tobytes())
    return StatisticsFile(path, digest.hexdigest())


def _counting_along(sink: ImageSink, axis: int) -> Callable[[int, Cut, Slab], None]:
    return lambda sample, cut, slab: sink(sample, cut, axis, slab)
