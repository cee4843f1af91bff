"""The three stages, one after another, on made-up scans: weights that `generate` loads come out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from synthct.checkpoints.load import load_into, read_metadata, read_tensors
from synthct.errors import InputError, MissingWeights, UsageError
from synthct.models.maisi import networks
from synthct.models.maisi.spec import preset
from synthct.training.task import Recipe
from synthct.workflows.train import train, with_settings

STAGES = ("maisi-vae", "maisi-diffusion", "maisi-controlnet")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two cases in the layout of `synthct prepare`: a scan, and a phantom with its tissues."""
    folder = tmp_path_factory.mktemp("prepared")
    rng = np.random.default_rng(0)
    labels = np.zeros((20, 18, 16), dtype=np.uint8)
    labels[3:17, 3:15, :] = 200
    labels[6:12, 5:12, 4:12] = 1
    image = np.where(labels == 0, -1000, 40 + rng.integers(-20, 20, labels.shape)).astype(np.int16)
    spacing = np.array([4.0, 4.0, 4.0], dtype=np.float32)
    tissues = (labels == 200).astype(np.uint8)
    for name in ("images", "pairs"):
        (folder / name).mkdir()
    body = labels > 0
    np.savez(folder / "images" / "a.npz", image=image, body=body, spacing_mm=spacing)
    for name, more in (("a", {}), ("b", {"tissues": tissues})):
        meta = json.dumps({"kind": "phantom" if more else "real"})
        np.savez(
            folder / "pairs" / f"{name}.npz",
            image=image,
            labels=labels,
            spacing_mm=spacing,
            meta=np.array(meta),
            **more,
        )
    return folder


@pytest.fixture(scope="module")
def trained(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    for task in STAGES:
        train(task, data_folder=prepared, output=folder, recipe_name="tiny")
    return folder


def test_each_stage_leaves_weights_that_load(trained: Path) -> None:
    spec = preset("tiny")
    load_into(lambda: networks.build_autoencoder(spec.autoencoder), trained / "vae.safetensors")
    load_into(lambda: networks.build_unet(spec), trained / "unet.safetensors")
    load_into(lambda: networks.build_controlnet(spec), trained / "controlnet.safetensors")
    assert float(read_metadata(trained / "unet.safetensors")["scale_factor"]) > 0
    assert read_metadata(trained / "vae.safetensors")["task"] == "maisi-vae"


def test_weights_are_stored_as_float16(trained: Path) -> None:
    tensors = read_tensors(trained / "controlnet.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float16}


def test_the_controlnet_learns_beside_the_unet(trained: Path) -> None:
    """Joint training: MONAI's in-place sums must not break the backward pass."""
    out = read_tensors(trained / "controlnet.safetensors")["controlnet_mid_block.conv.weight"]
    assert out.abs().sum() > 0  # a zero convolution when it began


def test_the_controlnet_stage_goes_on_from_its_own_weights(
    trained: Path, prepared: Path, tmp_path: Path
) -> None:
    """With a rate of nothing it ends where it began: at the weights, not at a fresh copy."""
    train(
        "maisi-controlnet",
        data_folder=prepared,
        output=tmp_path,
        recipe_name="tiny",
        start=trained,
        settings={"learning_rate": "0", "steps": "1"},
    )
    before = read_tensors(trained / "controlnet.safetensors")
    after = read_tensors(tmp_path / "controlnet.safetensors")
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_a_stage_without_the_one_before(prepared: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingWeights, match="the one before"):
        train("maisi-diffusion", data_folder=prepared, output=tmp_path, recipe_name="tiny")


def test_words_that_do_not_exist(prepared: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no recipe"):
        train("maisi-vae", data_folder=prepared, output=tmp_path, recipe_name="huge")
    with pytest.raises(UsageError, match="no training task"):
        train("maisi-what", data_folder=prepared, output=tmp_path)
    with pytest.raises(InputError, match="no prepared cases"):
        train("maisi-vae", data_folder=tmp_path, output=tmp_path, recipe_name="tiny")


def test_settings_are_read_as_their_types() -> None:
    recipe = Recipe(steps=10, learning_rate=1.0)
    changed = with_settings(recipe, {"steps": "5", "bfloat16": "false", "ema_decay": "0.5"})
    assert (changed.steps, changed.bfloat16, changed.ema_decay) == (5, False, 0.5)
    with pytest.raises(UsageError, match="int expected"):
        with_settings(recipe, {"steps": "many"})
    with pytest.raises(UsageError, match="no setting"):
        with_settings(recipe, {"stpes": "5"})
