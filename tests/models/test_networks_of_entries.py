"""The networks of every catalogue entry, and those of the mask generator key for key."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from synthct.checkpoints import catalogue
from synthct.models.networks import networks_of, shapes_of

_KEYS = Path(__file__).resolve().parents[3] / "shared" / "design" / "facts" / "maisi_keys"
_LINE = re.compile(r"^(\S+) \(([\d, ]*)\)$")
_LISTS = {
    ("vae", "keys_ddpm_mask_generation_autoencoder_def.txt"),
    ("unet", "keys_ddpm_mask_generation_diffusion_def.txt"),
    ("vae", "keys_rflow_mask_generation_autoencoder_def.txt"),
    ("unet", "keys_rflow_mask_generation_diffusion_def.txt"),
}


@pytest.mark.parametrize("name", catalogue.names())
def test_every_file_of_an_entry_has_its_network(name: str) -> None:
    entry = catalogue.entry(name)
    assert set(networks_of(entry)) == set(entry.files.by_role())
    assert all(shapes_of(entry).values())


@pytest.mark.parametrize(("role", "file"), sorted(_LISTS))
def test_every_published_key_and_shape_of_the_mask_generator(role: str, file: str) -> None:
    if not (_KEYS / file).is_file():
        pytest.skip("the lists of published keys (../shared/design/facts) are not on this machine")
    matches = [_LINE.match(line) for line in (_KEYS / file).read_text("utf-8").splitlines()]
    published = {
        m[1]: tuple(int(n) for n in m[2].split(",") if n.strip()) for m in matches if m is not None
    }
    assert shapes_of(catalogue.entry("maisi-mask-generator"))[role] == published
