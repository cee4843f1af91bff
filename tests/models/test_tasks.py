"""What the training tasks feed the networks: crops, phantoms, and weights of the loss."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from synthct.diffusion.rectified_flow import RectifiedFlow
from synthct.labels.groups import BODY
from synthct.models.maisi.latent_task import LatentTask, LossWeights
from synthct.models.maisi.networks import build_autoencoder
from synthct.models.maisi.objective import Noised, noised
from synthct.models.maisi.small_maps import bfloat16_is_wrong
from synthct.models.maisi.spec import preset
from synthct.models.maisi.vae_task import VaeTask
from synthct.training.loop import fast_bfloat16

LIVER, RIB = 1, 63


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    """One scan, one pair with a doubtful half, and one phantom, of 48³ voxels."""
    labels = np.full((48, 48, 48), BODY, np.uint8)
    labels[:32, :32, :32] = LIVER
    labels[40:42, 10:20, 10:12] = RIB
    known = np.ones_like(labels)
    known[:, :, 24:] = 0
    image = np.where(labels == LIVER, 60, -50).astype(np.int16)
    shared = {"spacing_mm": np.array([3, 3, 3], np.float32), "labels": labels}
    for folder in ("images", "pairs"):
        (tmp_path / folder).mkdir()
    body = {"body": (labels > 0).astype(np.uint8), "spacing_mm": shared["spacing_mm"]}
    np.savez(tmp_path / "images" / "a.npz", image=image, **body)
    np.savez(tmp_path / "pairs" / "a.npz", image=image, known=known, **shared)
    tissues = np.zeros_like(labels)
    np.savez(tmp_path / "pairs" / "p.npz", image=image, tissues=tissues, known=known, **shared)
    return tmp_path


def test_small_structures_count_more_and_doubt_counts_nothing() -> None:
    labels = np.full((16, 16, 16), LIVER, np.uint8)
    labels[0:2, 0:2, 0:2] = RIB
    labels[:, :, 8:10] = 0
    known = np.ones_like(labels)
    known[8:] = 0
    weights = LossWeights(reference_voxels=4096.0, most=4.0, air=0.5)
    out = weights(labels, known, 2)[0, 0]
    liver = np.sqrt(4096 / (labels == LIVER).sum())
    assert out.shape == (8, 8, 8)
    assert out[0, 0, 0] == pytest.approx(4.0)
    assert out[1, 1, 1] == pytest.approx(liver, rel=1e-6)
    assert out[0, 0, 4] == pytest.approx(0.5)
    assert (out[4:] == 0).all()
    assert weights(labels, None, 2)[0, 0, 7, 7, 7] == pytest.approx(liver, rel=1e-6)


def test_a_batch_hangs_on_its_step_alone(prepared: Path) -> None:
    spec = preset("tiny")
    task = VaeTask(
        spec, prepared / "images", voxels=16**3, phantoms=prepared / "pairs", phantom_share=0.5
    )
    assert torch.equal(task.batch(3), task.batch(3))
    assert not torch.equal(task.batch(3), task.batch(4))
    assert all(task.batch(n).min() >= 0 and task.batch(n).max() <= 1 for n in range(6))


def test_phantoms_are_drawn_only_where_asked(prepared: Path) -> None:
    spec = preset("tiny")
    assert VaeTask(spec, prepared / "images").drawn == []
    task = VaeTask(spec, prepared / "images", phantoms=prepared / "pairs")
    assert [case.path.name for case in task.drawn] == ["p.npz"]


def test_doubtful_voxels_teach_nothing(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = preset("tiny")
    task = LatentTask(
        spec,
        prepared / "pairs",
        build_autoencoder(spec.autoencoder),
        1.0,
        controlled=False,
        voxels=16**3,
        phantom_share=0.0,
    )
    monkeypatch.setattr(
        "synthct.models.maisi.latent_task.controlled_prediction",
        lambda networks, noisy, *rest: torch.zeros_like(noisy),
    )
    batches = [task.batch(step) for step in range(12)]
    batch = next(b for b in batches if (b.weight == 0).any() and (b.weight > 0).any())

    def loss(latent: torch.Tensor) -> float:
        torch.manual_seed(0)
        return task.loss(replace(batch, latent=latent), 0)[0].item()

    doubtful = (batch.weight == 0).expand_as(batch.latent)
    plain = loss(batch.latent)
    assert loss(torch.where(doubtful, batch.latent + 9, batch.latent)) == plain
    assert loss(torch.where(doubtful, batch.latent, batch.latent + 9)) > plain + 1


def test_unet_and_controlnet_learn_together_from_true_gradients(prepared: Path) -> None:
    """MONAI adds residuals in place: the gradient must still be that of the loss (differences)."""
    spec = preset("tiny")
    task = LatentTask(
        spec,
        prepared / "pairs",
        build_autoencoder(spec.autoencoder),
        1.0,
        controlled=True,
        voxels=16**3,
        blind_share=0.0,
        bfloat16=False,
    )
    parameters = [p for net in task.networks.values() for p in net.parameters()]
    with torch.no_grad():  # no residual is zero, as it is before training
        for p in parameters:
            p.add_(0.1 * torch.randn_like(p))
    batch = next(b for b in map(task.batch, range(12)) if b.weight.mean() > 0.5)

    def loss() -> torch.Tensor:
        torch.manual_seed(0)
        return task.loss(batch, 0)[0]

    loss().backward()
    slope = torch.sqrt(sum(p.grad.square().sum() for p in parameters if p.grad is not None))
    steps = [p.grad / slope if p.grad is not None else None for p in parameters]
    values = []
    with torch.no_grad():
        for sign in (1, -2):
            for p, step in zip(parameters, steps, strict=True):
                if step is not None:
                    p.add_(sign * 2e-3 * step)
            values.append(loss().item())
    assert (values[0] - values[1]) / 4e-3 == pytest.approx(slope.item(), rel=0.03)


@pytest.mark.parametrize("planes", range(4, 20))
def test_convolutions_in_bfloat16_have_the_gradient_of_float32(planes: int) -> None:
    """Where training uses bfloat16: three levels down from `planes`; the known fault is avoided."""
    if not fast_bfloat16(torch.device("cpu")) or bfloat16_is_wrong((planes, 8, 8), 3):
        pytest.skip("this length is trained in float32")
    torch.manual_seed(0)
    for level in range(3):
        conv = torch.nn.Conv3d(32, 32, 3, padding=1)
        image = torch.randn(1, 32, -(-planes // 2**level), 3, 2)
        with torch.autocast("cpu", torch.bfloat16):
            out = conv(image)
        flow = torch.randn_like(out)
        (half,) = torch.autograd.grad(out, conv.weight, flow)
        (single,) = torch.autograd.grad(conv(image), conv.weight, flow.float())
        assert (half - single).norm() < 0.02 * single.norm()


def test_the_lengths_to_avoid() -> None:
    assert [n for n in range(1, 40) if bfloat16_is_wrong((n, 16, 16), 4)] == [*range(1, 17)]
    assert [n for n in range(1, 40) if bfloat16_is_wrong((24, 16, n), 4)] == [*range(1, 9)]
    assert not bfloat16_is_wrong((24, 9, 9), 4)


def test_an_encoded_crop_is_looked_at_several_times(
    prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("synthct.models.maisi.latent_task.ROUND", 2)
    torch.manual_seed(0)
    task = _controlled(prepared, looks=3)
    encoded = []
    plain = task._encoded_crop
    monkeypatch.setattr(task, "_encoded_crop", lambda rng: encoded.append(1) or plain(rng))
    batches = [task.batch(index) for index in range(12)]
    assert len(encoded) == 4, "two rounds of two crops"
    halves = batches[:6], batches[6:]
    kinds = [{str(b.conditions.spacing) for b in half} for half in halves]
    assert [len(kind) for kind in kinds] == [2, 2]
    assert len({b.latent.sum().item() for b in batches}) == 12, "with its own noise each time"
    torch.manual_seed(0)
    again = _controlled(prepared, looks=3)
    for index in (9, 2, 11):  # a batch depends on its index alone: a run may resume anywhere
        assert torch.equal(again.batch(index).latent, batches[index].latent)


def _controlled(prepared: Path, **more: object) -> LatentTask:
    spec = preset("tiny")
    task = LatentTask(
        spec,
        prepared / "pairs",
        build_autoencoder(spec.autoencoder),
        1.0,
        controlled=True,
        voxels=16**3,
        blind_share=0.0,
        bfloat16=False,
        **more,  # type: ignore[arg-type]
    )
    with torch.no_grad():
        for net in task.networks.values():
            for p in net.parameters():
                p.add_(0.1 * torch.randn_like(p))
    return task


def test_a_crop_takes_several_noises_in_one_step(
    prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Loss and gradient are the mean of those of its noises one by one; times are spread."""
    task = _controlled(prepared, draws=3)
    batch = next(b for b in map(task.batch, range(12)) if b.weight.mean() > 0.5)
    seen: list[Noised] = []

    def kept(*how: Any) -> Noised:
        seen.append(noised(*how))
        return seen[-1]

    monkeypatch.setattr("synthct.models.maisi.latent_task.noised", kept)
    together, _ = task.loss(batch, 0)
    (drawn,) = seen
    assert drawn.noisy.shape == (3, *batch.latent.shape[1:])
    flow = RectifiedFlow(batch.latent[0, 0].numel(), task.spec.base_numel)
    thirds = [flow.shift(torch.tensor(n / 3)).item() * 1000 for n in range(4)]
    for n, timestep in enumerate(drawn.timestep.tolist()):
        assert thirds[n] <= timestep <= thirds[n + 1]
    assert not torch.equal(drawn.target[0], drawn.target[1]), "each has its own noise"
    whole = _gradients(task, together)

    task.draws, losses = 1, []
    for n in range(3):
        row = slice(n, n + 1)
        one = Noised(drawn.noisy[row], drawn.timestep[row], drawn.target[row], flow=True)
        monkeypatch.setattr("synthct.models.maisi.latent_task.noised", lambda *how, one=one: one)
        losses.append(task.loss(batch, 0)[0])
    mean = torch.stack(losses).mean()
    assert together.item() == pytest.approx(mean.item(), rel=1e-5)
    single = _gradients(task, mean)
    assert torch.allclose(whole, single, rtol=1e-3, atol=1e-5 * single.abs().max().item())


