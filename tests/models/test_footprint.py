"""Memory, work and weights from shapes alone are those of the real networks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from synthct.models.maisi import footprint, networks
from synthct.models.maisi.conditions import conditions, joined
from synthct.models.maisi.control import MaskEmbedding
from synthct.models.maisi.footprint import Cost, parameters, quicker_together, sampling_memory
from synthct.models.maisi.prediction import predict
from synthct.models.maisi.spec import PRESETS, preset
from synthct.models.maisi.tally import Tally
from tests.models.small import LAYOUTS, narrow, pair
from tests.models.tracing import Traced


@pytest.mark.parametrize("name", PRESETS)
def test_parameters_are_counted(name: str) -> None:
    spec = preset(name)
    with torch.device("meta"):
        built = {
            "vae": networks.build_autoencoder(spec.autoencoder),
            "unet": networks.build_unet(spec),
        }
        if spec.controlnet:
            built["controlnet"] = networks.build_controlnet(spec)
    counted = {role: sum(p.numel() for p in net.parameters()) for role, net in built.items()}
    assert parameters(spec) == counted


@pytest.mark.parametrize("half", [False, True], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("name", LAYOUTS)
@torch.inference_mode()
def test_the_walk_by_shape_is_the_pass_that_runs(name: str, half: bool) -> None:
    """Peak of what torch allocates in a prediction; 5 % for casts of weights."""
    spec, side = narrow(name), 16
    unet, controlnet = pair(spec)
    labels = np.zeros((side * spec.autoencoder.factor,) * 3, dtype=np.uint8)
    told = conditions(spec, regions=(), spacing_mm=(1.0, 1.0, 1.0))
    latent = torch.randn(1, spec.autoencoder.latent_channels, side, side, side)
    embedding = MaskEmbedding.of(controlnet, labels).embedding  # minutes in slow bfloat16
    mask = MaskEmbedding(controlnet, embedding.bfloat16() if half else embedding)
    with torch.autocast("cpu", torch.bfloat16, enabled=half), Traced() as trace:
        predict(unet, [mask], told, latent, torch.tensor([500.0]))
    tally = Tally(2 if half else 4, blocked=False)
    footprint._predict(tally, spec, (side, side, side), masked=True)
    assert tally.peak == pytest.approx(trace.peak, rel=0.05)
    assert tally.now == 0, "every map ends"


@pytest.mark.parametrize("blind", [0, 1])
@pytest.mark.parametrize("ways", [(0, 0), (0, 1), (0, 1, 1)])
@torch.inference_mode()
def test_the_walk_of_a_batch_is_the_pass_that_runs(ways: tuple[int, ...], blind: int) -> None:
    spec, side = narrow("ct-rflow"), 16
    unet, controlnet = pair(spec)
    labels = np.zeros((side * spec.autoencoder.factor,) * 3, dtype=np.uint8)
    told = joined([conditions(spec, regions=(), spacing_mm=(1.0, 1.0, 1.0)) for _ in ways])
    latent = torch.randn(1, spec.autoencoder.latent_channels, side, side, side)
    steered = [MaskEmbedding.of(controlnet, labels)] * (len(ways) - blind)
    masks = [*[None] * blind, *steered]
    with Traced() as trace:
        predict(unet, masks, told, latent, torch.tensor([500.0]), ways)
    tally = Tally(blocked=False)
    sides = (side, side, side)
    shared = max(ways) + 1
    footprint._predict(tally, spec, sides, masked=True, rows=len(ways), ways=shared, blind=blind)
    assert tally.peak == pytest.approx(trace.peak, rel=0.05)
    assert tally.now == 0, "every map ends"


def test_a_batch_takes_more_memory_and_never_more_work() -> None:
    spec, size = preset("ct-rflow"), (128, 128, 128)
    for cost in (Cost(2, 2, 1), Cost(2, 2, 2), Cost(3, 2, 2)):
        apart, once = (
            sampling_memory(spec, size, "float32", guided=cost, together=one)
            for one in (False, True)
        )
        assert apart.peak < once.peak < cost.branches * apart.peak
        shared = cost.modalities < cost.branches
        assert (once.macs_per_step < apart.macs_per_step) is shared
        assert shared or once.macs_per_step == apart.macs_per_step


def test_a_batch_is_for_small_latents_and_for_branches_that_share_a_way_down() -> None:
    by_modality, by_lesions = Cost(2, 1, 2), Cost(2, 2, 1)
    assert quicker_together(by_modality, (24, 24, 24))
    assert not quicker_together(by_modality, (64, 64, 64))
    assert quicker_together(by_lesions, (64, 64, 64))
    assert not quicker_together(Cost(), (16, 16, 16)), "one branch is no batch"


def test_work_per_step_grows_with_the_voxels_and_attention_with_their_square() -> None:
    spec = preset("ct-rflow")
    small, large = (sampling_memory(spec, (n, n, n), "float32") for n in (128, 256))
    assert 8 < large.macs_per_step / small.macs_per_step < 64
    assert sum(row.macs for row in large.rows) == large.macs_per_step


def test_half_precision_guidance_and_masks_cost_what_they_should() -> None:
    spec, size = preset("ct-rflow"), (256, 256, 256)
    plain, half = (sampling_memory(spec, size, kind) for kind in ("float32", "bfloat16"))
    assert half.peak < 0.6 * plain.peak
    guided = sampling_memory(spec, size, "float32", guided=Cost(2, 2, 1))
    assert guided.macs_per_step == 2 * plain.macs_per_step
    both = sampling_memory(spec, size, "float32", guided=Cost(3, 2, 2))
    assert both.macs_per_step == 3 * plain.macs_per_step and both.macs_once == 2 * plain.macs_once
    by_mask = sampling_memory(spec, size, "float32", guided=Cost(2, 1, 1, 1))
    assert plain.macs_per_step < by_mask.macs_per_step < guided.macs_per_step
    assert by_mask.macs_once == plain.macs_once
    alone = sampling_memory(spec, size, "float32", masked=False)
    assert by_mask.macs_per_step == plain.macs_per_step + alone.macs_per_step
    once, twice = (
        sampling_memory(spec, size, "float32", guided=Cost(2, 1, 1, blind), together=True)
        for blind in (1, 0)
    )
    control = next(row.macs for row in plain.rows if row.name == "ControlNet")
    assert twice.macs_per_step - once.macs_per_step == control, "it is not run for the blind one"
    latent = 4 * 64**3 * 4
    assert both.peak - guided.peak == latent
    assert guided.peak - plain.peak == 64 * 64**3 * 4 + latent, "one more embedding of the mask"
    assert sampling_memory(spec, size, "float32", masked=False).peak < plain.peak


def test_the_embedding_of_a_large_mask_is_not_what_decides() -> None:
    found = sampling_memory(preset("ct-rflow"), (512, 512, 768), "bfloat16")
    assert found.embedding < found.step
    whole_bits = 8 * 4 * 512 * 512 * 768
    assert found.embedding < whole_bits / 2


def test_the_decoder_s_work_is_that_of_the_fact_sheet() -> None:
    """MAISI.md section 3: 1,618,032.25 multiply-adds per output voxel."""
    macs = footprint.decoder_macs(preset("ct-rflow").autoencoder, (64, 64, 64))
    assert macs == pytest.approx(1_618_032 * 256**3, rel=1e-6)
