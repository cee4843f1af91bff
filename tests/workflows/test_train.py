"""The three stages, one after another, on made-up scans: weights that `generate` loads come out."""

from __future__ import annotations

import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from synthct.checkpoints.load import load_into, read_metadata, read_tensors, write_tensors
from synthct.cli.main import main
from synthct.errors import InputError, MissingWeights, UsageError
from synthct.models.headers import skips
from synthct.models.maisi import networks
from synthct.models.maisi.latents import EncodedCase
from synthct.models.maisi.recipes import NAMES, recipe
from synthct.models.maisi.spec import PRESETS, preset
from synthct.models.maisi.vae_task import VaeTask
from synthct.record import sha256_of
from synthct.training.task import Recipe
from synthct.volume.manifest import Manifest, Row, write_manifest
from synthct.workflows.encoding import EncodeRequest, encode_dataset
from synthct.workflows.train import train, with_settings
from synthct.workflows.training_stages import build_stage
from tests.workflows.prepared_data import write_prepared

STAGES = ("maisi-vae", "maisi-diffusion", "maisi-controlnet")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_prepared(tmp_path_factory.mktemp("prepared"))


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
    assert skips(read_metadata(trained / "unet.safetensors"))


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
    for name in ("steps", "sync_every", "save_every"):
        with pytest.raises(UsageError, match=f"{name}=0: 1 or more"):
            with_settings(recipe, {name: "0"})


@pytest.mark.parametrize("trainable", ["controlnet", "biases-norms"])
def test_few_parameters_move_and_the_others_stay(
    trained: Path, prepared: Path, tmp_path: Path, trainable: str
) -> None:
    train(
        "maisi-controlnet",
        data_folder=prepared,
        output=tmp_path,
        recipe_name="tiny",
        start=trained,
        # a step without the mask would have nothing to move where the ControlNet alone learns
        settings={
            "trainable": trainable,
            "learning_rate": "0.01",
            "blind_share": "0.9" if trainable == "controlnet" else "0",
        },
    )
    assert (tmp_path / "vae.safetensors").read_bytes() == (trained / "vae.safetensors").read_bytes()
    for role in ("unet", "controlnet"):
        before = read_tensors(trained / f"{role}.safetensors")
        after = read_tensors(tmp_path / f"{role}.safetensors")
        moved = {key for key in before if not torch.equal(before[key], after[key])}
        if trainable == "controlnet":
            assert bool(moved) == (role == "controlnet")
        else:
            assert moved and all(before[key].dim() == 1 for key in moved)


def test_a_unet_goes_on_from_the_one_it_is_given(
    trained: Path, prepared: Path, tmp_path: Path
) -> None:
    """A rate of nearly nothing leaves the weights, and their scale factor, as they were."""
    settings = {"learning_rate": "1e-12", "steps": "2"}
    train(
        "maisi-diffusion",
        data_folder=prepared,
        output=tmp_path,
        recipe_name="tiny",
        start=trained,
        settings=settings,
    )
    before, after = (read_tensors(one / "unet.safetensors") for one in (trained, tmp_path))
    assert all(torch.equal(before[key], after[key]) for key in before)
    stated = [
        read_metadata(one / "unet.safetensors")["scale_factor"] for one in (trained, tmp_path)
    ]
    assert stated[0] == stated[1]
    assert (tmp_path / "vae.safetensors").is_file() and not list(tmp_path.glob("controlnet*"))


@pytest.mark.parametrize("task", STAGES[1:])
def test_who_goes_on_from_a_unet_goes_on_with_what_it_gives(
    task: str, trained: Path, prepared: Path, tmp_path: Path
) -> None:
    """One that says nothing of a skip gives all of the velocity, whatever the recipe says."""
    before = tmp_path / "before"
    shutil.copytree(trained, before, ignore=shutil.ignore_patterns("maisi-*"))
    path = before / "unet.safetensors"
    stated = {key: value for key, value in read_metadata(path).items() if key != "skip"}
    write_tensors(path, read_tensors(path), stated, overwrite=True)
    for start in (before, trained):
        stage = build_stage(task, recipe(task, "tiny"), prepared, start, tmp_path)
        assert stage.spec.skip == (start == trained)


