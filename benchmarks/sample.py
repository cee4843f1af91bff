"""What a sampling step costs against MONAI's own loop, in one run, as a ratio.

    python benchmarks/sample.py                                   # the embedded model
    python benchmarks/sample.py --published ct-rflow --latent 32  # random weights, published size
    python benchmarks/sample.py --published ct-ddpm --compile

MONAI's loop is the published one: ControlNet and U-Net by their own forward passes, the mask
embedded anew in each step, guidance as a batch of two at any scale but 0. Ours embeds the mask
once, lets maps go early, and runs no branch that cancels; the branches that it runs are one batch
(`at once`) or come one after the other (`apart`): the planner chooses. All start from the same
noise and take the same Euler (or DDPM) steps; the distance of the latents after the last step
stands beside. A step is timed between the ends of the first and the last one, so that what is done
once is apart.

Ratios are of CPU seconds: they bear other work on the machine, which wall seconds do not.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from monai.networks.schedulers import DDPMScheduler, RFlowScheduler

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from synthct.diffusion.denoiser import Denoiser
from synthct.diffusion.rectified_flow import with_linear_share
from synthct.models.load import load_generator
from synthct.models.maisi.conditions import conditions, label_bits, regions_of
from synthct.models.maisi.generator import MaisiGenerator
from synthct.models.maisi.guidance import without_lesions
from synthct.models.maisi.networks import build_controlnet, build_unet
from synthct.models.maisi.sampling import noise_seed
from synthct.models.maisi.spec import preset
from synthct.models.settings import Execution, Sampling

SPACING_MM = (1.5, 1.5, 2.0)
LABELS = (0, 1, 26, 3, 28, 33, 62, 200)


@dataclass
class Ticks:
    """Wall and CPU seconds at the end of each step."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def tick(self) -> None:
        self.wall.append(time.perf_counter())
        self.cpu.append(time.process_time())

    def per_step(self) -> tuple[float, float]:
        """Of the steps after the first."""
        steps = len(self.wall) - 2
        return (self.wall[-1] - self.wall[1]) / steps, (self.cpu[-1] - self.cpu[1]) / steps

    def first(self) -> float:
        """CPU seconds of the first step beyond those of another one: what is done once."""
        return self.cpu[1] - self.cpu[0] - self.per_step()[1]


