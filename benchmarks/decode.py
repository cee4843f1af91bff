"""Decoding against MONAI: same weights, same latent, same machine, one run.

    python benchmarks/decode.py                                  # 96x96x96 on the CPU, minutes
    python benchmarks/decode.py --size 256 256 128 --pairs 2     # the table of docs/performance.md
    python benchmarks/decode.py --device cuda --size 512 512 512

Every measurement is a fresh process: one small decode to warm up, then one that counts. Rounds go
through all contestants in turn, and medians are reported. Memory on a CPU is the growth of the
anonymous resident set, sampled every 5 ms; on CUDA the growth of `max_memory_allocated`. A map is
the widest full-resolution map in float32. Weights and latent are random. A contestant that runs out
of memory is listed as such.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from monai.apps.generation.maisi.networks.autoencoderkl_maisi import AutoencoderKlMaisi
from monai.inferers import SlidingWindowInferer
from torch import Tensor, nn

from synthct.models.maisi.decode import decode
from synthct.models.maisi.plans import decode_minimum, decode_plan
from synthct.models.maisi.spec import AutoencoderSpec
from synthct.tiling.heap import is_out_of_memory

REFERENCE = "monai unsplit"
MONAI = (REFERENCE, "monai splits 4", "monai autocast")
OURS = ("synthct float32", "synthct bfloat16")
WINDOW = "monai sliding window"  # the reference's preset for 80 GB
WINDOW_ROI, WINDOW_OVERLAP = (80, 80, 80), 0.4
CPU_BUDGETS_MAPS = (1.25, 0.75, 0.5, 0.25)
CUDA_BUDGETS_GIB = (8, 12, 16, 24, 40, 80)
WARM_UP = 48  # voxels a side; MONAI's four splits fail below
Run = Callable[[Tensor], Tensor]


def spec(channels: list[int]) -> AutoencoderSpec:
    return AutoencoderSpec(tuple(channels), (2,) * len(channels), 4, min(32, min(channels) // 2))


def network(channels: list[int], splits: int, device: str) -> AutoencoderKlMaisi:
    torch.manual_seed(0)
    built = AutoencoderKlMaisi(
        spatial_dims=3,
        in_channels=1,
        out_channels=1,
        num_res_blocks=(2,) * len(channels),
        num_channels=channels,
        attention_levels=(False,) * len(channels),
        latent_channels=4,
        norm_num_groups=spec(channels).norm_num_groups,
        num_splits=splits,
        dim_split=1,
    ).eval()
    for module in built.modules():  # weights that keep a signal's size
        if isinstance(module, nn.Conv3d):
            nn.init.normal_(module.weight, 0.0, (1.4 / module.weight[0].numel()) ** 0.5)
    return built.to(device)


def latent_shape(channels: list[int], size: list[int]) -> tuple[int, int, int]:
    i, j, k = (n // 2 ** (len(channels) - 1) for n in size)
    return i, j, k


def latent(channels: list[int], size: list[int]) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(1, 4, *latent_shape(channels, size), generator=generator)


def contestant(name: str, arguments: argparse.Namespace) -> Run:
    """`synthct <dtype>` or `synthct <dtype> <budget in bytes>`, or one of MONAI's ways."""
    channels, device = arguments.channels, arguments.device
    model = network(channels, 4 if name == "monai splits 4" else 1, device)
    if name.startswith("synthct"):
        dtype, budget = name.split()[1], [*name.split(), ""][2]
        return lambda z: decode(
            model, z, dtype=getattr(torch, dtype), budget=int(budget) if budget else None
        )
    if name == WINDOW:
        window = SlidingWindowInferer(WINDOW_ROI, 1, WINDOW_OVERLAP, "gaussian", device="cpu")
        return lambda z: window(z.to(device), model.decode).cpu()
    half = torch.autocast(torch.device(device).type, dtype=torch.bfloat16)

    def run(z: Tensor) -> Tensor:
        with half if name == "monai autocast" else nullcontext():
            return model.decode(z.to(device)).float().cpu()

    return run