def test_a_run_goes_on_with_the_skip_that_it_began_with(
    trained: Path, prepared: Path, tmp_path: Path
) -> None:
    shutil.copy(trained / "vae.safetensors", tmp_path)
    how = {"data_folder": prepared, "output": tmp_path, "recipe_name": "tiny"}
    train("maisi-diffusion", settings={"skip": "false", "steps": "1"}, **how)  # type: ignore[arg-type]
    before = (tmp_path / "unet.safetensors").read_bytes()
    with pytest.raises(UsageError, match="begun with skip=false, not with true"):
        train("maisi-diffusion", resume=True, **how)  # type: ignore[arg-type]
    assert (tmp_path / "unet.safetensors").read_bytes() == before
    train("maisi-diffusion", resume=True, settings={"skip": "false", "steps": "2"}, **how)  # type: ignore[arg-type]
    assert not skips(read_metadata(tmp_path / "unet.safetensors"))


def test_networks_that_learn_the_noise_have_no_skip(
    trained: Path, prepared: Path, tmp_path: Path
) -> None:
    """`--set preset=ct-ddpm` alone is enough."""
    tiny = recipe("maisi-diffusion", "tiny")
    assert tiny.latent.skip
    of_noise = replace(preset("tiny"), sampler="ddpm")
    shutil.copy(trained / "vae.safetensors", tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, "tiny", of_noise)
        assert not build_stage("maisi-diffusion", tiny, prepared, None, tmp_path).spec.skip


@pytest.mark.parametrize("task", STAGES)
def test_every_stage_judges_itself_on_unseen_scans(
    trained: Path, prepared: Path, tmp_path: Path, task: str
) -> None:
    """Figures and a picture at every look, with a label map or without; refused without a scan."""
    data = tmp_path / "data"
    shutil.copytree(prepared, data)
    asked = {"validate_every": "2", "steps": "4"}

    def look(output: str) -> Path:
        train(
            task,
            data_folder=data,
            output=tmp_path / output,
            recipe_name="tiny",
            start=trained,
            settings=asked,
        )
        return tmp_path / output / task

    with pytest.raises(InputError, match="validation is empty"):
        look("none")
    (data / "validation").mkdir()
    shutil.copy(data / "images" / "a.npz", data / "validation" / "a.npz")
    shutil.copy(data / "pairs" / "a.npz", data / "validation" / "b.npz")
    folder = look("run")
    rows = (folder / "validation.csv").read_text(encoding="utf-8").splitlines()
    names = rows[0].split(",")
    assert len(rows) == 3 and names[1] == ("l1" if task == "maisi-vae" else "error")
    assert all(np.isfinite([float(value) for value in row.split(",")]).all() for row in rows[1:])
    assert len(list((folder / "pictures").glob("*.png"))) == 2


