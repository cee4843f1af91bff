from __future__ import annotations

from copy import deepcopy

import torch

from synthct.models.maisi.conditions import conditions
from synthct.models.maisi.networks import build_unet
from synthct.models.maisi.spec import preset
from synthct.training.checkpointing import checkpoint_blocks


def test_gradients_are_the_same_and_a_copy_is_independent() -> None:
    spec = preset("tiny")
    torch.manual_seed(0)
    plain = build_unet(spec)
    with torch.no_grad():
        for p in plain.parameters():
            p.add_(0.05 * torch.randn_like(p))
    sparing = deepcopy(plain)
    checkpoint_blocks([*sparing.down_blocks, sparing.middle_block, *sparing.up_blocks])
    copy = deepcopy(sparing)
    told = conditions(spec, regions=("chest",), spacing_mm=(3.0, 3.0, 3.0)).unet_arguments()
    noisy, time = torch.randn(1, spec.autoencoder.latent_channels, 8, 8, 8), torch.tensor([300.0])
    found = []
    for net in (plain, sparing):
        net(noisy, time, **told).square().mean().backward()
        found.append({name: p.grad for name, p in net.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys() and found[0]
    for name, gradient in found[0].items():
        assert torch.allclose(gradient, found[1][name], rtol=1e-5, atol=1e-8), name
    assert all(p.grad is None for p in copy.parameters())
    copy(noisy, time, **told).square().mean().backward()
    assert all(
        torch.equal(found[1][n], p.grad) for n, p in sparing.named_parameters() if n in found[1]
    )
    assert plain.state_dict().keys() == sparing.state_dict().keys()