def _gradients(task: LatentTask, loss: torch.Tensor) -> torch.Tensor:
    parameters = [p for net in task.networks.values() for p in net.parameters()]
    found = torch.autograd.grad(loss, parameters, allow_unused=True)
    return torch.cat([g.ravel() for g in found if g is not None])


def test_the_contrastive_term_is_the_difference_that_one_organ_makes(prepared: Path) -> None:
    """Its value from two predictions made here; its region is where the two masks differ."""
    task = _controlled(prepared, contrast=0.5, contrast_margin=4.0)
    batch = next(b for b in map(task.batch, range(40)) if b.region is not None)
    assert batch.other_bits is not None and batch.region is not None
    differs = (batch.bits != batch.other_bits).any(dim=1, keepdim=True).float()
    assert torch.equal(batch.region, torch.nn.functional.avg_pool3d(differs, 2))
    torch.manual_seed(0)
    loss, figures = task.loss(batch, 0)
    torch.manual_seed(0)
    plain, _ = task.loss(replace(batch, region=None), 0)
    assert loss.item() - plain.item() == pytest.approx(0.5 * figures["contrast"], rel=1e-4)
    assert 0 < figures["contrast"] <= 4.5
    loss.backward()
    assert all(
        p.grad is not None for n, p in task.networks["controlnet"].named_parameters() if "cond" in n
    )


