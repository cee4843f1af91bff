"""Memory and time of training steps of a preset's stages, each way in a process of its own.

    python benchmarks/train_memory.py --preset ct-rflow --latent 64 64 32 --steps 2
    python benchmarks/train_memory.py --stage controlnet --ways checkpointed
    python benchmarks/train_memory.py --stage vae --latent 16 16 16

Each begins with a step on a small input, after which Adam's state is there. Prints one line a way:
peak growth of the anonymous resident set (on CPU) or of the device's memory (on CUDA), weights,
averages and Adam's state included, and seconds a step, the quickest. The losses and what moves are
those of the recipe `published`, but for its contrastive term, which would predict twice; the data
is made up. The autoencoder's crop has four times the latent's sides; it has no checkpointing.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from synthct.training.task import Recipe, Task

WAYS = ("checkpointed", "plain")
STAGES = ("vae", "unet", "controlnet")
SMALL = (16, 16, 8)
Size = Sequence[int]


def main() -> None:
    words = _words()
    if words.way:
        print(measure(words))
        return
    for way in ("plain",) if words.stage == "vae" else words.ways:
        subprocess.run([sys.executable, __file__, *sys.argv[1:], "--way", way], check=False)


def made_up(words: argparse.Namespace) -> tuple[Task, Callable[[Size], Any], Recipe]:
    """The stage's task without its data, batches of noise by latent size, and the recipe."""
    from dataclasses import replace

    import numpy as np
    import torch

    from synthct.models.maisi.conditions import conditions, label_bits
    from synthct.models.maisi.image_task import ImageBatch, ImageTask
    from synthct.models.maisi.latent_task import LatentBatch, LatentTask
    from synthct.models.maisi.networks import build_autoencoder, build_controlnet, build_unet
    from synthct.models.maisi.recipes import recipe
    from synthct.models.maisi.spec import preset
    from synthct.models.maisi.unet_blocks import checkpointed
    from synthct.models.maisi.vae_task import VaeTask
    from synthct.training.adversary import Adversary
    from synthct.training.kl_control import KlControl

    spec = preset(words.preset)
    names = {"vae": "maisi-vae", "unet": "maisi-diffusion", "controlnet": "maisi-controlnet"}
    chosen = recipe(names[words.stage], "published")
    loop = replace(chosen.loop, steps=9, epochs=0)
    told = conditions(spec, regions=(), spacing_mm=(1.0, 1.0, 1.0))
    factor = spec.autoencoder.factor

    def noise(size: Size) -> torch.Tensor:
        return torch.randn(1, spec.autoencoder.latent_channels, *size)

    if words.stage == "vae":
        task = VaeTask.__new__(VaeTask)
        task.spec, task.bfloat16, task.loss_weights = spec, not words.float32, chosen.vae
        task.autoencoder = build_autoencoder(spec.autoencoder)
        task._control = KlControl(chosen.vae.kl)
        task.critic = Adversary(chosen.vae.channels, chosen.vae.critic_channels)
        task._pretrained, task._last = None, None
        return task, lambda size: torch.rand(1, 1, *(n * factor for n in size)), loop
    if words.stage == "unet":
        alone = ImageTask.__new__(ImageTask)
        alone.spec, alone.bfloat16, alone.unet = spec, not words.float32, build_unet(spec)
        alone.l1 = chosen.latent.l1
        if words.way == "checkpointed":
            checkpointed(alone.unet)
        return alone, lambda size: ImageBatch(noise(size), told), loop
    both = LatentTask.__new__(LatentTask)
    both.spec, both.bfloat16, both.controlled = spec, not words.float32, True
    both.unet, both.controlnet = build_unet(spec), build_controlnet(spec)
    both.unet_moves, both.blind_share = False, chosen.latent.blind_share
    both.l1 = chosen.latent.l1
    if words.way == "checkpointed":
        checkpointed(both.unet, both.controlnet, unet_moves=False)

    def masked(size: Size) -> LatentBatch:
        latent, image = noise(size), [n * factor for n in size]
        bits = label_bits(np.random.default_rng(0).integers(0, 133, image).astype(np.uint8))
        return LatentBatch(latent, torch.ones_like(latent[:, :1]), bits, told)

    return both, masked, loop


def measure(words: argparse.Namespace) -> str:
    import torch

    from synthct.training.state import State

    before, peak = anonymous_bytes(), Peak()
    device = torch.device(words.device)
    seconds = []
    with TemporaryDirectory() as folder, peak:
        task, drawn, recipe = made_up(words)
        state = State(task, recipe, Path(folder), device=device)
        state.train_step([drawn(SMALL)])
        batch = drawn(words.latent)
        for _ in range(words.steps):
            start = time.monotonic()
            figures = state.train_step([batch])
            seconds.append(time.monotonic() - start)
    grown = peak.bytes - before
    if device.type == "cuda":
        grown = torch.cuda.max_memory_allocated(device)
    millions = sum(p.numel() for p in state.parameters) / 1e6
    return (
        f"{words.preset} {words.stage}, {millions:.1f} M learn, latent {words.latent}, "
        f"{words.way}, {words.device}: {grown / 2**30:.2f} GiB, {min(seconds):.1f} s a step, "
        f"loss {figures['loss']:.3f}"
    )


def anonymous_bytes() -> int:
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) * 1024
    return 0


class Peak:
    """The highest RssAnon, looked at a hundred times a second."""

    bytes = 0

    def __enter__(self) -> Peak:
        import threading

        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._done.wait(0.01):
            self.bytes = max(self.bytes, anonymous_bytes())

    def __exit__(self, *_: Any) -> None:
        self._done.set()
        self._thread.join()


def _words() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stage", choices=STAGES, default="unet")
    parser.add_argument("--preset", default="ct-rflow")
    parser.add_argument("--latent", type=int, nargs=3, default=(64, 64, 32))
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--float32", action="store_true")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
