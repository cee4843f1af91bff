"""Decoding against MONAI: same weights, same latent, same machine, one run.

    python benchmarks/decode.py --channels 16 32 --size 96 96 96 --pairs 3 [--threads N] [--json]

Time is the median of interleaved pairs, in wall and CPU seconds; memory is the growth of a fresh
process, in maps (one map: the widest full-resolution map in float32). Weights and latent are
random.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from monai.apps.generation.maisi.networks.autoencoderkl_maisi import AutoencoderKlMaisi

from synthct.models.maisi.decode import decode

Run = Callable[[torch.Tensor], torch.Tensor]
CONTESTANTS = ("monai unsplit", "monai splits 4", "synthct", "monai autocast", "synthct bfloat16")


def network(channels: list[int], splits: int) -> AutoencoderKlMaisi:
    torch.manual_seed(0)
    levels = len(channels)
    return AutoencoderKlMaisi(
        spatial_dims=3,
        in_channels=1,
        out_channels=1,
        num_res_blocks=(2,) * levels,
        num_channels=channels,
        attention_levels=(False,) * levels,
        latent_channels=4,
        norm_num_groups=min(32, min(channels) // 2),
        num_splits=splits,
        dim_split=1,
    ).eval()


def latent(channels: list[int], size: list[int]) -> torch.Tensor:
    factor = 2 ** (len(channels) - 1)
    generator = torch.Generator().manual_seed(1)
    return torch.randn(1, 4, *(n // factor for n in size), generator=generator)


def contestant(name: str, channels: list[int]) -> Run:
    model = network(channels, 4 if name == "monai splits 4" else 1)
    if name == "synthct":
        return lambda z: decode(model, z)
    if name == "synthct bfloat16":
        return lambda z: decode(model, z, dtype=torch.bfloat16)
    if name != "monai autocast":
        return model.decode

    def autocast(z: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return model.decode(z).float()

    return autocast


def timed(run: Run, z: torch.Tensor) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    run(z)
    return time.perf_counter() - wall, time.process_time() - cpu


def interleaved(channels: list[int], size: list[int], pairs: int) -> dict[str, tuple[float, float]]:
    """Median wall and CPU seconds of every contestant."""
    runs = {name: contestant(name, channels) for name in CONTESTANTS}
    z = latent(channels, size)
    small = latent(channels, [32] * 3)
    for run in runs.values():
        run(small)
    rounds = [{name: timed(run, z) for name, run in runs.items()} for _ in range(pairs)]
    return {
        name: (
            statistics.median(r[name][0] for r in rounds),
            statistics.median(r[name][1] for r in rounds),
        )
        for name in CONTESTANTS
    }


def resident_kib(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field))


def own_growth(name: str, channels: list[int], size: list[int]) -> int:
    """Peak resident KiB above the start, measured in this process: to be called in a fresh one."""
    run = contestant(name, channels)
    run(latent(channels, [32] * 3))
    z = latent(channels, size)
    Path("/proc/self/clear_refs").write_text("5")
    before = resident_kib("VmRSS")
    run(z)
    return resident_kib("VmHWM") - before


def growth(name: str, arguments: argparse.Namespace) -> int | None:
    if not sys.platform.startswith("linux"):
        return None
    command = [sys.executable, __file__, "--grow", name, "--threads", str(arguments.threads)]
    command += ["--channels", *map(str, arguments.channels), "--size", *map(str, arguments.size)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def measure(arguments: argparse.Namespace) -> dict[str, dict[str, float | None]]:
    channels, size = arguments.channels, arguments.size
    seconds = interleaved(channels, size, arguments.pairs)
    base = seconds["monai unsplit"]
    z = latent(channels, size)
    expected = contestant("monai unsplit", channels)(z)
    wide = channels[min(1, len(channels) - 1)]
    one_map = wide * size[0] * size[1] * size[2] * 4 / 1024
    rows: dict[str, dict[str, float | None]] = {}
    for name in CONTESTANTS:
        got = contestant(name, channels)(z)
        grown = growth(name, arguments)
        rows[name] = {
            "wall_s": seconds[name][0],
            "cpu_s": seconds[name][1],
            "wall_ratio": seconds[name][0] / base[0],
            "cpu_ratio": seconds[name][1] / base[1],
            "growth_mib": None if grown is None else grown / 1024,
            "growth_maps": None if grown is None else grown / one_map,
            "relative_l2": float((got - expected).norm() / expected.norm()),
        }
    return rows


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--channels", type=int, nargs="+", default=[16, 32])
    parser.add_argument("--size", type=int, nargs=3, default=[96, 96, 96])
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--grow", choices=CONTESTANTS, help=argparse.SUPPRESS)
    return parser.parse_args()


@torch.inference_mode()
def main() -> None:
    arguments = parsed()
    torch.set_num_threads(arguments.threads)
    if arguments.grow:
        print(own_growth(arguments.grow, arguments.channels, arguments.size))
        return
    rows = measure(arguments)
    if arguments.json:
        print(json.dumps(rows, indent=2))
        return
    columns = list(rows["synthct"])
    print(f"{'':18}" + "".join(f"{column:>13}" for column in columns))
    for name, row in rows.items():
        cells = ("-" if row[c] is None else f"{row[c]:.3g}" for c in columns)
        print(f"{name:18}" + "".join(f"{cell:>13}" for cell in cells))


if __name__ == "__main__":
    main()
