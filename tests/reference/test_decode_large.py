"""The one whole run of the published decoder at 512x512x768, held to account by two of its blocks.

`decode_large.safetensors` keeps what `benchmarks/decode_large.py` cut out of it: 16x16x16 voxels at
a corner and in the middle, and the statistics of its group norms, which are those of the whole. A
block needs no more than those and the piece of the latent that it can see.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors.torch import load_file

from synthct.models.maisi.translation import decoder_layers
from synthct.tiling.halo import run
from synthct.tiling.statistics import Moments
from tests.tiling.networks import relative_error

HERE = Path(__file__).parent
SIZE = [512, 512, 768]
FACTOR = 4
REACH = 12
"""Latent voxels that an output voxel looks at to each side, and a little more."""


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(HERE.parents[1] / "benchmarks")
    return importlib.import_module("decode_large")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["corner", "middle"])
def test_a_block_of_the_large_run_is_what_float32_makes_of_its_piece(
    benchmark: ModuleType, name: str
) -> None:
    kept = load_file(HERE / "decode_large.safetensors")
    latent = benchmark.latent(benchmark.CHANNELS, SIZE)
    got = block_again(benchmark, latent, kept, name)
    assert relative_error(got, kept[name]) <= 0.012  # the run was in bfloat16
    piece_alone = block_again(benchmark, latent, {}, name)
    assert relative_error(piece_alone, kept[name]) > 0.012  # so the statistics do matter


def block_again(
    benchmark: ModuleType, latent: torch.Tensor, kept: dict[str, torch.Tensor], name: str
) -> torch.Tensor:
    """The block `name` from what it sees of the latent, in float32, (i, j, k)."""
    first = benchmark.BLOCKS[name]
    starts = [max(0, f // FACTOR - REACH) for f in first]
    stops = [(f + benchmark.BLOCK) // FACTOR + REACH for f in first]
    where = tuple(slice(a, b) for a, b in zip(starts, stops, strict=True))
    known = {
        int(key.removeprefix("boundary.")): Moments.unpacked([packed])
        for key, packed in kept.items()
        if key.startswith("boundary.")
    }
    piece = latent[(slice(None), slice(None), *where)].contiguous()
    with torch.inference_mode():
        image = run(decoder_layers(benchmark.network()), piece, statistics=known)
    assert image is not None
    inside = [f - a * FACTOR for f, a in zip(first, starts, strict=True)]
    i, j, k = (slice(f, f + benchmark.BLOCK) for f in inside)
    return image[0, 0, i, j, k]
