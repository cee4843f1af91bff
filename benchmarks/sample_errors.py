"""How near a sampler gets to the end of its path in how many steps, on the embedded model.

    python benchmarks/sample_errors.py
    python benchmarks/sample_errors.py --steps 5 10 20 --spacing 5

Relative L2 between the latent of a sampler and that of a fine solution of the same equation from
the same noise, on a phantom, in float32. The embedded model is one of rectified flow. For DDPM's
samplers the same network is seen as one that predicts noise, by an exact change of variables:

    x_flow = (1 - t)·data + t·noise,  x_ddpm = α·data + σ·noise  ⇒  x_flow = x_ddpm / (α + σ),
    t = σ / (α + σ),  noise = x_flow - (1 - t)·v(x_flow, t)

The fine solution is always rectified flow's own, by the midpoint rule; so a sampler of DDPM that
comes near to it has walked the other equation to the same end.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from monai.networks.schedulers import DDPMScheduler

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from synthct.diffusion import gaussian, rectified_flow
from synthct.diffusion.denoiser import Denoiser
from synthct.diffusion.rectified_flow import RectifiedFlow
from synthct.diffusion.solvers import PREDICTIONS, walk
from synthct.models.load import load_generator
from synthct.models.maisi.conditions import conditions, regions_of
from synthct.models.maisi.control import MaskEmbedding
from synthct.models.maisi.generator import MaisiGenerator
from synthct.models.maisi.guidance import Bound
from synthct.models.maisi.sampling import FLOW_SOLVERS
from synthct.models.settings import Execution
from synthct.phantom import make_phantom

FINE_STEPS = 100


class AsGaussian:
    """A network of rectified flow as one that predicts the noise in DDPM's variables."""

    def __init__(self, flow: Any) -> None:
        kept = DDPMScheduler(**gaussian._SCHEDULE).alphas_cumprod.double().log().numpy()
        self.flow, self.log_kept = flow, kept

    def at(self, timestep: float) -> tuple[float, float]:
        """(α + σ, t) of a timestep of DDPM; between whole ones log ᾱ is linear."""
        kept = float(np.exp(np.interp(timestep, np.arange(len(self.log_kept)), self.log_kept)))
        alpha, sigma = kept**0.5, (1 - kept) ** 0.5
        return alpha + sigma, sigma / (alpha + sigma)

    def __call__(self, latent: torch.Tensor, timestep: float) -> torch.Tensor:
        size, t = self.at(timestep)
        x = latent / size
        noise: torch.Tensor = x - (1 - t) * self.flow(x, 1000 * t)
        return noise


@torch.inference_mode()
def main() -> None:
    options = _options()
    flow, noise, schedule = _bound(options)
    print(f"latent {tuple(noise.shape)}; fine solution: {FINE_STEPS} midpoint steps")
    if options.only != "ddpm":
        _flow(flow, noise, schedule, options.steps)
    if options.only != "flow":
        _gaussian(flow, noise, schedule, options.steps)


def _flow(flow: Denoiser, noise: torch.Tensor, schedule: RectifiedFlow, steps: list[int]) -> None:
    print(f"\n{'rectified flow':<16}{'steps':>6}{'predictions':>13}{'error':>10}")
    exact = rectified_flow.sample(flow, noise, schedule, FINE_STEPS, solver="midpoint")
    for name, solver in FLOW_SOLVERS.items():
        for n in steps:
            found = rectified_flow.sample(flow, noise, schedule, n, solver=solver)
            _row(name, n, n * PREDICTIONS[solver], found, exact)
    published = rectified_flow.sample(flow, noise, schedule, 30, reference=True)
    _row("reference", 30, 30, published, exact)


def _gaussian(
    flow: Denoiser, noise: torch.Tensor, schedule: RectifiedFlow, steps: list[int]
) -> None:
    view = AsGaussian(flow)
    size, start = view.at(999)
    times = start * schedule.shift(torch.linspace(1, 0, FINE_STEPS + 1, dtype=torch.float64))
    *_, end = walk(lambda x, t: -flow(x, 1000 * t), noise / size, times.tolist(), "midpoint")
    print(f"\n{'DDPM':<16}{'steps':>6}{'predictions':>13}{'error':>10}")
    for n in steps:
        _row("dpm++", n, n, gaussian.sample_dpm(view, noise, n), end)
    for n in steps:
        _row("ddim", n, n, gaussian.sample_ddim(view, noise, n), end)


def _row(name: str, steps: int, calls: int, found: torch.Tensor, exact: torch.Tensor) -> None:
    error = float((found - exact).norm() / exact.norm())
    print(f"{name:<16}{steps:>6}{calls:>13}{error:>10.1e}", flush=True)


def _bound(options: argparse.Namespace) -> tuple[Denoiser, torch.Tensor, RectifiedFlow]:
    """The embedded networks with a phantom bound, noise, and the flow's schedule."""
    device = torch.device("cpu")
    generator = cast(MaisiGenerator, load_generator("maisi-mini-ct", options.weights, device))
    spacing = (options.spacing,) * 3
    spec, labels = generator.spec, make_phantom("abdomen", spacing, 0, lesions=True).array
    ids = np.zeros(
        [-(-n // spec.grid_multiple) * spec.grid_multiple for n in labels.shape], np.uint8
    )
    ids[tuple(slice(0, n) for n in labels.shape)] = labels
    told = conditions(spec, regions=regions_of(labels), spacing_mm=spacing)
    assert generator.controlnet is not None
    how = Execution("float32", 96)
    bound = Bound(generator.unet, told, (MaskEmbedding.of(generator.controlnet, ids),), how)
    flow = rectified_flow.with_linear_share(bound) if spec.skip else bound
    shape = (
        1,
        spec.autoencoder.latent_channels,
        *(n // spec.autoencoder.factor for n in ids.shape),
    )
    noise = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    latent = torch.from_numpy(noise)
    return flow, latent, RectifiedFlow(latent[0, 0].numel(), spec.base_numel)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--weights", type=Path, default=None)
    parser.add_argument("--spacing", type=float, default=6.0)
    parser.add_argument("--only", choices=["flow", "ddpm"], default=None)
    parser.add_argument("--steps", type=int, nargs="+", default=[4, 8, 15, 30])
    return parser.parse_args()


if __name__ == "__main__":
    main()
