"""Sampling: error against steps for each sampler, and what a step costs against MONAI's own loop.

    python benchmarks/sample.py                        # the embedded model, on a phantom
    python benchmarks/sample.py --steps 5 10 20 --compile

First table: relative L2 between the latent of a sampler in n steps and that of a fine solution (60
midpoint steps) from the same noise, with the predictions that it took and the seconds. Second: one
step of ours against MONAI's two forward passes (mask embedded anew each step, as published), plain
and guided, medians of the same run. All in float32 on the CPU unless --device says otherwise.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import torch
from monai.networks.schedulers import RFlowScheduler

from synthct.diffusion.solvers import PREDICTIONS
from synthct.models.load import load_generator
from synthct.models.maisi.conditions import conditions, label_bits, regions_of
from synthct.models.maisi.generator import MaisiGenerator
from synthct.models.maisi.guidance import without_lesions
from synthct.models.maisi.sampling import FLOW_SOLVERS
from synthct.models.settings import Execution, Sampling
from synthct.phantom import make_phantom

FINE_STEPS = 60


def main() -> None:
    options = _options()
    device = torch.device(options.device)
    generator = cast(MaisiGenerator, load_generator(options.model, options.weights, device))
    labels = make_phantom("abdomen", (options.spacing,) * 3, 0, lesions=True).array
    told = Case(generator, labels, (options.spacing,) * 3)
    if generator.spec.sampler == "rflow":
        _errors(told, options.steps)
    _costs(told, options.repeats, options.compile)


class Case:
    """A model and a mask."""

    def __init__(self, generator: MaisiGenerator, labels: Any, spacing_mm: Any) -> None:
        self.generator, self.labels, self.spacing_mm = generator, labels, spacing_mm
        self.regions = regions_of(labels)

    def latent(self, sampler: Any, steps: int, **words: Any) -> torch.Tensor:
        sampling = Sampling(0, 0, steps, sampler, execution=Execution("float32", 96), **words)
        shape = self.labels.shape
        return self.generator.latent(shape, self.labels, self.spacing_mm, sampling, self.regions)


def _errors(case: Case, steps: list[int]) -> None:
    exact = case.latent("midpoint", FINE_STEPS)
    print(f"{'sampler':<10}{'steps':>6}{'predictions':>13}{'error':>12}{'seconds':>10}")
    for sampler, solver in FLOW_SOLVERS.items():
        for n in steps:
            latent, seconds = _timed(lambda s=sampler, n=n: case.latent(s, n))  # type: ignore[misc]
            error = float((latent - exact).norm() / exact.norm())
            calls = n * PREDICTIONS[solver]
            print(f"{sampler:<10}{n:>6}{calls:>13}{error:>12.2e}{seconds:>10.2f}", flush=True)
    reference = case.latent("rflow", 30, reference_times=True)
    error = float((reference - exact).norm() / exact.norm())
    print(f"{'reference':<10}{30:>6}{30:>13}{error:>12.2e}   (its truncated steps)")


def _costs(case: Case, repeats: int, compiled: bool) -> None:
    """Seconds a step: 4 steps less 1, so that what is done once falls out of the difference."""
    print(f"\n{'':<34}{'s a step':>10}{'against MONAI':>15}")
    for name, words, batch in (
        ("plain", {}, 1),
        ("guidance scale 1", {"tumor_guidance": 1.0}, 2),
        ("guidance scale 3", {"tumor_guidance": 3.0}, 2),
    ):
        theirs = _per_step(lambda n, b=batch: _monai(case, n, b), repeats)  # type: ignore[misc]
        ours = _per_step(lambda n, w=words: case.latent("rflow", n, **w), repeats)  # type: ignore[misc]
        print(f"{'MONAI, ' + name:<34}{theirs:>10.3f}{1.0:>15.2f}")
        print(f"{'synthct, ' + name:<34}{ours:>10.3f}{ours / theirs:>15.2f}", flush=True)
    if compiled:
        case.latent("rflow", 1, compile=True)  # compiles
        ours = _per_step(lambda n: case.latent("rflow", n, compile=True), repeats)
        print(f"{'synthct, plain, compiled':<34}{ours:>10.3f}")


def _per_step(run: Callable[[int], Any], repeats: int) -> float:
    seconds = []
    for _ in range(repeats):
        (_, few), (_, many) = _timed(lambda: run(1)), _timed(lambda: run(4))
        seconds.append((many - few) / 3)
    return statistics.median(seconds)


@torch.inference_mode()
def _monai(case: Case, steps: int, batch: int) -> torch.Tensor:
    """The reference's loop from MONAI's networks, `batch` of 2 where it guides."""
    spec, generator = case.generator.spec, case.generator
    multiple, factor = spec.grid_multiple, spec.autoencoder.factor
    padded = [-(-n // multiple) * multiple for n in case.labels.shape]
    masks = []
    for shown in (case.labels, without_lesions(case.labels))[:batch]:
        ids = np.zeros(padded, np.uint8)
        ids[tuple(slice(0, n) for n in shown.shape)] = shown
        masks.append(label_bits(ids))
    bits = torch.cat(masks).float().to(generator.device)
    told = conditions(spec, regions=case.regions, spacing_mm=case.spacing_mm)
    words = {
        name: None if value is None else value.repeat(batch, *[1] * (value.ndim - 1))
        for name, value in told.unet_arguments().items()
    }
    latent = torch.randn(1, spec.autoencoder.latent_channels, *(n // factor for n in padded))
    scheduler = RFlowScheduler(use_discrete_timesteps=False, use_timestep_transform=True)
    scheduler.set_timesteps(steps, input_img_size_numel=latent[0, 0].numel())
    following = torch.cat([scheduler.timesteps[1:], torch.zeros(1, dtype=torch.float16)])
    for now, after in zip(scheduler.timesteps, following, strict=True):
        x, time_ = torch.cat([latent] * batch), torch.Tensor((now,)).repeat(batch)
        assert generator.controlnet is not None
        down, middle = generator.controlnet(x, time_, bits, class_labels=words["class_labels"])
        out = generator.unet(
            x,
            time_,
            down_block_additional_residuals=down,
            mid_block_additional_residual=middle,
            **words,
        )
        latent, _ = scheduler.step(out[:1], now, latent, after)
    return latent


def _timed(run: Callable[[], Any]) -> tuple[Any, float]:
    began = time.perf_counter()
    found = run()
    return found, time.perf_counter() - began


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--model", default="maisi-mini-ct")
    parser.add_argument("--weights", default=None)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--spacing", type=float, default=5.0)
    parser.add_argument("--steps", type=int, nargs="+", default=[4, 8, 15, 30])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--compile", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
