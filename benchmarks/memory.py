"""Predicted peak against measured growth of RssAnon, each in a fresh process on the CPU (Linux).

    python benchmarks/memory.py [--stage sample|decode] [--model mini-ct|middle] [--size 96 96 96]
        [--dtype float32|bfloat16] [--max-memory 1G] [--threads N] [--json]

Weights are random. Growth counts from when the libraries are imported: networks, and the stage.
Without arguments: a table over both models, stages and types.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from synthct.models.maisi.spec import MaisiSpec, preset

Stage = Literal["sample", "decode"]
Precision = Literal["float32", "bfloat16"]
POLL_SECONDS = 0.001
TOLERANCE_BYTES, TOLERANCE_SHARE = 200 * 2**20, 0.15


@dataclass(frozen=True)
class Outcome:
    """Bytes: what was predicted for networks and stage, and what was seen."""

    model: str
    stage: Stage
    size: tuple[int, int, int]
    precision: Precision
    budget_bytes: int | None
    predicted: int
    measured: int

    @property
    def agrees(self) -> bool:
        """Within 15 % or 200 MiB."""
        difference = abs(self.predicted - self.measured)
        return difference <= max(TOLERANCE_BYTES, TOLERANCE_SHARE * self.measured)


def spec_named(name: str) -> MaisiSpec:
    """A preset, or `middle`: the published rectified-flow layout at half its width or less.

    `middle-mr` is the same without a ControlNet.
    """
    if name not in ("middle", "middle-mr"):
        return preset(name)
    published = preset("mr-rflow" if name == "middle-mr" else "ct-rflow")
    return replace(
        published,
        autoencoder=replace(published.autoencoder, num_channels=(32, 64, 64), norm_num_groups=16),
        unet=replace(
            published.unet,
            num_channels=(32, 64, 64, 96),
            num_head_channels=(0, 0, 32, 32),
            norm_num_groups=8,
        ),
    )


class Watch:
    """The most that this process's anonymous resident set grew while it was watched."""

    def __enter__(self) -> Watch:
        self.start = self.most = anonymous_bytes()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self.most = max(self.most, anonymous_bytes())

    @property
    def growth(self) -> int:
        return self.most - self.start

    def _look(self) -> None:
        while not self._over.is_set():
            self.most = max(self.most, anonymous_bytes())
            time.sleep(POLL_SECONDS)


def anonymous_bytes(process: int | str = "self") -> int:
    lines = Path(f"/proc/{process}/status").read_text(encoding="utf-8").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


def run_here(
    name: str,
    stage: Stage,
    size: tuple[int, int, int],
    precision: Precision,
    budget_bytes: int | None,
) -> Outcome:
    """In this process, which should be fresh."""
    work = _sample if stage == "sample" else _decode
    predicted, measured = work(spec_named(name), size, precision, budget_bytes)
    return Outcome(name, stage, size, precision, budget_bytes, predicted, measured)


def _sample(
    spec: MaisiSpec, size: tuple[int, int, int], precision: Precision, budget_bytes: int | None
) -> tuple[int, int]:
    """The mask's embedding and a step, as the generator does them."""
    import numpy as np
    import torch

    from synthct.models.maisi import networks
    from synthct.models.maisi.footprint import parameters, sampling_memory
    from synthct.models.maisi.generator import MaisiGenerator
    from synthct.models.settings import Execution, Sampling

    plan = sampling_memory(spec, size, precision)
    counts = parameters(spec)
    labels = np.random.default_rng(0).integers(1, 132, size, dtype=np.uint8)
    torch.manual_seed(0)
    with Watch() as watch:
        unet = networks.build_unet(spec).eval()
        controlnet = networks.build_controlnet(spec).eval() if spec.controlnet else None
        device = torch.device("cpu")
        model = MaisiGenerator(spec, None, unet, controlnet, 1.0, device)  # type: ignore[arg-type]
        how = Execution(sampling=precision, mask_tile=plan.tile)
        sampler: Any = "rflow"
        sampling = Sampling(0, 0, steps=1, sampler=sampler, execution=how)
        seen = labels if spec.controlnet else None
        model.latent(size, seen, (1.0, 1.0, 1.0), sampling, ("chest",))
    weights = 4 * (counts["unet"] + counts.get("controlnet", 0))
    return weights + plan.peak, watch.growth


