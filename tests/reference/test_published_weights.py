"""Full-size random checkpoints in each published layout: imported, loaded, and held against MONAI.

The reference is built here from MONAI's own networks with the published numbers, and loaded the way
the publication loads. Minutes and gigabytes: marked slow, once per model.
"""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.apps.generation.maisi.networks.autoencoderkl_maisi import AutoencoderKlMaisi
from monai.apps.generation.maisi.networks.controlnet_maisi import ControlNetMaisi
from monai.apps.generation.maisi.networks.diffusion_model_unet_maisi import DiffusionModelUNetMaisi
from monai.networks.blocks import CrossAttentionBlock, SABlock
from monai.networks.nets.diffusion_model_unet import DiffusionModelUNet
from monai.networks.utils import copy_model_state
from torch import Tensor, nn

from synthct.checkpoints import catalogue, store
from synthct.checkpoints.load import load_into
from synthct.models.networks import networks_of
from synthct.workflows.weights_import import import_weights
from tests.checkpoints.published import random_networks, write_published

pytestmark = pytest.mark.slow

_COMMON: dict[str, Any] = {
    "spatial_dims": 3,
    "in_channels": 4,
    "num_channels": (64, 128, 256, 512),
    "attention_levels": (False, False, True, True),
    "num_head_channels": (0, 0, 32, 32),
    "num_res_blocks": 2,
}
_VERSIONS: dict[str, dict[str, Any]] = {
    "ddpm": {"include_fc": False, "resblock_updown": False},
    "rflow": {"include_fc": True, "resblock_updown": True, "num_class_embeds": 128},
}


def _monai(name: str) -> dict[str, nn.Module]:
    """MONAI's networks with the numbers of the published configuration."""
    version = "ddpm" if name == "maisi-ct-ddpm" else "rflow"
    regions = version == "ddpm"
    autoencoder = AutoencoderKlMaisi(
        spatial_dims=3,
        in_channels=1,
        out_channels=1,
        latent_channels=4,
        num_channels=(64, 128, 256),
        num_res_blocks=(2, 2, 2),
        norm_num_groups=32,
        norm_eps=1e-6,
        attention_levels=(False, False, False),
        with_encoder_nonlocal_attn=False,
        with_decoder_nonlocal_attn=False,
        norm_float16=False,
        num_splits=1,
        dim_split=1,
    )
    unet = DiffusionModelUNetMaisi(
        **_COMMON,
        **_VERSIONS[version],
        out_channels=4,
        include_top_region_index_input=regions,
        include_bottom_region_index_input=regions,
        include_spacing_input=True,
    )
    found: dict[str, nn.Module] = {"vae": autoencoder, "unet": unet}
    if "controlnet" in catalogue.entry(name).files.by_role():
        found["controlnet"] = ControlNetMaisi(
            **_COMMON,
            **_VERSIONS[version],
            conditioning_embedding_in_channels=8,
            conditioning_embedding_num_channels=(8, 32, 64),
        )
    for network in found.values():
        _use_fused_attention(network)
    return {role: network.eval() for role, network in found.items()}


def _use_fused_attention(network: nn.Module) -> None:
    """MONAI's own flag: its constructor refuses it without CUDA, its blocks do not."""
    for block in network.modules():
        if isinstance(block, SABlock | CrossAttentionBlock):
            block.use_flash_attention = True


def _load_as_published(name: str, folder: Path) -> dict[str, nn.Module]:
    files = {
        role: torch.load(folder / file.name, weights_only=False, mmap=True)
        for role, file in catalogue.entry(name).hub.items()
    }
    built = _monai(name)
    built["vae"].load_state_dict(files["vae"])
    built["unet"].load_state_dict(files["unet"]["unet_state_dict"])
    if "controlnet" in built:
        copy_model_state(built["controlnet"], built["unet"].state_dict())
        state = files["controlnet"]["controlnet_state_dict"]
        built["controlnet"].load_state_dict(state, strict=False)
    return built


