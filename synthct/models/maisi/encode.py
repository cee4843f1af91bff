"""Image to latent, slab by slab: the counterpart of `decode`."""

from __future__ import annotations

import torch
from monai.apps.generation.maisi.networks.autoencoderkl_maisi import AutoencoderKlMaisi

from synthct.models.maisi.tiled import checked_axis, device_of, planner
from synthct.models.maisi.translation import encoder_layers
from synthct.tensors import FeatureMap, Image, Latent
from synthct.tiling.budget import Plan, Room
from synthct.tiling.halo import Progress, run


def encode(
    autoencoder: AutoencoderKlMaisi,
    image: Image,
    *,
    slabs: int | None = None,
    slab_planes: int | None = None,
    budget: int | None = None,
    plan: Plan | None = None,
    axis: int | None = None,
    dtype: torch.dtype | None = None,
    progress: Progress | None = None,
) -> tuple[Latent, Latent]:
    """What `autoencoder.encode(image)` gives in evaluation mode: mean and sigma, on the CPU.

    Arguments and errors as for `decode`; also GridError for an image with an axis shorter than the
    autoencoder's factor.
    """
    device = device_of(autoencoder)
    room = Room(device=device.type)
    chosen = planner(slabs=slabs, slab_planes=slab_planes, budget=budget, plan=plan, room=room)
    if dtype is None:
        dtype = torch.float32 if plan is None else getattr(torch, plan.dtype)
    hidden = run(
        encoder_layers(autoencoder),
        image.to(device),
        axis=checked_axis(image, axis if plan is None else plan.axis),
        planner=chosen,
        dtype=dtype,
        progress=progress,
    )
    assert hidden is not None  # no sink was given
    return _mean_and_sigma(autoencoder, hidden.to(device))


@torch.no_grad()
def _mean_and_sigma(autoencoder: AutoencoderKlMaisi, hidden: FeatureMap) -> tuple[Latent, Latent]:
    kind = next(autoencoder.parameters()).dtype
    mean = autoencoder.quant_conv_mu(hidden.to(kind))
    log_variance = autoencoder.quant_conv_log_sigma(hidden.to(kind)).clamp(-30.0, 20.0)
    return mean.to("cpu", hidden.dtype), torch.exp(log_variance / 2).to("cpu", hidden.dtype)
