"""Key for key, shape for shape: our specs against the published files' lists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch import nn

from synthct.models.maisi import networks
from synthct.models.maisi.spec import preset

_KEYS = Path(__file__).resolve().parents[3] / "shared" / "design" / "facts" / "maisi_keys"
_LINE = re.compile(r"^(\S+) \(([\d, ]*)\)$")
_LISTS = {
    ("ct-rflow", "vae"): "keys_rflow_autoencoder_def.txt",
    ("ct-rflow", "unet"): "keys_rflow_diffusion_unet_def.txt",
    ("ct-rflow", "controlnet"): "keys_rflow_controlnet_def.txt",
    ("ct-ddpm", "vae"): "keys_ddpm_autoencoder_def.txt",
    ("ct-ddpm", "unet"): "keys_ddpm_diffusion_unet_def.txt",
    ("ct-ddpm", "controlnet"): "keys_ddpm_controlnet_def.txt",
}
_DECODER_ONLY = {("ct-rflow", "vae")}
"""Lists that leave the encoder out; the same file's other list has it."""


@pytest.mark.parametrize(("name", "role"), _LISTS)
def test_every_published_key_and_shape(name: str, role: str) -> None:
    path = _KEYS / _LISTS[name, role]
    if not path.is_file():
        pytest.skip("the lists of published keys (../shared/design/facts) are not on this machine")
    with torch.device("meta"):
        ours = {k: tuple(v.shape) for k, v in _build(name, role).state_dict().items()}
    published = _read(path)
    listed = {key: shape for key, shape in ours.items() if key in published}
    assert listed == published
    assert len(published) == len(ours) or (name, role) in _DECODER_ONLY


def _read(path: Path) -> dict[str, tuple[int, ...]]:
    matches = [_LINE.match(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return {
        m[1]: tuple(int(n) for n in m[2].split(",") if n.strip()) for m in matches if m is not None
    }


def _build(name: str, role: str) -> nn.Module:
    spec = preset(name)
    if role == "vae":
        return networks.build_autoencoder(spec.autoencoder)
    return networks.build_unet(spec) if role == "unet" else networks.build_controlnet(spec)