def test_phantoms_alone_are_enough(trained: Path, prepared: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(prepared, data)
    (data / "pairs" / "a.npz").unlink()
    train(
        "maisi-diffusion",
        data_folder=data,
        output=tmp_path / "run",
        recipe_name="tiny",
        start=trained,
        settings={"phantom_share": "0"},
    )
    assert (tmp_path / "run" / "unet.safetensors").is_file()


def test_a_structure_of_one_s_own_is_learnt(trained: Path, prepared: Path, tmp_path: Path) -> None:
    """Its id is one of the free ones: the mask encoder, and nothing of the U-Net, hears of it."""
    data = tmp_path / "data"
    shutil.copytree(prepared, data)
    stored = dict(np.load(data / "pairs" / "a.npz"))
    stored["labels"][stored["labels"] == 1] = 129
    np.savez(data / "pairs" / "a.npz", **stored)
    (data / "pairs" / "b.npz").unlink()
    train(
        "maisi-controlnet",
        data_folder=data,
        output=tmp_path / "own",
        recipe_name="tiny",
        start=trained,
        settings={"trainable": "controlnet", "learning_rate": "0.01"},
    )
    name = "controlnet.safetensors"
    before, after = (read_tensors(one / name) for one in (trained, tmp_path / "own"))
    first = next(key for key in before if key.endswith("conv_in.conv.weight") and "cond" in key)
    assert not torch.equal(before[first], after[first])


def test_settings_reach_every_part_of_a_recipe() -> None:
    changed = with_settings(
        recipe("maisi-vae", "small"),
        {"adversarial": "0.2", "size_factors": "1,2", "spacing_range_mm": "1,3", "steps": "7",
         "gibbs": "0.5", "contrast_margin": "1", "sides": "64,64,32"},
    )  # fmt: skip
    assert changed.crops.sides == (64, 64, 32)
    assert changed.vae.adversarial == 0.2
    assert changed.crops.size_factors == (1.0, 2.0)
    assert changed.crops.spacing_range_mm == (1.0, 3.0)
    assert (changed.loop.steps, changed.augment.gibbs) == (7, 0.5)
    assert changed.latent.contrast_margin == 1
    with pytest.raises(UsageError, match="2 values expected"):
        with_settings(changed, {"spacing_range_mm": "1,2,3"})


@pytest.mark.parametrize("name", NAMES)
def test_every_recipe_states_its_cost_and_its_score(name: str) -> None:
    found = 0
    for task in STAGES:
        try:
            chosen = recipe(task, name)
        except UsageError:
            continue
        found += 1
        preset(chosen.preset)
        assert chosen.loop.cost and chosen.loop.score
    assert found >= (1 if name.endswith("-decoder") else 2)


def test_epochs_become_steps(prepared: Path, tmp_path: Path) -> None:
    """One scan and one phantom: three epochs at two batches a step."""
    done = train(
        "maisi-vae",
        data_folder=prepared,
        output=tmp_path,
        recipe_name="tiny",
        settings={"epochs": "3", "accumulate": "2"},
    )
    assert done.steps == 3
    assert read_metadata(tmp_path / "vae.safetensors")["steps"] == "3"


def test_judging_by_an_empty_fold_is_refused(prepared: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is empty"):
        train(
            "maisi-vae",
            data_folder=prepared,
            output=tmp_path,
            recipe_name="tiny",
            settings={"validate_every": "2"},
        )


def test_a_run_ended_by_a_signal_is_exit_130(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGTERM in the second step: a checkpoint, no weights; the resumed run has both."""
    plain = VaeTask.loss

    def signalled(self: VaeTask, batch: torch.Tensor, step: int) -> object:
        if step == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return plain(self, batch, step)

    words = ["train", "maisi-vae", "--recipe", "tiny", "--data", str(prepared), "-q"]
    words += ["-o", str(tmp_path)]
    monkeypatch.setattr(VaeTask, "loss", signalled)
    assert main(words) == 130
    assert (tmp_path / "maisi-vae/checkpoint.pt").is_file()
    assert not (tmp_path / "vae.safetensors").exists()
    monkeypatch.setattr(VaeTask, "loss", plain)
    assert main([*words, "--resume"]) == 0
    assert (tmp_path / "vae.safetensors").is_file()


def test_encoded_pairs_carry_labels_and_train(
    trained: Path, prepared: Path, tmp_path: Path
) -> None:
    """Whole pairs through the tiled engine: the same voxels as here, and a stage that uses them."""
    rows = []
    for name in ("a", "b"):
        path = prepared / "pairs" / f"{name}.npz"
        rows.append(Row(name, name, "train", "real", pair=f"pairs/{name}.npz",
                        pair_sha256=sha256_of(path)))  # fmt: skip
    write_manifest(prepared / "manifest.tsv", Manifest(rows))
    wish = EncodeRequest(prepared, trained, max_memory_bytes=2**29)
    assert encode_dataset(wish).made == 2
    case = EncodedCase(prepared / "latents/pairs/a.npz")
    with np.load(prepared / "pairs/a.npz") as pair:
        inside = pair["labels"][3:17, 3:15, :]
    assert case.labels is not None
    assert np.array_equal(case.labels[:14, :12, :16], inside)
    assert case.mean.shape[2:] == tuple(n // 2 for n in case.labels.shape)
    done = train(
        "maisi-controlnet",
        data_folder=prepared,
        output=tmp_path,
        recipe_name="tiny",
        start=trained,
        settings={"encoded": "true", "checkpointing": "true", "contrast": "0.1"},
    )
    assert done.notes == ("pairs: 2 encoded whole",)
