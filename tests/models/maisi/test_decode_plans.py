"""Plans from numbers alone, and what `decode` makes of them."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from synthct.errors import MemoryBudgetError, OutputError, UsageError
from synthct.models.maisi import networks
from synthct.models.maisi.decode import decode
from synthct.models.maisi.encode import encode
from synthct.models.maisi.hu_file import HuFile
from synthct.models.maisi.outline import decoder_outline, encoder_outline
from synthct.models.maisi.plans import decode_minimum, decode_plan, encode_plan
from synthct.models.maisi.spec import PRESETS, AutoencoderSpec, preset
from synthct.models.maisi.translation import decoder_layers, encoder_layers
from synthct.tiling.layers import Layer, Residual
from synthct.volume.intensity import unit_to_hu, unit_to_mr
from tests.reference.autoencoders import autoencoder, relative_l2

SMALL = AutoencoderSpec((8, 16), (1, 1), 4, 4)
GIB = 2**30


def _facts(layers: tuple[Layer, ...]) -> Iterator[tuple[Any, ...]]:
    for layer in layers:
        if isinstance(layer, Residual):
            yield ("residual", *_facts(layer.body), "+", *_facts(layer.shortcut))
        else:
            shape = tuple(getattr(getattr(layer, "weight", None), "shape", ()))
            rest = [getattr(layer, n, None) for n in ("stride", "before", "after", "groups")]
            norm = type(layer).__name__ == "GroupNorm"
            yield (type(layer).__name__, () if norm else shape, *rest)


@pytest.mark.parametrize("name", PRESETS)
def test_the_outline_is_what_monai_builds(name: str) -> None:
    spec = preset(name).autoencoder
    with torch.device("meta"):
        network = networks.build_autoencoder(spec)
    for ours, theirs in (
        (decoder_outline(spec), decoder_layers(network)),
        (encoder_outline(spec), encoder_layers(network)),
    ):
        for got, expected in zip_longest(_facts(ours), _facts(theirs)):
            assert got == expected


def test_planning_needs_no_torch() -> None:
    script = (
        "import sys\n"
        "from synthct.models.maisi.plans import decode_plan\n"
        "from synthct.models.maisi.spec import preset\n"
        "plan = decode_plan(preset('ct-rflow').autoencoder, (64, 64, 32), 2**30)\n"
        "print(plan.summary, plan.lines(), plan.as_dict())\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)


def test_the_published_decoder_fits_a_quarter_of_a_map() -> None:
    """256x256x128 in float32, at most 5 times the work; and no work twice within 1.25 maps."""
    spec, latent = preset("ct-rflow").autoencoder, (64, 64, 32)
    one_map = 4 * 128 * 256 * 256 * 128
    plan = decode_plan(spec, latent, int(0.25 * one_map))
    assert plan.work <= 5
    assert decode_minimum(spec, latent) <= 0.2 * one_map
    assert decode_plan(spec, latent, int(1.25 * one_map)).work == 1
    assert decode_plan(spec, latent, int(0.65 * one_map), dtype="bfloat16").work == 1


def test_the_largest_volume_fits_8_gib() -> None:
    spec = preset("ct-rflow").autoencoder
    plan = decode_plan(spec, (128, 128, 192), 8 * GIB, dtype="bfloat16", streamed=True)
    assert plan.peak_bytes <= 8 * GIB
    assert plan.work <= 5


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_file_on_disk_lowers_the_minimum_and_saves_work(dtype: Any) -> None:
    spec, latent = preset("ct-rflow").autoencoder, (64, 64, 32)
    alone = decode_minimum(spec, latent, dtype=dtype)
    assert decode_minimum(spec, latent, dtype=dtype, spill_bytes=64 * GIB) <= alone
    plan = decode_plan(spec, latent, alone * 2, dtype=dtype, spill_bytes=64 * GIB)
    assert 0 < plan.file_bytes <= 64 * GIB
    assert plan.work < decode_plan(spec, latent, alone * 2, dtype=dtype).work


def test_a_gpu_may_spill_to_its_host() -> None:
    spec, latent = preset("ct-rflow").autoencoder, (128, 128, 128)
    words: dict[str, Any] = {"device": "cuda", "host_bytes": 200 * GIB}
    least = decode_minimum(spec, latent, **words)
    assert least < decode_minimum(spec, latent, device="cuda")
    plan = decode_plan(spec, latent, least, **words)
    assert plan.spills_to_host
    assert plan.host_bytes <= 200 * GIB + plan.result_bytes
    assert plan.file_bytes == 0


def test_decode_follows_a_plan_made_without_weights() -> None:
    network = autoencoder(num_channels=(8, 16))
    latent = torch.randn(1, 4, 5, 12, 7, generator=torch.Generator().manual_seed(1))
    expected = decode(network, latent, slabs=1)
    least = decode_minimum(SMALL, (5, 12, 7))
    for allowed in (None, least, 2 * least):
        plan = decode_plan(SMALL, (5, 12, 7), allowed)
        assert relative_l2(decode(network, latent, plan=plan), expected) <= 3e-6
    coarse = decode_plan(SMALL, (5, 12, 7), dtype="bfloat16")
    assert relative_l2(decode(network, latent, plan=coarse), expected) <= 0.012
    with pytest.raises(UsageError, match="another network"):
        decode(network, latent[:, :, :, :-1], plan=plan)
    with pytest.raises(MemoryBudgetError) as refused:
        decode_plan(SMALL, (5, 12, 7), int(0.9 * least))
    assert refused.value.minimum == least


def test_encode_follows_a_plan_too() -> None:
    network, image = autoencoder(num_channels=(8, 16)), torch.rand(1, 1, 9, 14, 11)
    expected = encode(network, image, slabs=1)
    least = encode_plan(SMALL, (9, 14, 11), 2**30).peak_bytes
    for plan in (encode_plan(SMALL, (9, 14, 11)), encode_plan(SMALL, (9, 14, 11), least)):
        for got, want in zip(encode(network, image, plan=plan), expected, strict=True):
            assert relative_l2(got, want) <= 3e-6


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_volume_can_stream_into_a_file(tmp_path: Path, axis: int) -> None:
    network = autoencoder(num_channels=(8, 16))
    latent = torch.randn(1, 4, 5, 6, 7, generator=torch.Generator().manual_seed(1))
    image = decode(network, latent, axis=axis)
    expected = np.rint(unit_to_hu(image[0, 0].numpy())).astype(np.int16)
    shape, box = (12, 10, 16), (slice(2, 12), slice(0, 10), slice(1, 14))
    with HuFile(tmp_path, shape, box) as volume:
        assert decode(network, latent, axis=axis, slabs=3, sink=volume.write) is None
        held = volume.array
        assert isinstance(held, np.memmap)
        part = expected[:10, :10, :13]
        assert np.abs(held[box].astype(int) - part).max() <= 1
        assert (held[:2] == -1000).all()
        assert (held[:, :, 0] == -1000).all()
        assert (held[:, :, 14:] == -1000).all()
        assert not list(tmp_path.iterdir())  # not even while it is in use
    assert held[2:4].any()  # whoever holds the array still reads it


def test_a_full_disk_is_an_output_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(OutputError, match="No space left"), HuFile(tmp_path, (4, 4, 4)):
        pass
    assert not list(tmp_path.iterdir())


def test_intensities_beyond_int16_are_saturated(tmp_path: Path) -> None:
    with HuFile(tmp_path, (2, 2, 2), air=0.0, to_scanner=unit_to_mr) as volume:
        volume.write(0, (0, 2), 0, torch.full((1, 1, 2, 2, 2), 40.0))
        assert (volume.array == 32767).all()


def test_a_volume_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="midway"), HuFile(tmp_path, (4, 4, 4)):
        raise RuntimeError("midway")
    assert not list(tmp_path.iterdir())
