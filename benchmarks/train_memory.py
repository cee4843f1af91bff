"""Memory and time of training steps of a preset's U-Net, each way in a process of its own.

    python benchmarks/train_memory.py --preset ct-rflow --latent 64 64 32 --steps 2

Prints one line a way: peak growth of the anonymous resident set (on CPU) or of the device's memory
(on CUDA), weights, averages and Adam's state included, and seconds a step after the first.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

WAYS = ("checkpointed", "plain")


def main() -> None:
    words = _words()
    if words.way:
        print(measure(words))
        return
    for way in words.ways:
        subprocess.run([sys.executable, __file__, *sys.argv[1:], "--way", way], check=False)


def measure(words: argparse.Namespace) -> str:
    import torch

    from synthct.models.maisi.conditions import conditions
    from synthct.models.maisi.image_task import ImageBatch, ImageTask
    from synthct.models.maisi.networks import build_unet
    from synthct.models.maisi.spec import preset
    from synthct.models.maisi.unet_blocks import checkpointed
    from synthct.training.state import State
    from synthct.training.task import Recipe

    spec = preset(words.preset)
    before, peak = anonymous_bytes(), Peak()
    task = ImageTask.__new__(ImageTask)  # its data is made up here
    task.spec, task.bfloat16, task.unet = spec, not words.float32, build_unet(spec)
    if words.way == "checkpointed":
        checkpointed(task.unet)
    device = torch.device(words.device)
    told = conditions(spec, regions=(), spacing_mm=(1.0, 1.0, 1.0))
    seconds = []
    with TemporaryDirectory() as folder, peak:
        recipe = Recipe(steps=9, learning_rate=1e-4)
        state = State(task, recipe, Path(folder), device=device)
        for _ in range(words.steps):
            start = time.monotonic()
            latent = torch.randn(1, spec.autoencoder.latent_channels, *words.latent)
            figures = state.train_step([ImageBatch(latent, told)])
            seconds.append(time.monotonic() - start)
    grown = peak.bytes - before
    if device.type == "cuda":
        grown = torch.cuda.max_memory_allocated(device)
    millions = sum(p.numel() for p in task.unet.parameters()) / 1e6
    return (
        f"{words.preset} U-Net {millions:.1f} M, latent {words.latent}, {words.way}, "
        f"{words.device}: {grown / 2**30:.2f} GiB, {min(seconds):.1f} s a step, "
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