def test_a_lesion_is_what_is_taken_away(prepared: Path) -> None:
    task = _controlled(prepared, contrast=1.0)
    labels = np.full((8, 8, 8), LIVER, np.uint8)
    labels[2:4, 2:4, 2:4] = 26  # a tumour of the liver
    other = task._taken_away(labels, np.random.default_rng(0))
    assert other is not None and (other == LIVER).all()
    assert task._taken_away(np.full((4, 4, 4), BODY, np.uint8), np.random.default_rng(0)) is None


def test_checkpointing_changes_no_gradient_of_either_network(prepared: Path) -> None:
    found = []
    for checkpointing in (False, True):
        torch.manual_seed(5)
        task = _controlled(prepared, checkpointing=checkpointing)
        batch = task.batch(3)
        torch.manual_seed(0)
        task.loss(batch, 0)[0].backward()
        found.append([p.grad for net in task.networks.values() for p in net.parameters()])
    for one, other in zip(*found, strict=True):
        assert (one is None) == (other is None)
        # small maps are summed in another order without checkpointing
        assert one is None or (one - other).norm() <= 1e-3 * other.norm() + 1e-7


def test_a_frozen_unet_is_checkpointed_whole(prepared: Path) -> None:
    found = []
    for checkpointing in (False, True):
        torch.manual_seed(5)
        task = _controlled(prepared, checkpointing=checkpointing, unet_moves=False)
        task.unet.requires_grad_(False)
        batch = task.batch(3)
        torch.manual_seed(0)
        task.loss(batch, 0)[0].backward()
        found.append([p.grad for p in task.networks["controlnet"].parameters()])
    for one, other in zip(*found, strict=True):
        assert one is None or torch.allclose(one, other, rtol=1e-4, atol=1e-7)


