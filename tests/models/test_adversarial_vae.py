"""Adversarial training of the autoencoder: what moves, what stays; it resumes bit-equal."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from synthct.checkpoints.load import read_tensors
from synthct.errors import TrainingError, UsageError
from synthct.models.maisi.spec import preset
from synthct.models.maisi.vae_loss import VaeLoss
from synthct.models.maisi.vae_task import VaeTask
from synthct.training.loop import fit
from synthct.training.task import Recipe
from synthct.workflows.train import train

LOSS = VaeLoss(adversarial=0.1, perceptual=0.3, kl_controlled=True, critic_channels=4)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared")
    rng = np.random.default_rng(0)
    body = np.ones((24, 24, 24), np.uint8)
    image = rng.integers(-200, 300, body.shape).astype(np.int16)
    (folder / "images").mkdir()
    spacing = np.array([3, 3, 3], np.float32)
    np.savez(folder / "images" / "a.npz", image=image, body=body, spacing_mm=spacing)
    return folder


def _task(prepared: Path, loss: VaeLoss = LOSS) -> VaeTask:
    spec = preset("tiny")
    return VaeTask(spec, prepared / "images", voxels=24**3, loss_weights=loss, bfloat16=False)


def _recipe(steps: int, **more: object) -> Recipe:
    return Recipe(
        steps=steps,
        learning_rate=1e-3,
        warmup_steps=1,
        save_every=3,
        log_every=1,
        **more,  # type: ignore[arg-type]
    )


def test_the_opponent_learns_beside_the_autoencoder(prepared: Path, tmp_path: Path) -> None:
    task = _task(prepared)
    assert task.critic is not None
    before = [p.clone() for p in task.critic.parameters()]
    fit(task, _recipe(2), tmp_path)
    moved = [not torch.equal(a, b) for a, b in zip(before, task.critic.parameters(), strict=True)]
    assert all(moved)
    log = (tmp_path / "log.csv").read_text(encoding="utf-8").splitlines()[0].split(",")
    assert {"adversarial", "perceptual", "critic", "kl_weight", "latent_std"} <= set(log)


def test_a_latent_that_blew_up_stops_the_run(prepared: Path, tmp_path: Path) -> None:
    task = _task(prepared, VaeLoss())
    with torch.no_grad():
        for parameter in task.autoencoder.quant_conv_mu.parameters():
            parameter.mul_(1e3)
    with pytest.raises(TrainingError, match="deviation") as raised:
        fit(task, _recipe(2), tmp_path)
    assert "learning_rate" in raised.value.hint
    assert not (tmp_path / "checkpoint.pt").exists()


def test_six_steps_are_three_and_three_resumed(prepared: Path, tmp_path: Path) -> None:
    whole = _task(prepared)
    fit(whole, _recipe(6), tmp_path / "whole")

    stopped = _task(prepared)
    plain = stopped.loss

    def dies(batch: torch.Tensor, step: int) -> tuple[torch.Tensor, dict[str, float]]:
        loss, figures = plain(batch, step)
        return (loss * float("nan") if step == 3 else loss), figures

    stopped.loss = dies  # type: ignore[method-assign]
    with pytest.raises(TrainingError):
        fit(stopped, _recipe(6), tmp_path / "halves")
    again = _task(prepared)
    fit(again, _recipe(6), tmp_path / "halves", resume=True)

    for role in ("vae", "critic", "kl"):
        one = (dict(whole.networks) | dict(whole.beside))[role].state_dict()
        other = (dict(again.networks) | dict(again.beside))[role].state_dict()
        assert all(torch.equal(one[key], other[key]) for key in one), role


def test_the_opponent_waits_for_its_step(prepared: Path) -> None:
    task = _task(prepared, VaeLoss(adversarial=0.1, adversarial_from=5, critic_channels=4))
    batch = task.batch(0)
    assert "adversarial" not in task.loss(batch, 4)[1]
    assert "adversarial" in task.loss(batch, 5)[1]


def test_each_term_counts_by_its_weight(prepared: Path) -> None:
    def loss(**weights: float) -> tuple[float, dict[str, float]]:
        task = _task(prepared, VaeLoss(critic_channels=4, **weights))  # type: ignore[arg-type]
        batch = task.batch(0)
        torch.manual_seed(0)
        value, figures = task.loss(batch, 0)
        return value.item(), figures

    plain, _ = loss()
    full, figures = loss(adversarial=0.2, perceptual=0.5)
    more = 0.2 * figures["adversarial"] + 0.5 * figures["perceptual"]
    assert full - plain == pytest.approx(more, rel=1e-3)


def test_the_decoder_alone_keeps_every_latent(prepared: Path, tmp_path: Path) -> None:
    """A frozen encoder: U-Net and ControlNet of the same latents stay valid."""
    start, end = tmp_path / "start", tmp_path / "end"
    settings = {"steps": "2", "voxels": "13824"}
    train("maisi-vae", data_folder=prepared, output=start, recipe_name="tiny", settings=settings)
    trained = train(
        "maisi-vae",
        data_folder=prepared,
        output=end,
        recipe_name="tiny",
        start=start,
        settings=settings
        | {
            "trainable": "decoder",
            "adversarial": "0.1",
            "perceptual": "0.3",
            "weight_decay": "0.1",
        },
    )
    before, after = (read_tensors(f / "vae.safetensors") for f in (start, end))
    moved = {key for key in before if not torch.equal(before[key], after[key])}
    assert moved and all(key.startswith(("decoder.", "post_quant_conv.")) for key in moved)
    record = json.loads((end / "maisi-vae" / "run.json").read_text(encoding="utf-8"))
    assert record["settings"]["loop"]["trainable"] == "decoder"
    assert "perceptual loss: " in record["notes"][0] == trained.notes[0]


def test_going_on_with_another_choice_is_refused(prepared: Path, tmp_path: Path) -> None:
    fit(_task(prepared), _recipe(3), tmp_path)
    with pytest.raises(UsageError, match="trainable all"):
        fit(_task(prepared), _recipe(6, trainable="decoder"), tmp_path, resume=True)
