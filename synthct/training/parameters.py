"""Which weights move: everything, one network, the decoder, or only biases and norms."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import nn

from synthct.errors import UsageError

DECODER = ("decoder.", "post_quant_conv.")
"""What turns a latent into an image; frozen all else, latents keep their meaning."""
_NORMS = (
    nn.GroupNorm, nn.LayerNorm,
    nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d,
    nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d,
)  # fmt: skip
Choice = Callable[[str, nn.Module, str], bool]
"""Role, the module that owns the parameter, the parameter's full name → whether it moves."""


def choose(networks: Mapping[str, nn.Module], trainable: str) -> int:
    """Let the parameters named by `trainable` move, and no others; return how many numbers move.

    Args:
        networks: by role (`vae`, `unet`, `controlnet`).
        trainable: `all`, a role, `decoder`, `biases-norms`, or several of them joined by `+`.

    Raises:
        UsageError: an unknown word, or one that none of these networks has.
    """
    known = _choices(networks)
    words = trainable.split("+")
    unknown = [word for word in words if word not in known]
    if unknown:
        raise UsageError(
            f"trainable={trainable}: no {', '.join(unknown)} here", f"accepted: {', '.join(known)}"
        )
    moving = 0
    for role, network in networks.items():
        for owner, name, parameter in _parameters(network):
            moves = any(known[word](role, owner, name) for word in words)
            parameter.requires_grad_(moves)
            moving += parameter.numel() * moves
    if not moving:
        raise UsageError(f"trainable={trainable}: no parameter is of that kind")
    return moving


def _choices(networks: Mapping[str, nn.Module]) -> dict[str, Choice]:
    found: dict[str, Choice] = {"all": lambda role, owner, name: True}
    for each in networks:
        found[each] = lambda role, owner, name, each=each: role == each  # type: ignore[misc]
    if "vae" in networks:
        found["decoder"] = lambda role, owner, name: role == "vae" and name.startswith(DECODER)
    found["biases-norms"] = lambda role, owner, name: (
        isinstance(owner, _NORMS) or name.rpartition(".")[2] == "bias"
    )
    return found


def _parameters(network: nn.Module) -> list[tuple[nn.Module, str, nn.Parameter]]:
    return [
        (module, f"{prefix}.{name}" if prefix else name, parameter)
        for prefix, module in network.named_modules()
        for name, parameter in module.named_parameters(recurse=False)
    ]
