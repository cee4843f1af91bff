"""Slab by slab against MONAI's own autoencoder run at once."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from synthct.errors import MemoryBudgetError, UsageError
from synthct.models.maisi.decode import decode
from synthct.models.maisi.encode import encode
from synthct.models.maisi.translation import decoder_layers, translate
from synthct.tiling import budget
from synthct.tiling.halo import run
from synthct.tiling.layers import UnknownLayer
from tests.reference.autoencoders import autoencoder, relative_l2

EXACT = 3e-6

CONFIGS: dict[str, dict[str, object]] = {
    "two levels": {"num_res_blocks": (1, 2)},
    "three levels": {"num_channels": (8, 16, 24), "num_res_blocks": (1, 1, 2)},
    "one level": {"num_channels": (8,)},
    "transposed": {"use_convtranspose": True},
    "attention": {
        "attention_levels": (False, True),
        "with_encoder_nonlocal_attn": True,
        "with_decoder_nonlocal_attn": True,
        "include_fc": True,
    },
    "wide": {"num_channels": (16, 64), "norm_num_groups": 16},
    "narrowing": {"num_channels": (24, 8), "norm_num_groups": 8},
    "split by MONAI's own rule elsewhere": {"num_splits": 4, "dim_split": 1},
}


def _unsplit(config: dict[str, object]) -> dict[str, object]:
    return {**config, "num_splits": 1}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
@settings(max_examples=8, deadline=None)
@given(
    size=st.tuples(*(st.integers(1, 9) for _ in range(3))),
    slabs=st.integers(1, 40),
    axis=st.integers(0, 2),
)
def test_decode_equals_monai(
    config: dict[str, object], size: tuple[int, int, int], slabs: int, axis: int
) -> None:
    latent = torch.randn(1, 4, *size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = autoencoder(**_unsplit(config)).decode(latent)
    got = decode(autoencoder(**config), latent, slabs=slabs, axis=axis)
    assert relative_l2(got, expected) <= _allowed(config, latent, expected)


def _allowed(config: dict[str, object], latent: torch.Tensor, expected: torch.Tensor) -> float:
    """3e-6, or 2.5 times MONAI's own distance from float64 where that is more.

    On a handful of voxels a group's variance may nearly vanish, and rounding is magnified. Two
    float32 results as good as each other are up to twice that distance apart.
    """
    exact = decode(
        autoencoder(**_unsplit(config)).double(), latent.double(), dtype=torch.float64, slabs=1
    )
    return max(EXACT, 2.5 * relative_l2(expected, exact))


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
@settings(max_examples=6, deadline=None)
@given(
    size=st.tuples(*(st.integers(4, 21) for _ in range(3))),
    slabs=st.integers(1, 30),
    axis=st.integers(0, 2),
)
def test_encode_equals_monai(
    config: dict[str, object], size: tuple[int, int, int], slabs: int, axis: int
) -> None:
    image = torch.rand(1, 1, *size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = autoencoder(**_unsplit(config)).encode(image)
    twin = autoencoder(**_unsplit(config)).double()
    exact = encode(twin, image.double(), dtype=torch.float64, slabs=1)
    got = encode(autoencoder(**config), image, slabs=slabs, axis=axis)
    for ours, monai, true in zip(got, expected, exact, strict=True):
        assert relative_l2(ours, monai) <= max(EXACT, 2.5 * relative_l2(monai, true))


def test_float64_leaves_no_doubt_about_the_formula() -> None:
    """Against group norm and convolution in float64 from torch, by MONAI's modules in float64."""
    network = copy.deepcopy(autoencoder(num_channels=(8, 16, 24))).double()
    for module in network.modules():  # MONAI's group norm always computes in float32
        if isinstance(module, nn.GroupNorm):
            module.__class__ = nn.GroupNorm
    latent = torch.randn(1, 4, 5, 7, 3, dtype=torch.float64)
    with torch.no_grad():
        expected = network.decode(latent)
    plain = autoencoder(num_channels=(8, 16, 24)).double()
    for slabs, axis in ((1, 0), (3, 1), (7, 2), (12, 0)):
        got = decode(plain, latent, slabs=slabs, axis=axis, dtype=torch.float64)
        assert relative_l2(got, expected) < 1e-12