@dataclass
class Case:
    """A model with a mask, and what the networks are told."""

    generator: MaisiGenerator
    labels: Any
    steps: int

    @property
    def sampler(self) -> Any:
        return self.generator.spec.sampler

    def ours(
        self, precision: Any, *, together: bool = False, **words: Any
    ) -> tuple[torch.Tensor, Ticks]:
        ticks = Ticks()
        sampling = Sampling(
            0,
            0,
            self.steps,
            self.sampler,
            reference_times=True,
            execution=Execution(precision, 96, together=together),
            **words,
        )
        ticks.tick()
        latent = self.generator.latent(
            self.labels.shape,
            self.labels,
            SPACING_MM,
            sampling,
            regions_of(self.labels),
            lambda name, done, total: ticks.tick(),
        )
        return latent, ticks

    @torch.inference_mode()
    def monai(self, precision: str, scale: float = 0.0) -> tuple[torch.Tensor, Ticks]:
        """The published loop, with a batch of two where it guides."""
        batch, ticks = (2 if scale else 1), Ticks()
        ticks.tick()
        spec, rng = self.generator.spec, np.random.default_rng([0, 0])
        predict = self._predictor(batch, scale)
        if spec.skip:
            predict = with_linear_share(predict)
        shape = (
            1,
            spec.autoencoder.latent_channels,
            *(n // spec.autoencoder.factor for n in self.labels.shape),
        )
        latent = torch.from_numpy(rng.standard_normal(shape, dtype=np.float32))
        latent = latent.to(self.generator.device)
        half = torch.autocast(
            self.generator.device.type, torch.bfloat16, enabled=precision == "bfloat16"
        )
        for advance, now in self._times(latent):
            with half:
                predicted = predict(latent, float(now))
            latent = advance(predicted.float(), latent)
            ticks.tick()
        return latent, ticks

    def _predictor(self, batch: int, scale: float) -> Denoiser:
        generator = self.generator
        assert generator.controlnet is not None
        shown = (self.labels, without_lesions(self.labels))[:batch]
        bits = torch.cat([label_bits(one) for one in shown]).float().to(generator.device)
        told = conditions(
            generator.spec,
            regions=regions_of(self.labels),
            spacing_mm=SPACING_MM,
            device=generator.device,
        )
        words = {
            name: None if value is None else value.repeat(batch, *[1] * (value.ndim - 1))
            for name, value in told.unet_arguments().items()
        }

        def predict(latent: torch.Tensor, now: float) -> torch.Tensor:
            x = torch.cat([latent] * batch)
            at = torch.tensor([now], device=latent.device).repeat(batch)
            down, middle = generator.controlnet(x, at, bits, class_labels=words["class_labels"])  # type: ignore[misc]
            out = generator.unet(
                x,
                at,
                down_block_additional_residuals=down,
                mid_block_additional_residual=middle,
                **words,
            )
            if batch == 1:
                return cast(torch.Tensor, out)
            with_lesions, without = out.chunk(2)
            return cast(torch.Tensor, without + scale * (with_lesions - without))

        return predict

    def _times(self, latent: torch.Tensor) -> Iterator[tuple[Callable[..., torch.Tensor], Any]]:
        """(how a step is taken, its time) by MONAI's schedulers."""
        if self.sampler == "rflow":
            flow = RFlowScheduler(use_discrete_timesteps=False, use_timestep_transform=True)
            flow.set_timesteps(self.steps, input_img_size_numel=torch.tensor(latent[0, 0].numel()))
            after = torch.cat([flow.timesteps[1:], torch.zeros(1, dtype=torch.float16)])
            for now, then in zip(flow.timesteps, after, strict=True):
                yield lambda v, x, now=now, then=then: flow.step(v, now, x, then)[0], now
            return
        noisy = DDPMScheduler(
            num_train_timesteps=1000,
            schedule="scaled_linear_beta",
            beta_start=0.0015,
            beta_end=0.0195,
            clip_sample=False,
        )
        noisy.set_timesteps(self.steps)
        rng = torch.Generator().manual_seed(noise_seed(Sampling(0, 0, self.steps, "ddpm")))
        for now in noisy.timesteps:
            yield lambda v, x, now=now: noisy.step(v, now, x, generator=rng)[0], now


def main() -> None:
    options = _options()
    device = torch.device(options.device)
    generator = _published(options.published, device) if options.published else _ready(options)
    side = options.latent * generator.spec.autoencoder.factor
    case = Case(generator, _labels(side), options.steps)
    name = f"{options.published} (random weights)" if options.published else options.model
    how = f"{torch.get_num_threads()} threads, torch {torch.__version__}"
    load = f"load {os.getloadavg()[0]:.1f}"
    print(f"{name}, latent {options.latent}³, {options.steps} steps, {how}; {load}")
    print(f"{'a step':<38}{'CPU s':>8}{'wall s':>8}{'of MONAI':>10}{'distance':>10}")
    for precision in options.precision:
        found = _rounds(_arms(case, precision, options), options.rounds)
        plain, once = found["MONAI"], found["synthct"]
        _row(f"MONAI, {precision}", plain, plain)
        _row(f"synthct, {precision}", once, plain)
        print(f"  once, CPU s: MONAI {plain[1].first():.2f}, synthct {once[1].first():.2f}")
        if options.plain:
            continue
        guided = found["MONAI, guided"]
        _row(f"MONAI, {precision}, guided (any scale)", guided, guided)
        for name in ("at once", "apart"):
            _row(f"synthct, {precision}, scale 3, {name}", found[name], guided)
        _row(f"synthct, {precision}, scale 1", found["scale 1"], guided, plain)
    if options.compile:
        with _compiling():
            warm = case.ours(options.precision[0], compile=True)
            again = case.ours(options.precision[0], compile=True)
        _row(f"synthct, {options.precision[0]}, compiled", again, case.monai(options.precision[0]))
        print(f"  compiling, CPU s: {warm[1].first():.1f}")


Walked = tuple[torch.Tensor, Ticks]


def _arms(
    case: Case, precision: str, options: argparse.Namespace
) -> dict[str, Callable[[], Walked]]:
    arms: dict[str, Callable[[], Walked]] = {
        "MONAI": lambda: case.monai(precision),
        "synthct": lambda: case.ours(precision),
    }
    if not options.plain:
        arms["MONAI, guided"] = lambda: case.monai(precision, 3.0)
        arms["at once"] = lambda: case.ours(precision, together=True, tumor_guidance=3.0)
        arms["apart"] = lambda: case.ours(precision, tumor_guidance=3.0)
        arms["scale 1"] = lambda: case.ours(precision, tumor_guidance=1.0)
    return arms


def _rounds(arms: dict[str, Callable[[], Walked]], rounds: int) -> dict[str, Walked]:
    """Of each the run whose steps took the least: one after the other, so that a busy spell of the
    machine meets them all."""
    runs: dict[str, list[Walked]] = {name: [] for name in arms}
    for _ in range(rounds):
        for name, arm in arms.items():
            runs[name].append(arm())
    return {name: min(made, key=lambda one: one[1].per_step()[1]) for name, made in runs.items()}


def _row(
    name: str,
    found: Walked,
    against: Walked,
    latent_of: Walked | None = None,
) -> None:
    wall, cpu = found[1].per_step()
    theirs = (latent_of or against)[0]
    distance = float((found[0].cpu() - theirs.cpu()).norm() / theirs.cpu().norm())
    ratio = cpu / against[1].per_step()[1]
    print(f"{name:<38}{cpu:>8.2f}{wall:>8.2f}{ratio:>10.2f}{distance:>10.1e}", flush=True)


@contextmanager
def _compiling() -> Iterator[None]:
    from synthct.workflows.samplers import require_compiler

    require_compiler("cpu")
    yield


def _ready(options: argparse.Namespace) -> MaisiGenerator:
    found = load_generator(options.model, options.weights, torch.device(options.device))
    return cast(MaisiGenerator, found)


def _published(name: str, device: torch.device) -> MaisiGenerator:
    """Random U-Net and ControlNet of the published size; what starts at zero is random too."""
    spec = preset(name)
    torch.manual_seed(0)
    unet, controlnet = build_unet(spec).eval(), build_controlnet(spec).eval()
    with torch.no_grad():
        for parameter in (*unet.parameters(), *controlnet.parameters()):
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=(1 / parameter[0].numel()) ** 0.5)
    gc.collect()
    vae = torch.nn.Identity()
    return MaisiGenerator(spec, vae, unet.to(device), controlnet.to(device), 1.0, device)  # type: ignore[arg-type]


def _labels(side: int) -> Any:
    """Blocks of a few structures, a lesion among them."""
    rng = np.random.default_rng(5)
    blocks = rng.choice(np.array(LABELS, np.uint8), (side // 8,) * 3)
    return np.kron(blocks, np.ones((8, 8, 8), np.uint8))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--published", choices=["ct-rflow", "ct-ddpm"], default=None)
    parser.add_argument("--latent", type=int, default=32, help="voxels along a side, of 8")
    parser.add_argument("--model", default="maisi-mini-ct")
    parser.add_argument("--weights", type=Path, default=None)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--steps", type=int, default=3, help="at least 2")
    parser.add_argument("--precision", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--rounds", type=int, default=1, help="the least of so many is told")
    parser.add_argument("--plain", action="store_true", help="without guidance")
    parser.add_argument("--compile", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