def _decode(
    spec: MaisiSpec, size: tuple[int, int, int], precision: Precision, budget_bytes: int | None
) -> tuple[int, int]:
    import torch

    from synthct.models.maisi import networks, plans
    from synthct.models.maisi.decode import decode

    i, j, k = (n // spec.autoencoder.factor for n in size)
    plan = plans.decode_plan(spec.autoencoder, (i, j, k), budget_bytes, dtype=precision)
    latent = torch.randn(1, spec.autoencoder.latent_channels, i, j, k)
    with torch.inference_mode(), Watch() as watch:
        autoencoder = networks.build_autoencoder(spec.autoencoder).eval()
        decode(autoencoder, latent, plan=plan, dtype=getattr(torch, precision))
    weights = 4 * sum(p.numel() for p in autoencoder.parameters())
    return weights + plan.peak_bytes, watch.growth


def run_fresh(
    name: str,
    stage: Stage,
    size: tuple[int, int, int],
    precision: Precision,
    budget_bytes: int | None = None,
    threads: int = 1,
) -> Outcome:
    """In a process of its own."""
    command = [sys.executable, __file__, "--here", "--model", name, "--stage", stage]
    command += ["--dtype", precision, "--size", *map(str, size), "--threads", str(threads)]
    if budget_bytes is not None:
        command += ["--budget-bytes", str(budget_bytes)]
    run = subprocess.run(command, check=True, capture_output=True, text=True, encoding="utf-8")
    predicted, measured = json.loads(run.stdout)
    return Outcome(name, stage, size, precision, budget_bytes, predicted, measured)


def table(outcomes: list[Outcome]) -> str:
    lines = [
        f"{'model':10}{'stage':8}{'size':16}{'type':10}{'predicted':>11}{'measured':>11}  ratio"
    ]
    for one in outcomes:
        size = "x".join(map(str, one.size))
        lines.append(
            f"{one.model:10}{one.stage:8}{size:16}{one.precision:10}"
            f"{one.predicted / 2**20:7.0f} MiB{one.measured / 2**20:7.0f} MiB"
            f"{one.predicted / one.measured:7.2f}{'' if one.agrees else '  OUTSIDE'}"
        )
    return "\n".join(lines)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--stage", choices=["sample", "decode"])
    parser.add_argument("--model", help="mini-ct, middle, or another preset")
    parser.add_argument("--size", type=int, nargs=3)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"])
    parser.add_argument("--budget-bytes", type=int)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


SIZES = {"mini-ct": (128, 128, 128), "middle": (256, 256, 192)}


def main() -> None:
    asked = parsed()
    if asked.here:
        import torch

        torch.set_num_threads(asked.threads)
        import synthct.models.load  # noqa: F401

        one = run_here(asked.model, asked.stage, asked.size, asked.dtype, asked.budget_bytes)
        print(json.dumps([one.predicted, one.measured]))
        return
    outcomes = [
        run_fresh(
            model,
            stage,
            tuple(asked.size or SIZES.get(model, (128, 128, 128))),
            dtype,
            asked.budget_bytes,
            asked.threads,
        )
        for model in ([asked.model] if asked.model else SIZES)
        for stage in ([asked.stage] if asked.stage else ["sample", "decode"])
        for dtype in ([asked.dtype] if asked.dtype else ["float32", "bfloat16"])
    ]
    if asked.json:
        print(json.dumps([vars(one) | {"agrees": one.agrees} for one in outcomes], indent=2))
    else:
        print(table(outcomes))


if __name__ == "__main__":
    main()
