"""From noise to a latent, by the sampler that was asked for."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence

import numpy as np
import torch
from monai.apps.generation.maisi.networks.diffusion_model_unet_maisi import DiffusionModelUNetMaisi

from synthct.diffusion import gaussian, rectified_flow
from synthct.diffusion.denoiser import Denoiser
from synthct.diffusion.solvers import Solver
from synthct.errors import UsageError
from synthct.models.protocols import Stage
from synthct.models.settings import Sampling

FLOW_SOLVERS: dict[str, Solver] = {
    "rflow": "euler",
    "heun": "heun",
    "midpoint": "midpoint",
    "adams": "adams",
}

_compiled: weakref.WeakSet[DiffusionModelUNetMaisi] = weakref.WeakSet()


def draw_noise(shape: Sequence[int], sampling: Sampling, step: int | None = None) -> torch.Tensor:
    """Drawn on the CPU in float32: the same on every device.

    From [seed, attempt]; what an ancestral step goes on with, from [seed, attempt, step + 1]:
    NumPy takes [seed, attempt, 0] for [seed, attempt].
    """
    key = [sampling.seed, sampling.attempt, *([] if step is None else [step + 1])]
    rng = np.random.default_rng(key)
    return torch.from_numpy(rng.standard_normal(tuple(shape), dtype=np.float32))


def sample(
    denoiser: Denoiser,
    noise: torch.Tensor,
    sampling: Sampling,
    base_numel: int,
    stage: Stage = lambda name, done, total: None,
) -> torch.Tensor:
    """`noise` (1, C, x, y, z) → latent.

    Raises:
        UsageError: there is no such sampler.
    """
    advance = _counter(stage, "sampling step", sampling.steps)
    schedule = rectified_flow.RectifiedFlow(noise[0, 0].numel(), base_numel)
    if sampling.sampler in FLOW_SOLVERS:
        return rectified_flow.sample(
            denoiser,
            noise,
            schedule,
            sampling.steps,
            reference=sampling.reference_times,
            solver=FLOW_SOLVERS[sampling.sampler],
            advance=advance,
        )
    if sampling.sampler == "ancestral":
        return rectified_flow.sample_ancestral(
            denoiser,
            noise,
            schedule,
            sampling.steps,
            fresh=lambda step: draw_noise(noise.shape, sampling, step).to(noise.device),
            advance=advance,
        )
    if sampling.sampler == "ddim":
        return gaussian.sample_ddim(denoiser, noise, sampling.steps, advance=advance)
    if sampling.sampler == "dpm++":
        return gaussian.sample_dpm(denoiser, noise, sampling.steps, advance=advance)
    if sampling.sampler == "ddpm":
        generator = torch.Generator().manual_seed(noise_seed(sampling))
        return gaussian.sample_ddpm(
            denoiser, noise, sampling.steps, generator=generator, advance=advance
        )
    raise UsageError(f"no sampler {sampling.sampler!r}", f"one of: {', '.join(FLOW_SOLVERS)}, …")


def noise_seed(sampling: Sampling) -> int:
    """Of the noise that DDPM adds on its way."""
    return sampling.seed * 1009 + sampling.attempt


def compile_blocks(unet: DiffusionModelUNetMaisi) -> None:
    """Let torch.compile fuse each block of the U-Net, in place and once; the shapes stay."""
    if unet in _compiled:
        return
    for block in (*unet.down_blocks, unet.middle_block, *unet.up_blocks):
        block.compile(dynamic=False)
    _compiled.add(unet)


def _counter(stage: Stage, name: str, total: int) -> Callable[[], None]:
    done = 0

    def advance() -> None:
        nonlocal done
        done += 1
        stage(name, done, total)

    return advance
