"""FSDP: a network's weights, gradients and Adam's state split over the processes.

torch's `fully_shard` gathers a block's weights when it runs and scatters its gradients (their mean)
when backward has passed it. For networks that are called as a whole: the U-Net.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import distributed, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from synthct.errors import UsageError

SHARDED = "unet"
_WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)
_FROM_WHOLE = StateDictOptions(full_state_dict=True)


def require_shardable(networks: Mapping[str, nn.Module]) -> None:
    """Refuse what is not one U-Net alone.

    Raises:
        UsageError: other networks train beside it, or instead of it.
    """
    if set(networks) != {SHARDED}:
        raise UsageError(
            f"shard=true is for the U-Net alone; this stage trains {', '.join(networks)}",
            "leave it out: the processes then hold the networks whole",
        )


def shard(network: nn.Module, device: torch.device) -> None:
    """Split `network` block by block over all processes, in place."""
    mesh = init_device_mesh(device.type, (distributed.get_world_size(),))
    for child in network.children():
        if isinstance(child, nn.ModuleList):
            for block in child:
                fully_shard(block, mesh=mesh)
    fully_shard(network, mesh=mesh)


def whole(value: torch.Tensor) -> torch.Tensor:
    """A tensor that is split, put together on every process; others as they are."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def whole_weights(network: nn.Module) -> dict[str, Any]:
    """State of a split network, as of one that is whole; empty but on the first process."""
    return get_model_state_dict(network, options=_WHOLE)


def whole_optimiser(network: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, Any]:
    return dict(get_optimizer_state_dict(network, optimiser, options=_WHOLE))


def load_whole(
    network: nn.Module,
    weights: dict[str, Any],
    optimiser: torch.optim.Optimizer | None = None,
    state: dict[str, Any] | None = None,
) -> None:
    """Give split networks what `whole_weights` and `whole_optimiser` took from them."""
    set_model_state_dict(network, weights, options=_FROM_WHOLE)
    if optimiser is not None and state is not None:
        set_optimizer_state_dict(network, optimiser, state, options=_FROM_WHOLE)
