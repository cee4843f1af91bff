"""Where kept maps live: the device's memory, the host's, or a memory-mapped file."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable
from math import prod
from pathlib import Path
from types import TracebackType

import torch
from torch import Tensor

from synthct.tensors import Slab
from synthct.tiling.budget import Plan
from synthct.tiling.copies import Ahead, Copies, lane_of
from synthct.tiling.cuts import Cut
from synthct.tiling.kernels import memory_format
from synthct.tiling.schedule import Buffer, Schedule, Slot
from synthct.tiling.streams import Reader


class Stores:
    """The buffers of a plan, each made when its first step begins and dropped after its last.

    A context manager: at its end, however it comes, nothing is left in memory or on disk. A spill
    file has no name from the start where the system allows that, so that not even a killed process
    leaves one behind.
    """

    def __init__(
        self,
        plan: Plan,
        dtype: torch.dtype,
        device: torch.device,
        folder: Path | None,
        held: Callable[[Schedule, int], Cut],
    ) -> None:
        self._plan, self._dtype, self._device = plan, dtype, device
        self._folder, self._held = folder, held
        self._buffers: dict[int, Tensor] = {}
        lane = lane_of(device) if plan.spills_to_host else None
        self._copies = None if lane is None else Copies(lane)

    def __enter__(self) -> Stores:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._copies is not None:
            self._copies.finish()
        self._buffers.clear()

    def open(self, step: int) -> None:
        for number, buffer in enumerate(self._plan.schedule.buffers):
            if buffer.first == step:
                self._buffers[number] = self._made(number, buffer)

    def close(self, step: int) -> None:
        if self._copies is not None:
            self._copies.finish()
        for number, buffer in enumerate(self._plan.schedule.buffers):
            if buffer.last == step:
                self._buffers.pop(number, None)

    def region(self, slot: Slot) -> Tensor:
        buffer = self._buffers[slot.buffer]
        first = buffer.shape[1] - slot.channels if slot.high else 0
        return buffer.narrow(1, first, slot.channels)

    def first(self, slot: Slot) -> int:
        """The map's plane that is the region's first."""
        return self._held(self._plan.schedule, slot.buffer)[0]

    def write(self, slot: Slot, cut: Cut, slab: Slab) -> None:
        """Put finished planes in their place; the slab is not written again."""
        first = self.first(slot)
        place = self.region(slot)[:, :, cut[0] - first : cut[1] - first]
        if self._copies is not None and slot.buffer in self._plan.spilled:
            self._copies.send(slab, place)
        else:
            place.copy_(slab)

    def reader(self, slot: Slot) -> Reader | Ahead:
        """A stream of what a former step has written."""
        region, first = self.region(slot), self.first(slot)
        if self._copies is not None and slot.buffer in self._plan.spilled:
            return Ahead(region, self._copies, first)
        return Reader(region, self._device, first)

    def _made(self, number: int, buffer: Buffer) -> Tensor:
        first, stop = self._held(self._plan.schedule, number)
        i, j, k = stop - first, *buffer.size[1:]
        shape = (1, buffer.channels, i, j, k)
        if number not in self._plan.spilled:
            layout = memory_format(self._device)
            return torch.empty(shape, dtype=self._dtype, device=self._device, memory_format=layout)
        flat = self._on_host(prod(shape)) if self._plan.spills_to_host else self._file(prod(shape))
        # Planes one after the other, so that a slab is one run of bytes. The stride of the sample
        # counts though there is one only: by it torch knows that channels come last; else a
        # convolution would copy what it reads.
        return flat.view(1, i, j, k, buffer.channels).permute(0, 4, 1, 2, 3)

    def _on_host(self, elements: int) -> Tensor:
        return torch.empty(elements, dtype=self._dtype, pin_memory=self._device.type == "cuda")

    def _file(self, elements: int) -> Tensor:
        """A tensor whose memory is an unnamed file."""
        handle, name = tempfile.mkstemp(prefix="synthct-spill-", dir=self._folder)
        os.close(handle)
        try:
            return torch.from_file(name, shared=True, size=elements, dtype=self._dtype)
        finally:
            # Windows keeps open files; its temporary folder is swept by the system.
            with contextlib.suppress(PermissionError):
                os.unlink(name)
