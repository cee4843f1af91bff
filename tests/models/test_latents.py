"""Latents are read only of what the manifest trains on, and only as it is prepared now."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from synthct.errors import InputError
from synthct.models.maisi.latents import encoded_cases, save_encoded
from synthct.volume.manifest import Manifest, Row, write_manifest

VAE = "of the vae"


def _latent(path: Path, source: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    mean = torch.zeros(1, 2, 3, 3, 3)
    meta = {"id": path.stem, "kind": "image", "vae_sha256": VAE, "source_sha256": source}
    save_encoded(path, mean, mean, (3.0, 3.0, 3.0), meta)


def _row(case: str, split: str = "train", image: str = "", pair: str = "") -> Row:
    place = "validation" if split == "validation" else "images"
    return Row(case, case, split, "image", image=f"{place}/{case}.npz" if image else "",
               pair=f"pairs/{case}.npz" if pair else "", image_sha256=image,
               pair_sha256=pair)  # fmt: skip


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    for name in ("a", "a.mirrored", "b", "c"):
        _latent(tmp_path / "latents" / f"{name}.npz", "hash of " + name[0])
    for name in ("a", "b"):
        _latent(tmp_path / "latents/pairs" / f"{name}.npz", "pair of " + name)
    rows = [_row("a", image="hash of a", pair="pair of a"), _row("b", image="hash of b"),
            _row("c", "validation", image="hash of c")]  # fmt: skip
    write_manifest(tmp_path / "manifest.tsv", Manifest(rows))
    return tmp_path


def test_only_training_cases_are_read(dataset: Path) -> None:
    images = encoded_cases(dataset / "latents", VAE)
    assert [case.path.name for case in images] == ["a.mirrored.npz", "a.npz", "b.npz"]
    assert [case.name for case in encoded_cases(dataset / "latents/pairs", VAE)] == ["a"]


@pytest.mark.parametrize("name", ["a", "a.mirrored"])
def test_a_latent_of_an_image_prepared_anew_since_is_refused(dataset: Path, name: str) -> None:
    _latent(dataset / "latents" / f"{name}.npz", "hash of a as it was")
    with pytest.raises(InputError, match="encoded before a was prepared") as error:
        encoded_cases(dataset / "latents", VAE)
    assert "--encode" in error.value.hint
    assert len(encoded_cases(dataset / "latents/pairs", VAE)) == 1


def test_a_folder_without_a_manifest_is_read_whole(dataset: Path) -> None:
    (dataset / "manifest.tsv").unlink()
    assert len(encoded_cases(dataset / "latents", VAE)) == 4
    with pytest.raises(InputError, match="another autoencoder"):
        encoded_cases(dataset / "latents", "of another")