@torch.no_grad()
def _forward(name: str, built: dict[str, nn.Module]) -> list[Tensor]:
    torch.manual_seed(5)
    entry = catalogue.entry(name)
    latent, time_now = torch.randn(1, 4, 8, 8, 8), torch.tensor([300.0])
    told: dict[str, Any] = {"spacing_tensor": torch.tensor([[150.0, 150.0, 200.0]])}
    classes = {} if entry.conditions.region else {"class_labels": torch.tensor([1])}
    if entry.conditions.region:
        told["top_region_index_tensor"] = torch.tensor([[0.0, 100.0, 0.0, 0.0]])
        told["bottom_region_index_tensor"] = torch.tensor([[0.0, 0.0, 100.0, 0.0]])
    outputs: list[Tensor] = []
    if "controlnet" in built:
        condition = torch.randint(0, 2, (1, 8, 32, 32, 32)).float()
        down, middle = built["controlnet"](latent, time_now, condition, **classes)
        outputs = [*down, middle]
        told["down_block_additional_residuals"] = tuple(d.clone() for d in down)
        told["mid_block_additional_residual"] = middle.clone()
    noise = built["unet"](latent, time_now, **told, **classes)
    image = built["vae"].decode(latent[..., :4, :4, :4])  # type: ignore[operator]
    return [*outputs, noise, image]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("SYNTHCT_HOME", str(tmp_path / "home"))
    yield tmp_path
    gc.collect()


def _anonymous_bytes() -> int:
    """Memory that is the process's own: mapped files do not count."""
    with open("/proc/self/status", encoding="ascii") as file:
        line = next(line for line in file if line.startswith("RssAnon"))
    return int(line.split()[1]) * 1024


@contextmanager
def _growth() -> Iterator[Callable[[], int]]:
    """How far the process grows while the block runs."""
    gc.collect()
    start, peak, running = _anonymous_bytes(), [0], [True]

    def watch() -> None:
        while running[0]:
            peak[0] = max(peak[0], _anonymous_bytes() - start)
            time.sleep(0.005)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    yield lambda: peak[0]
    running[0] = False
    watcher.join()


@pytest.mark.parametrize("name", ["maisi-ct-rflow", "maisi-ct-ddpm", "maisi-mr-brain-rflow"])
def test_a_published_model_computes_what_monai_computes(name: str, home: Path) -> None:
    entry = catalogue.entry(name)
    older = name == "maisi-ct-ddpm"
    folder = write_published(home / "models", entry, random_networks(entry), older=older)
    gc.collect()
    with _growth() as grown:
        result = import_weights(folder, "mine", model=name)
    own = catalogue.entry("mine")
    files = store.verify(own).files
    largest = max(path.stat().st_size for path in files.values())
    assert grown() < 1.2 * largest + (64 << 20), "importing holds one copy of a file"
    assert result["missing"] == []
    built = networks_of(own)
    with _growth() as grown:
        unet = load_into(built["unet"], files["unet"])
    assert grown() < 1.1 * files["unet"].stat().st_size + (64 << 20), "loading holds one copy"
    ours = {role: load_into(built[role], path) for role, path in files.items() if role != "unet"}
    mine = _forward(name, {**ours, "unet": unet})
    del ours, unet
    if older:  # today's names under the published files, for MONAI to load
        write_published(folder, entry, random_networks(entry))
    theirs = _forward(name, _load_as_published(name, folder))
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
        assert a.abs().max() > 0


def test_the_mask_generator_computes_what_monai_computes(home: Path) -> None:
    """With GenerativeModels' names, which MONAI translates itself for this network."""
    name = "maisi-mask-generator"
    entry = catalogue.entry(name)
    folder = write_published(home / "models", entry, random_networks(entry), older=True)
    result = import_weights(folder, name)
    assert result["files"]["unet"]["renamed"] > 0
    ours = load_into(networks_of(entry)["unet"], store.verify(entry).files["unet"])
    theirs = DiffusionModelUNet(
        spatial_dims=3,
        in_channels=4,
        out_channels=4,
        channels=(64, 128, 256, 512),
        attention_levels=(False, False, True, True),
        num_head_channels=(0, 0, 32, 32),
        num_res_blocks=2,
        with_conditioning=True,
        upcast_attention=True,
        cross_attention_dim=10,
    ).eval()
    _use_fused_attention(theirs)
    old = torch.load(folder / entry.hub["unet"].name, weights_only=False, mmap=True)
    theirs.load_old_state_dict(dict(old["unet_state_dict"]))
    torch.manual_seed(5)
    latent, time_now = torch.randn(1, 4, 8, 8, 8), torch.tensor([300.0])
    sizes = torch.rand(1, 1, 10)
    with torch.no_grad():
        a = ours(latent, time_now, context=sizes)
        b = theirs(latent, time_now, context=sizes)
    torch.testing.assert_close(a, b, rtol=0, atol=0)
    assert a.abs().max() > 0
