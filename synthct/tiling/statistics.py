"""Mean and variance of a whole map from its slabs, merged without cancellation.

Each chunk of planes gives count, mean and sum of squared deviations from its own mean (float32 on
the device); the merge is in float64 and includes the spread between the chunks' means (Chan, Golub
and LeVeque 1979, equations 2.1): what a pool of slab variances alone would leave out.
"""

from __future__ import annotations

import torch
from torch import Tensor

from synthct.tensors import PerChannel, Slab
from synthct.tiling.layers import GroupNorm

# Elements looked at together: small enough for a CPU's cache, large enough for a GPU's launch cost.
_CHUNK = {"cpu": 2**19, "cuda": 2**25, "mps": 2**25}


def chunks(slab: Slab) -> list[slice]:
    """Runs of planes of `slab` that are worth handling at once."""
    return _runs(slab, 2)


def pieces(slab: Slab) -> list[tuple[slice, slice]]:
    """Planes and, where one plane is too much already, rows of it: temporaries stay small."""
    runs = _runs(slab, 2)
    rows = _runs(slab[:, :, :1], 3) if runs and runs[0].stop == 1 else [slice(None)]
    return [(planes, some) for planes in runs for some in rows]


def _runs(slab: Slab, dim: int) -> list[slice]:
    extent = slab.shape[dim]
    each = max(1, slab.numel() // max(1, extent))
    step = max(1, _CHUNK.get(slab.device.type, 2**25) // each)
    return [slice(first, min(first + step, extent)) for first in range(0, extent, step)]


class Moments:
    """Per-channel count, mean and squared deviations of the slabs added so far."""

    def __init__(self) -> None:
        self._counts: list[int] = []
        # A row a chunk: a guess of the mean, what it lacks, squared deviations, (capacity, 3, c).
        # One tensor, grown now and then: thousands of small ones would lie between the freed
        # temporaries and keep the heap from using their place again.
        self._rows: Tensor | None = None
        self._room: Tensor | None = None  # for the deviations of a chunk, used again

    def add(self, slab: Slab) -> None:
        """Take note of some planes, shape (1, c, planes, j, k). Each plane must come once."""
        for part, rows in pieces(slab):
            self._add_chunk(slab[:, :, part, rows])

    def _add_chunk(self, chunk: Slab) -> None:
        axes, count = (0, 2, 3, 4), chunk.numel() // chunk.shape[1]
        room = self._room_for(chunk)
        values = chunk if chunk.dtype == room.dtype else room.copy_(chunk)
        guess = values.mean(axes, keepdim=True)
        deviation = torch.sub(values, guess, out=room)
        # What rounding left between the guess and the mean (corrected two-pass algorithm).
        rest = deviation.sum(axes) / count
        squares = deviation.square_().sum(axes) - count * rest.square()
        self._note(count, guess.flatten(), rest, squares)

    def _room_for(self, chunk: Slab) -> Tensor:
        half = chunk.dtype in (torch.bfloat16, torch.float16)
        dtype = torch.float32 if half else chunk.dtype
        room = self._room
        if room is None or room.shape != chunk.shape or room.dtype != dtype:
            self._room = room = torch.empty_like(chunk, dtype=dtype)
        return room

    def _note(self, count: int, guess: Tensor, rest: Tensor, squares: Tensor) -> None:
        used = len(self._counts)
        if self._rows is None or used == len(self._rows):
            more = guess.new_empty((max(64, 2 * used), 3, len(guess)))
            if self._rows is not None:
                more[:used] = self._rows
            self._rows = more
        for place, value in zip(self._rows[used], (guess, rest, squares), strict=True):
            place.copy_(value)
        self._counts.append(count)

    def per_channel(self) -> tuple[int, Tensor, Tensor]:
        """Voxels, mean (c,) and squared deviations from it (c,), in float64 on the CPU."""
        assert self._rows is not None, "no plane was added"
        counts = torch.tensor(self._counts, dtype=torch.float64)[:, None]
        guesses, rests, squares = self._rows[: len(counts)].cpu().double().unbind(1)  # (chunk, c)
        means = guesses + rests
        voxels = counts.sum()
        mean = (counts * means).sum(0) / voxels
        spread = (counts * (means - mean).square()).sum(0)
        return int(voxels), mean, squares.sum(0) + spread

    def packed(self, channels: int) -> Tensor:
        """Voxels, means and squared deviations in one (1 + 2 c,) float64 tensor, to be sent."""
        if not self._counts:
            return torch.zeros(1 + 2 * channels, dtype=torch.float64)
        voxels, mean, squares = self.per_channel()
        return torch.cat([mean.new_tensor([voxels]), mean, squares])

    @classmethod
    def unpacked(cls, parts: list[Tensor]) -> Moments:
        """The statistics of several maps' parts together; see `packed`."""
        together = cls()
        for part in parts:
            count, (mean, squares) = int(part[0]), part[1:].chunk(2)
            if count > 0:
                together._note(count, mean, torch.zeros_like(mean), squares)
        return together

    def per_group(self, groups: int) -> tuple[PerChannel, PerChannel]:
        """Mean and biased variance of each group, repeated for its channels, float64 on the CPU."""
        voxels, means, squares = self.per_channel()
        grouped = means.view(groups, -1)
        size = grouped.shape[1]
        mean = grouped.mean(1, keepdim=True)
        spread = (grouped - mean).square().mean(1)
        variance = squares.view(groups, -1).sum(1) / (voxels * size) + spread
        return mean.flatten().repeat_interleave(size), variance.repeat_interleave(size)


class Normalise:
    """x -> (x - mean) * gain + offset with the statistics of the whole map."""

    def __init__(self, norm: GroupNorm, moments: Moments, device: torch.device) -> None:
        mean, variance = moments.per_group(norm.groups)
        gain = torch.rsqrt(variance + norm.eps)
        if norm.weight is not None:
            gain = gain * norm.weight.cpu().double()
        offset = torch.zeros_like(mean) if norm.bias is None else norm.bias.cpu().double()
        self._terms = [term.view(1, -1, 1, 1, 1) for term in (mean, gain, offset)]
        self._device = device

    def __call__(self, slab: Slab) -> Slab:
        """A new slab; float32 for half-precision input."""
        dtype = slab.dtype if slab.dtype == torch.float64 else torch.float32
        mean, gain, offset = (term.to(dtype).to(self._device) for term in self._terms)
        centred = torch.sub(slab, mean)
        return torch.addcmul(offset, centred, gain, out=centred)