def test_crops_grow_at_their_batch_and_may_be_cubes(prepared: Path) -> None:
    task = VaeTask(
        preset("tiny"),
        prepared / "images",
        voxels=8**3,
        size_factors=(1.0,),
        spacing_range_mm=(3.0, 3.0),
        cubes=True,
        later_voxels=24**3,
        later_from=5,
    )
    sizes = [tuple(task.batch(n).shape[2:]) for n in (0, 4, 5, 9)]
    assert sizes == [(8, 8, 8), (8, 8, 8), (24, 24, 24), (24, 24, 24)]


def test_crops_have_the_sides_that_a_recipe_names_as_far_as_the_scan_goes(prepared: Path) -> None:
    def shape(sides: tuple[int, int, int]) -> tuple[int, ...]:
        images = prepared / "images"
        task = VaeTask(preset("tiny"), images, spacing_range_mm=(3.0, 3.0), sides=sides)
        return tuple(task.batch(0).shape[2:])

    assert shape((24, 16, 8)) == (24, 16, 8)
    assert shape((23, 15, 8)) == (24, 16, 8), "rounded up to what the networks take"
    most = shape((4096, 16, 8))
    assert most[1:] == (16, 8) and 24 < most[0] < 4096


def test_crops_of_an_autoencoder_do_not_grow_by_what_the_unet_asks_for(prepared: Path) -> None:
    """Three times 32 voxels a side would be 8 times what was asked for."""
    spec = preset("medium-ct")
    assert spec.grid_multiple == 32
    task = VaeTask(
        spec, prepared / "images", voxels=48**3, size_factors=(1.0,), spacing_range_mm=(1.0, 1.0)
    )
    assert [task.batch(n).numel() <= 1.25 * 48**3 for n in range(3)] == [True] * 3


def test_validation_judges_whole_scans(prepared: Path) -> None:
    task = VaeTask(preset("tiny"), prepared / "images", validation=prepared / "images")
    seen = task.validate({"vae": task.autoencoder})
    assert seen is not None and seen.picture is not None
    image = torch.from_numpy((np.load(prepared / "images/a.npz")["image"] + 1000.0) / 2000).float()
    with torch.no_grad():
        back = task.autoencoder.decode(task.autoencoder.encode(image[None, None])[0])[0, 0]
    error = (back - image).double()
    assert seen.score == seen.figures["l1"] == pytest.approx(error.abs().mean().item(), rel=1e-4)
    mse = error.square().mean().item()  # all of it is body
    assert seen.figures["psnr_db"] == pytest.approx(-10 * np.log10(mse), abs=1e-3)
    assert seen.figures["bias"] == pytest.approx(error.mean().item(), abs=1e-6)
    assert seen.picture.shape == (48, 96)
    assert VaeTask(preset("tiny"), prepared / "images").validate({}) is None