@pytest.mark.parametrize("slabs", [2, 3, 8])
def test_the_published_widths(slabs: int) -> None:
    """64, 128, 256 channels: sums of up to 6912 products, where float32 shows its limits."""
    network = autoencoder(num_channels=(64, 128, 256), norm_num_groups=32)
    latent = torch.randn(1, 4, 3, 5, 2, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = network.decode(latent)
    assert relative_l2(decode(network, latent, slabs=slabs), expected) <= EXACT


def test_without_halo_the_reference_is_missed() -> None:
    network = autoencoder()
    latent = torch.randn(1, 4, 6, 6, 6, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = network.decode(latent)
    got = run(
        decoder_layers(network),
        latent,
        planner=lambda s, b: budget.by_count(s, 3, b),
        halo_limit=0,
    )
    assert relative_l2(got, expected) > 1e-3


def test_bfloat16_storage_stays_close() -> None:
    network = autoencoder(num_channels=(16, 32))
    latent = torch.randn(1, 4, 8, 7, 6, generator=torch.Generator().manual_seed(1))
    got = decode(network, latent, dtype=torch.bfloat16, slabs=5)
    assert got.dtype == torch.float32
    assert relative_l2(got, decode(network, latent)) <= 0.012


@pytest.mark.parametrize("ways", [{"slab_planes": 3}, {"budget": 64 * 2**20}, {}])
def test_every_way_of_cutting_agrees(ways: dict[str, int]) -> None:
    network = autoencoder()
    latent = torch.randn(2, 4, 5, 6, 11, generator=torch.Generator().manual_seed(1))
    assert relative_l2(decode(network, latent, **ways), decode(network, latent, slabs=1)) <= EXACT


def test_arguments_that_make_no_sense_are_refused() -> None:
    network, latent = autoencoder(), torch.randn(1, 4, 3, 3, 3)
    with pytest.raises(UsageError, match="at most one"):
        decode(network, latent, slabs=2, budget=2**30)
    with pytest.raises(UsageError, match="at most one"):
        decode(network, latent, slabs=0)
    with pytest.raises(UsageError, match="axes"):
        decode(network, latent, axis=3)
    with pytest.raises(MemoryBudgetError, match="at least"):
        decode(network, latent, budget=1000)


def test_nothing_in_the_network_is_changed() -> None:
    network = autoencoder()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    decode(network, torch.randn(1, 4, 3, 3, 3))
    encode(network, torch.rand(1, 1, 8, 8, 8))
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_an_unknown_module_or_subclass_is_an_error() -> None:
    class Sharper(nn.Conv3d):
        """Computes who knows what."""

    for module in (nn.MaxPool3d(2), nn.Dropout(), Sharper(4, 4, 3)):
        with pytest.raises(UnknownLayer):
            translate(module)
    network = autoencoder()
    network.decoder.blocks[1].conv1 = nn.MaxPool3d(3)
    with pytest.raises(UnknownLayer, match="MaxPool3d"):
        decode(network, torch.randn(1, 4, 3, 3, 3))
    network.decoder = nn.Identity()
    with pytest.raises(UnknownLayer, match="Identity"):
        decode(network, torch.randn(1, 4, 3, 3, 3))


_GROWTH = """
import sys, torch
sys.path.insert(0, {folder!r})
from tests.reference.autoencoders import autoencoder
from synthct.models.maisi.decode import decode

def resident(field):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(field))

torch.set_num_threads(1)
network = autoencoder(num_channels=(32, 64), norm_num_groups=16, num_splits=4, dim_split=1)
run = network.decode if {who!r} == "monai" else lambda latent: decode(network, latent)
with torch.inference_mode():
    run(torch.randn(1, 4, 8, 16, 8))
    latent = torch.randn(1, 4, 40, 48, 40)
    with open("/proc/self/clear_refs", "w") as peak:
        peak.write("5")
    before = resident("VmRSS")
    run(latent)
print(resident("VmHWM") - before)
"""


def _growth_kib(who: str) -> int:
    script = _GROWTH.format(folder=str(Path(__file__).resolve().parents[2]), who=who)
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True, encoding="utf-8"
    )
    return int(done.stdout.split()[-1])


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="peak memory is read from /proc")
def test_memory_is_far_below_monai_with_four_splits() -> None:
    """Both at 80x96x80 in fresh processes: MONAI keeps nearly 4 maps, we one and some slabs."""
    ours, monai = _growth_kib("synthct"), _growth_kib("monai")
    one_map = 64 * 80 * 96 * 80 * 4 // 1024
    assert ours <= 0.5 * monai
    assert ours <= 1.7 * one_map