class Growth:
    """Peak of memory above its value at the start of the `with` block, in bytes."""

    def __init__(self, device: str) -> None:
        self._cuda = torch.device(device).type == "cuda"
        self._stop = threading.Event()
        self.bytes: int | None = None

    def __enter__(self) -> Growth:
        self._before = self._now()
        self._peak = self._before
        if self._cuda:
            torch.cuda.reset_peak_memory_stats()
        elif sys.platform.startswith("linux"):
            self._watcher = threading.Thread(target=self._watch)
            self._watcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._cuda:
            self.bytes = torch.cuda.max_memory_allocated() - self._before
        elif sys.platform.startswith("linux"):
            self._watcher.join()
            self.bytes = self._peak - self._before

    @property
    def peak(self) -> int:
        """So far, above the start."""
        return self._peak - self._before

    def _now(self) -> int:
        if self._cuda:
            return torch.cuda.memory_allocated()
        if not sys.platform.startswith("linux"):
            return 0
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon"))

    def _watch(self) -> None:
        while not self._stop.wait(0.005):
            self._peak = max(self._peak, self._now())


@torch.inference_mode()
def work(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """One contestant once, in this process; its image goes to or is compared with `--image`."""
    torch.backends.cudnn.allow_tf32 = False
    run = contestant(name, arguments)
    z = latent(arguments.channels, arguments.size)
    try:
        run(latent(arguments.channels, [WARM_UP] * 3))
        with Growth(arguments.device) as growth:
            wall, cpu = time.perf_counter(), time.process_time()
            image = run(z)
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return {"out_of_memory": True}
    return {
        "wall_s": wall,
        "cpu_s": cpu,
        "growth_bytes": growth.bytes,
        "relative_l2": _error(image, Path(arguments.image), save=name == REFERENCE),
    }


def _error(image: Tensor, path: Path, *, save: bool) -> float | None:
    if save:
        torch.save(image, path)
        return 0.0
    if not path.exists() or path.stat().st_size == 0:
        return None
    expected = torch.load(path, weights_only=True)
    return float((image - expected).norm() / expected.norm())


def started(name: str, arguments: argparse.Namespace, image: str) -> dict[str, Any]:
    """`work` in a fresh process; a killed one ran out of memory."""
    command = [sys.executable, "-W", "ignore", __file__, "--work", name, "--image", image]
    command += ["--threads", str(arguments.threads), "--device", arguments.device]
    command += ["--channels", *map(str, arguments.channels), "--size", *map(str, arguments.size)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, encoding="utf-8")
    if done.returncode in (-9, 137):
        return {"out_of_memory": True}
    if done.returncode:
        return {"failed": (done.stderr.splitlines() or ["no message"])[-1]}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def contestants(arguments: argparse.Namespace) -> list[str]:
    if arguments.only:
        return list(arguments.only)
    names = [*MONAI, *OURS]
    if arguments.device != "cpu":
        names.append(WINDOW)
    if arguments.budgets:
        names += budgets(arguments)
    return names


def budgets(arguments: argparse.Namespace) -> list[str]:
    """`synthct <dtype> <bytes>` for a falling row of budgets, the smallest that works last."""
    shape, one_map = latent_shape(arguments.channels, arguments.size), map_bytes(arguments)
    kind = torch.device(arguments.device).type
    least = decode_minimum(spec(arguments.channels), shape, device=kind)
    asked = [int(share * one_map) for share in CPU_BUDGETS_MAPS]
    if kind == "cuda":
        asked = [gib * 2**30 for gib in reversed(CUDA_BUDGETS_GIB)]
    return [f"synthct float32 {b}" for b in [*(b for b in asked if b > least), least]]


def map_bytes(arguments: argparse.Namespace) -> int:
    i, j, k = arguments.size
    return 4 * int(max(arguments.channels[:2])) * int(i * j * k)


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    names = contestants(arguments)
    rounds: list[dict[str, dict[str, Any]]] = []
    handle, image = tempfile.mkstemp(suffix=".pt")
    os.close(handle)
    try:
        for number in range(arguments.pairs):
            rounds.append({})
            for name in names:
                rounds[-1][name] = started(name, arguments, image)
                _say(f"round {number + 1} {name}: {rounds[-1][name]}")
    finally:
        Path(image).unlink()
    rows = {name: _row(name, [r[name] for r in rounds], arguments) for name in names}
    for row in rows.values():
        for of in ("wall_s", "cpu_s"):
            base = rows.get(REFERENCE, {}).get(of)
            row[f"{of[:-2]}_ratio"] = row[of] / base if base and row.get(of) else None
    return {"machine": _machine(arguments), "map_bytes": map_bytes(arguments), "rows": rows}


def _row(name: str, found: list[dict[str, Any]], arguments: argparse.Namespace) -> dict[str, Any]:
    whole = [one for one in found if "wall_s" in one]
    row: dict[str, Any] = {"out_of_memory": any("out_of_memory" in one for one in found)}
    row["failed"] = next((one["failed"] for one in found if "failed" in one), None)
    for key in ("wall_s", "cpu_s", "growth_bytes", "relative_l2"):
        values = [one[key] for one in whole if one[key] is not None]
        row[key] = statistics.median(values) if values else None
    grown = row["growth_bytes"]
    row["growth_maps"] = None if grown is None else grown / map_bytes(arguments)
    if name.startswith("synthct"):
        words = name.split()
        plan = decode_plan(
            spec(arguments.channels),
            latent_shape(arguments.channels, arguments.size),
            int(words[2]) if len(words) > 2 else None,
            dtype="float32" if words[1] == "float32" else "bfloat16",
            device=torch.device(arguments.device).type,
        )
        row |= {"predicted_bytes": plan.peak_bytes, "work": plan.work, "plan": plan.summary}
    return row


def _machine(arguments: argparse.Namespace) -> dict[str, Any]:
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    cuda = arguments.device != "cpu"
    return {
        "device": torch.cuda.get_device_name() if cuda else platform.processor() or "cpu",
        "threads": arguments.threads,
        "load_average": load,
        "torch": torch.__version__,
        "channels": arguments.channels,
        "size": arguments.size,
        "pairs": arguments.pairs,
    }


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _table(found: dict[str, Any]) -> str:
    columns = ("wall_s", "wall_ratio", "cpu_ratio", "growth_maps", "relative_l2", "work")
    lines = [f"{'':30}" + "".join(f"{column:>13}" for column in columns)]
    for name, row in found["rows"].items():
        cells = [row.get(c) for c in columns]
        if row["out_of_memory"] or row["failed"]:
            cells = ["out of memory" if row["out_of_memory"] else "failed"]
        texts = ("-" if c is None else c if isinstance(c, str) else f"{c:.3g}" for c in cells)
        lines.append(f"{name:30}" + "".join(f"{text:>13}" for text in texts))
    return "\n".join(lines)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--channels", type=int, nargs="+", default=[64, 128, 256])
    parser.add_argument("--size", type=int, nargs=3, default=[96, 96, 96])
    parser.add_argument("--pairs", type=int, default=1)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--budgets", action="store_true", help="also a row of falling budgets")
    parser.add_argument("--only", nargs="+", help="these contestants")
    parser.add_argument("--json", type=Path, help="write the result here")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    parser.add_argument("--image", default="", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    arguments = parsed()
    torch.set_num_threads(arguments.threads)
    if arguments.work:
        print(json.dumps(work(arguments.work, arguments)))
        return
    found = measure(arguments)
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(_table(found))


if __name__ == "__main__":
    main()
