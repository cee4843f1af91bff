"""What a sweep holds while it runs: a window of planes per layer, and skips that wait.

A sweep asks its last layer for a slab; each layer asks the one before it for the planes it lacks
and keeps those that the next slab needs again. So no plane of a sweep is computed twice, and what a
sweep holds is proportional to the thickness of its slabs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

from synthct.tiling.layers import (
    Conv,
    Layer,
    Local,
    Pointwise,
    TransposedConv,
    Triple,
    flow,
    needed,
    stays_single,
)
from synthct.tiling.schedule import Network

_PLANES_OUT, _PLANES_IN = 2, 1  # in flight inside a convolution by pairs of planes


@dataclass(frozen=True)
class Stage:
    """One layer with a window, inside a sweep; grids before and after it."""

    layer: Local
    channels: int
    size: Triple
    channels_out: int
    size_out: Triple
    fresh: int  # new input planes for one slab
    window: int  # input planes held for one slab
    planes_out: int
    wide: int = 1  # elements of the maps' size that one of its own takes

    @property
    def room(self) -> int:
        """Planes to allocate: in thin windows some more, so that no move overlaps itself."""
        again = self.window - self.fresh
        return self.window + max(0, again - self.fresh)

    @property
    def room_elements(self) -> int:
        return self.wide * self.channels * self.room * prod(self.size[1:])

    @property
    def window_elements(self) -> int:
        return self.wide * self.channels * self.window * prod(self.size[1:])

    @property
    def output_elements(self) -> int:
        return self.wide * self.channels_out * self.planes_out * prod(self.size_out[1:])

    def busy_elements(self, copies: int) -> int:
        """Taken while the layer computes one slab, beside its window.

        Args:
            copies: of what it reads and writes that the convolution library makes.
        """
        moved = self.window_elements + self.output_elements
        flying = _PLANES_OUT * self.output_elements // self.planes_out
        flying += _PLANES_IN * self.window_elements // self.window
        return self.output_elements + max(copies * moved, flying) + self._taps

    @property
    def _taps(self) -> int:
        """The matrix product that replaces a convolution to one channel."""
        if isinstance(self.layer, Conv) and self.layer.channels == 1:
            return self.window_elements // self.channels * prod(self.layer.weight.shape[2:])
        return 0


def stages(
    net: Network, first: int, last: int, planes: int, itemsize: int = 4
) -> list[list[Stage]]:
    """For each pass in [first, last) its windows, when the sweep makes slabs of `planes` planes."""
    found: list[list[Stage]] = []
    for number in range(last - 1, first - 1, -1):
        own, planes = _of_pass(net, number, planes, itemsize)
        found.append(own)
    return found[::-1]


def _of_pass(net: Network, number: int, planes: int, itemsize: int) -> tuple[list[Stage], int]:
    grids = [flow(net.passes[number].head, *net.maps[number])]
    chain = net.passes[number].chain
    for layer in chain:
        grids.append(flow((layer,), *grids[-1]))
    own: list[Stage] = []
    for layer, before, after in reversed(list(zip(chain, grids, grids[1:], strict=False))):
        if not isinstance(layer, Pointwise):
            own.append(_stage(layer, before, after, planes, itemsize))
            planes = own[-1].fresh
    return own[::-1], planes


def _stage(
    layer: Local, before: tuple[int, Triple], after: tuple[int, Triple], n: int, itemsize: int
) -> Stage:
    extent_in, extent_out = before[1][0], after[1][0]
    n = min(n, extent_out)
    start = max(0, (extent_out - n) // 2 - 1)
    reach = [needed(layer, (s, min(s + n, extent_out)), extent_in) for s in (start, start + 1)]
    window = max(stop - first for first, stop in reach)
    fresh = min(window, max(1, -(-n * extent_in // extent_out)))
    wide = 2 if stays_single(layer, itemsize) else 1
    return Stage(layer, *before, *after, fresh, window, n, wide)


def slab_elements(
    net: Network,
    first: int,
    last: int,
    planes: int,
    *,
    stores: bool = True,
    copies: int = 0,
    itemsize: int = 4,
) -> int:
    """Elements alive beside the kept maps while the sweep [first, last) makes one slab.

    Args:
        planes: thickness of the slab at the end of the sweep.
        stores: whether the result is kept, and with it the skip of a block that stays open.
        copies: see `Stage.busy_elements`.
        itemsize: bytes of an element.
    """
    if first < last and net.passes[first].whole is not None:
        return 6 * prod(net.maps[first][1]) * net.maps[first][0]  # norm, q, k, v, sum, output
    steps = stages(net, first, last, planes, itemsize)
    every = [stage for own in steps for stage in own]
    windows = sum(stage.room_elements for stage in every)
    busiest = max((stage.busy_elements(copies) for stage in every), default=0)
    channels, size = net.maps[last]
    result = channels * planes * prod(size[1:])
    waiting = sum(
        _waiting(net, opens, min(closes, last), planes, steps[opens - first :])
        for opens, closes in blocks(net, first, last)
        if closes <= last or stores
    )
    return windows + busiest + result + waiting


def blocks(net: Network, first: int, last: int) -> Iterator[tuple[int, int]]:
    """Residual blocks that open within the passes [first, last): first pass, and boundary after."""
    for number in range(first, last):
        if net.passes[number].opens:
            ends = range(number, len(net.passes))
            yield number, 1 + next(n for n in ends if net.passes[n].closes)


def _waiting(net: Network, opens: int, closes: int, planes: int, own: list[list[Stage]]) -> int:
    """Elements of a skip that waits for the body of its block."""
    channels, size = flow(net.passes[opens].shortcut, *net.maps[opens])
    inside = [stage for stages_ in own[: closes - opens] for stage in stages_]
    ahead = sum(stage.window - stage.fresh for stage in inside)
    thick = max((stage.fresh for stage in inside), default=planes)
    return int(channels * min(size[0], thick + ahead) * prod(size[1:]))


def multiply_adds(net: Network, first: int, last: int, *, stores: bool = True) -> int:
    """Of one sweep over the whole map."""
    total = 0
    needed_skips = {o for o, closes in blocks(net, first, last) if closes <= last or stores}
    for number in range(first, last):
        total += _of_layers(net, number, net.passes[number].layers)
        if number in needed_skips:
            total += _of_layers(net, number, net.passes[number].shortcut)
    return total


def _of_layers(net: Network, number: int, layers: tuple[Layer, ...]) -> int:
    channels, size = net.maps[number]
    total = 0
    for layer in layers:
        before = size
        channels, size = flow((layer,), channels, size)
        if isinstance(layer, Conv):
            total += layer.weight.numel() * prod(size)
        elif isinstance(layer, TransposedConv):
            total += layer.weight.numel() * prod(before)
    return total
