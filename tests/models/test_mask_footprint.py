"""Memory, work and weights of the mask generator from shapes alone are those of its networks."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from synthct.models.maisi import footprint, mask_networks, mask_spec
from synthct.models.maisi.mask_spec import MASK_SPEC, MaskAutoencoderSpec
from synthct.models.maisi.outline import decoder_outline, encoder_outline
from synthct.models.maisi.tally import Tally
from synthct.models.maisi.translation import decoder_layers, encoder_layers
from synthct.tiling.layers import Conv, Residual, TransposedConv
from tests.models.tracing import Traced

NARROW = replace(
    MASK_SPEC,
    autoencoder=MaskAutoencoderSpec((8, 16, 16), (1, 2, 1), 4, 4),
    unet=replace(
        MASK_SPEC.unet,
        num_channels=(32, 64, 64),
        attention_levels=(False, True, True),
        num_head_channels=(0, 32, 32),
        norm_num_groups=8,
    ),
)


def _shapes(layers: object) -> list[object]:
    found: list[object] = []
    for layer in layers:  # type: ignore[attr-defined]
        if isinstance(layer, Residual):
            found.append((_shapes(layer.body), _shapes(layer.shortcut)))
        elif isinstance(layer, Conv):
            found.append((tuple(layer.weight.shape), layer.stride, layer.before, layer.after))
        elif isinstance(layer, TransposedConv):
            found.append((tuple(layer.weight.shape), layer.stride, layer.output_padding))
        else:
            found.append(type(layer))
    return found


@pytest.mark.parametrize("spec", [MASK_SPEC, NARROW], ids=["published", "narrow"])
def test_parameters_and_layers_are_those_that_monai_builds(
    spec: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mask_spec, "MASK_SPEC", spec)
    with torch.device("meta"):
        vae, unet = mask_networks.build_mask_autoencoder(), mask_networks.build_mask_unet()
    counted = {
        role: sum(p.numel() for p in net.parameters())
        for role, net in (("vae", vae), ("unet", unet))
    }
    assert footprint.parameters(spec) == counted  # type: ignore[arg-type]
    known = spec.autoencoder  # type: ignore[attr-defined]
    assert _shapes(decoder_outline(known)) == _shapes(decoder_layers(vae))
    assert _shapes(encoder_outline(known)) == _shapes(encoder_layers(vae))


@pytest.mark.parametrize("half", [False, True], ids=["float32", "bfloat16"])
@torch.inference_mode()
def test_the_walk_is_the_pass_that_runs(half: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Peak of what torch allocates, and the multiply-adds that it counts."""
    monkeypatch.setattr(mask_spec, "MASK_SPEC", NARROW)
    unet, side = mask_networks.build_mask_unet().eval(), 16
    latent = torch.randn(1, 4, side, side, side)
    words = {"timesteps": torch.tensor([500.0]), "context": torch.rand(1, 1, 10)}
    with torch.autocast("cpu", torch.bfloat16, enabled=half), Traced() as trace:
        unet(latent, **words)
    tally = Tally(2 if half else 4, blocked=False)
    footprint._predict(tally, NARROW, (side, side, side), masked=False)
    assert tally.peak == pytest.approx(trace.peak, rel=0.1)
    assert tally.now == 0
    if not half:
        for block in unet.modules():  # the counter does not know fused attention
            if hasattr(block, "use_flash_attention"):
                block.use_flash_attention = False
        with FlopCounterMode(display=False) as counter:
            unet(latent, **words)
        assert 2 * tally.macs == pytest.approx(counter.get_total_flops(), rel=0.02)


@torch.inference_mode()
def test_the_decoder_s_work_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mask_spec, "MASK_SPEC", NARROW)
    vae = mask_networks.build_mask_autoencoder().eval()
    with FlopCounterMode(display=False) as counter:
        vae.decode(torch.randn(1, 4, 4, 4, 4))
    macs = footprint.decoder_macs(NARROW.autoencoder, (4, 4, 4))
    assert 2 * macs == pytest.approx(counter.get_total_flops(), rel=0.02)
