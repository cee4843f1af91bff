"""Several processes on one step: each computes the gradients of its own batches, all step alike.

Started by `torchrun`; alone, every method does nothing. Gradients are averaged after the last batch
of a step, in one piece, so that parameters that a batch did not touch (a ControlNet in a step
without a mask) need no special care, and accumulation costs no traffic.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import distributed, nn

from synthct.training.task import Figures


@dataclass(frozen=True)
class Team:
    """`rank` of `size` processes."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process logs and saves."""
        return self.rank == 0

    def start_alike(self, modules: Iterable[nn.Module]) -> None:
        """Give every process the first one's parameters and buffers."""
        if self.size > 1:
            for module in modules:
                for tensor in (*module.parameters(), *module.buffers()):
                    distributed.broadcast(tensor.detach(), src=0)

    @torch.no_grad()
    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """The mean over the processes; a missing gradient counts as zero, if one has it at all."""
        if self.size == 1:
            return
        moving = list(parameters)
        if not moving:
            return
        here = torch.tensor([float(p.grad is not None) for p in moving], device=moving[0].device)
        distributed.all_reduce(here)
        shared = [p for p, n in zip(moving, here.tolist(), strict=True) if n]
        flat = torch.cat(
            [(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in shared]
        )
        distributed.all_reduce(flat)
        for p, mean in zip(
            shared, (flat / self.size).split([p.numel() for p in shared]), strict=True
        ):
            p.grad = mean.view_as(p).clone()

    @torch.no_grad()
    def average(self, tensors: Iterable[torch.Tensor]) -> None:
        """Replace floating tensors by their mean over the processes."""
        if self.size > 1:
            for tensor in tensors:
                if tensor.is_floating_point():
                    distributed.all_reduce(tensor)
                    tensor /= self.size

    def mean(self, figures: Figures, name: str, device: torch.device) -> Figures:
        """`figures` with the one called `name` averaged over the processes."""
        if self.size == 1:
            return figures
        value = torch.tensor(figures[name], dtype=torch.float64, device=device)
        distributed.all_reduce(value)
        return {**figures, name: float(value) / self.size}

    def any(self, here: bool, device: torch.device) -> bool:
        """Whether it is so in any of the processes."""
        if self.size == 1:
            return here
        flag = torch.tensor(float(here), device=device)
        distributed.all_reduce(flag)
        return bool(flag)


@contextmanager
def team(device: torch.device) -> Iterator[Team]:
    """The team that `torchrun` started, connected; a team of one where nothing started it."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1 or "RANK" not in os.environ:
        yield Team()
        return
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Team(distributed.get_rank(), size)
        distributed.barrier()  # who leaves first closes connections that others still read from
    finally:
        distributed.destroy_process_group()


def own_device(device: torch.device) -> torch.device:
    """The accelerator of this process: its number on the machine, where none is named."""
    if device.type == "cuda" and device.index is None and "LOCAL_RANK" in os.environ:
        return torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    return device
