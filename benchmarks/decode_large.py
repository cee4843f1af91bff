"""The published decoder at 512x512x768 within 8 GiB, once, whole; hours on a small machine.

    python benchmarks/decode_large.py FOLDER                 # go on with it by the same words
    python benchmarks/decode_large.py FOLDER --spill 64      # maps in a file of at most 64 GiB
    python benchmarks/decode_large.py FOLDER --cut FILE      # afterwards: blocks for the tests

At this size no machine we have runs the network unsplit. What is measured is the growth of the
anonymous resident set, and the time of every part of an interrupted run. With room on disk nothing
is made twice, but an interrupted run begins again, as its file goes with it. The image goes slab by
slab into FOLDER/image.npy, what was found out about it into FOLDER/statistics.safetensors. `--cut`
keeps two small blocks of the image and the statistics; a test makes the same blocks again from a
piece of the latent, in float32, and so holds the whole run to account.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from decode import Growth, latent, latent_shape, spec
from monai.apps.generation.maisi.networks.autoencoderkl_maisi import AutoencoderKlMaisi
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from synthct.models.maisi.decode import decode
from synthct.models.maisi.plans import decode_plan

CHANNELS = [64, 128, 256]
IMAGE, STATISTICS, RESULT = "image.npy", "statistics.safetensors", "result.json"
BLOCKS = {"corner": (0, 0, 0), "middle": (256, 256, 384)}  # first voxels
BLOCK = 16  # voxels a side


def network() -> AutoencoderKlMaisi:
    """The published autoencoder with weights that depend on nothing but these lines."""
    with torch.device("meta"):
        built = AutoencoderKlMaisi(
            spatial_dims=3,
            in_channels=1,
            out_channels=1,
            num_res_blocks=(2, 2, 2),
            num_channels=CHANNELS,
            attention_levels=(False, False, False),
            latent_channels=4,
            norm_num_groups=32,
            dim_split=1,
            num_splits=1,
        )
    built = built.to_empty(device="cpu").eval()
    generator = torch.Generator().manual_seed(0)
    for module in built.modules():
        if isinstance(module, nn.Conv3d):
            deviation = (1.4 / module.weight[0].numel()) ** 0.5
            drawn = torch.randn(module.weight.shape, generator=generator)
            module.weight.data.copy_(drawn * deviation)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.GroupNorm):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
    return built


@torch.inference_mode()
def run(folder: Path, size: list[int], gib: float, dtype: str, spill_gib: float) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    model, z = network(), latent(CHANNELS, size)
    plan = decode_plan(
        spec(CHANNELS),
        latent_shape(CHANNELS, size),
        int(gib * 2**30),
        dtype="bfloat16" if dtype == "bfloat16" else "float32",
        spill_bytes=int(spill_gib * 2**30),
        streamed=True,
    )
    print(plan.summary, *plan.lines(), sep="\n", flush=True)
    image = np.lib.format.open_memmap(folder / IMAGE, "w+", np.float32, tuple(size))
    part = _Part(folder, plan.peak_bytes)

    def write(sample: int, cut: tuple[int, int], axis: int, slab: Tensor) -> None:
        place = [slice(None)] * 3
        place[axis] = slice(*cut)
        image[tuple(place)] = slab[0, 0].numpy()

    with Growth("cpu") as growth:
        decode(
            model,
            z,
            plan=plan,
            spill_dir=folder,
            sink=write,
            progress=lambda done, total: part.note(done, total, growth),
            statistics=folder / STATISTICS,
        )
    image.flush()
    part.finish(growth, plan.as_dict(), size)


class _Part:
    """Notes the time and memory of this part of the run in FOLDER/result.json, once a minute."""

    def __init__(self, folder: Path, predicted: int) -> None:
        self._path, self._predicted = folder / RESULT, predicted
        self._before = (
            json.loads(self._path.read_text(encoding="utf-8"))["parts"]
            if self._path.exists()
            else []
        )
        self._wall, self._cpu, self._told = time.perf_counter(), time.process_time(), 0.0

    def _row(self, peak: int | None) -> dict[str, float | int | None]:
        return {
            "wall_s": time.perf_counter() - self._wall,
            "cpu_s": time.process_time() - self._cpu,
            "growth_bytes": peak,
        }

    def note(self, done: int, total: int, growth: Growth) -> None:
        if time.perf_counter() - self._told < 60:
            return
        self._told = time.perf_counter()
        row = self._row(growth.peak)
        self._save({"done": done / total, "parts": [*self._before, row]})
        print(f"{done / total:.1%} {row}", file=sys.stderr, flush=True)

    def finish(self, growth: Growth, plan: dict[str, object], size: list[int]) -> None:
        row = self._row(growth.bytes)
        whole = {"done": 1.0, "size": size, "predicted_bytes": self._predicted, "plan": plan}
        self._save({**whole, "parts": [*self._before, row]})

    def _save(self, found: dict[str, object]) -> None:
        self._path.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def cut(folder: Path, target: Path) -> None:
    image = np.load(folder / IMAGE, mmap_mode="r")
    kept = load_file(folder / STATISTICS)
    for name, (i, j, k) in BLOCKS.items():
        block = image[i : i + BLOCK, j : j + BLOCK, k : k + BLOCK]
        kept[name] = torch.from_numpy(np.array(block))
    save_file(kept, target)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", type=int, nargs=3, default=[512, 512, 768])
    parser.add_argument("--gib", type=float, default=8.0, help="the budget")
    parser.add_argument("--spill", type=float, default=0.0, metavar="GIB", help="room on disk")
    parser.add_argument("--dtype", choices=["bfloat16", "float32"], default="bfloat16")
    parser.add_argument("--cut", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    if arguments.cut:
        cut(arguments.folder, arguments.cut)
    else:
        run(arguments.folder, arguments.size, arguments.gib, arguments.dtype, arguments.spill)


if __name__ == "__main__":
    main()
