"""Several processes of torchrun, each with its share of the cases; alone: all of them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

from synthct.errors import UsageError

T = TypeVar("T")


@dataclass(frozen=True)
class Team:
    """This process's number among `size`; number 0 writes."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def share(self, items: Sequence[T]) -> list[T]:
        """Every item belongs to exactly one process.

        >>> Team(1, 2).share("abcde")
        ['b', 'd']
        """
        return list(items[self.rank :: self.size])

    def wait(self) -> None:
        """Until every process has come here."""
        if self.size > 1:
            import torch.distributed as dist

            dist.barrier()


@contextmanager
def team(timeout_minutes: int = 120) -> Iterator[Team]:
    """The processes that torchrun started, joined through gloo; else a team of one.

    Raises:
        UsageError: torchrun's variables make no sense.
    """
    size = int(os.environ.get("WORLD_SIZE", "1") or 1)
    if size <= 1:
        yield Team()
        return
    import torch.distributed as dist

    try:
        dist.init_process_group("gloo", timeout=timedelta(minutes=timeout_minutes))
    except (ValueError, RuntimeError) as error:
        raise UsageError(f"WORLD_SIZE is {size}, but no team comes together: {error}") from error
    try:
        yield Team(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()
