from __future__ import annotations

import pytest
from torch import nn

from synthct.errors import UsageError
from synthct.models.maisi.networks import build_autoencoder, build_controlnet, build_unet
from synthct.models.maisi.spec import preset
from synthct.training.parameters import choose


@pytest.fixture
def networks() -> dict[str, nn.Module]:
    spec = preset("tiny")
    return {
        "vae": build_autoencoder(spec.autoencoder),
        "unet": build_unet(spec),
        "controlnet": build_controlnet(spec),
    }


def _moving(network: nn.Module) -> set[str]:
    return {name for name, p in network.named_parameters() if p.requires_grad}


def test_all_is_all(networks: dict[str, nn.Module]) -> None:
    count = sum(p.numel() for net in networks.values() for p in net.parameters())
    assert choose(networks, "all") == count


def test_the_decoder_alone(networks: dict[str, nn.Module]) -> None:
    choose(networks, "decoder")
    moving = _moving(networks["vae"])
    assert {name.split(".")[0] for name in moving} == {"decoder", "post_quant_conv"}
    assert not _moving(networks["unet"]) and not _moving(networks["controlnet"])


def test_one_network_alone(networks: dict[str, nn.Module]) -> None:
    choose(networks, "controlnet")
    names = {name for name, _ in networks["controlnet"].named_parameters()}
    assert _moving(networks["controlnet"]) == names
    assert not _moving(networks["unet"])


def test_biases_and_norms_are_few(networks: dict[str, nn.Module]) -> None:
    everything = choose(networks, "all")
    few = choose(networks, "biases-norms")
    assert 0 < few < 0.1 * everything
    by_shape = {name: p.dim() for name, p in networks["unet"].named_parameters() if p.requires_grad}
    assert set(by_shape.values()) == {1}
    one_dimensional = {n for n, p in networks["unet"].named_parameters() if p.dim() == 1}
    assert set(by_shape) == one_dimensional  # U-Net: every vector is a bias or a norm


def test_words_add_up(networks: dict[str, nn.Module]) -> None:
    apart = choose(networks, "unet") + choose(networks, "decoder")
    assert choose(networks, "unet+decoder") == apart


def test_unknown_words_are_named(networks: dict[str, nn.Module]) -> None:
    with pytest.raises(UsageError, match="encoder") as error:
        choose(networks, "encoder")
    assert "biases-norms" in str(error.value.hint)
