"""From a list of layers to passes: what can be done plane by plane in one go.

A pass ends where the next layer needs statistics of all planes (group norm) or more neighbours than
one convolution asks for. Between two passes lies a boundary, where a map may be kept, or only
measured and made again later.
"""

from __future__ import annotations

from dataclasses import dataclass

from synthct.tiling.layers import (
    Conv,
    GroupNorm,
    Layer,
    Local,
    Pointwise,
    Residual,
    TransposedConv,
    UnknownLayer,
    Upsample,
    Whole,
    is_pointlike,
)


@dataclass(frozen=True, eq=False)
class Pass:
    """`head` on each voxel alone, then `chain` on windows of planes."""

    head: tuple[Layer, ...] = ()
    chain: tuple[Local, ...] = ()
    shortcut: tuple[Layer, ...] = ()
    opens: bool = False  # begins a residual block: keeps shortcut(input) as the skip
    closes: bool = False  # ends a residual block: adds the skip
    whole: Whole | None = None

    @property
    def layers(self) -> tuple[Layer, ...]:
        return (*self.head, *self.chain)

    @property
    def needs_statistics(self) -> bool:
        return any(isinstance(layer, GroupNorm) for layer in (*self.head, *self.shortcut))


def passes(layers: tuple[Layer, ...]) -> list[Pass]:
    """Cut a list of layers into passes.

    Raises:
        UnknownLayer: a layer, or its place inside a residual block, is not known to be local.
    """
    found: list[Pass] = []
    run: list[Layer] = []
    for layer in layers:
        if isinstance(layer, Residual | Whole):
            found += _sweeps(run)
            run = []
            found += _residual(layer) if isinstance(layer, Residual) else [Pass(whole=layer)]
        else:
            run.append(layer)
    found += _sweeps(run)
    if not found:
        raise UnknownLayer("an empty list of layers: there is nothing to run")
    return found


def _sweeps(layers: list[Layer]) -> list[Pass]:
    found: list[Pass] = []
    group: list[Layer] = []
    for layer in layers:
        _check_known(layer)
        if group and (isinstance(layer, GroupNorm) or (_mixes(layer) and any(map(_mixes, group)))):
            found.append(_sweep(group))
            group = []
        group.append(layer)
    return [*found, _sweep(group)] if group else found


def _mixes(layer: Layer) -> bool:
    return isinstance(layer, Conv | TransposedConv) and not is_pointlike(layer)


def _check_known(layer: object) -> None:
    if not isinstance(layer, Conv | TransposedConv | Upsample | Pointwise | GroupNorm):
        raise UnknownLayer(
            f"tiling does not know the layer kind {type(layer).__name__} at this place",
            "describe it in synthct/tiling/layers.py with its halo, or run the network unsplit",
        )


def _sweep(group: list[Layer]) -> Pass:
    pointlike = [is_pointlike(layer) for layer in group]
    split = pointlike.index(False) if False in pointlike else len(group)
    return Pass(tuple(group[:split]), tuple(group[split:]))  # type: ignore[arg-type]


def _residual(block: Residual) -> list[Pass]:
    if not block.body or not all(is_pointlike(layer) for layer in block.shortcut):
        raise UnknownLayer(
            "a residual block with an empty body or a shortcut that looks beyond one voxel",
            "tiling knows 1x1x1 and pointwise shortcuts",
        )
    body = _sweeps(list(block.body))
    last = len(body) - 1
    return [
        Pass(
            sweep.head,
            sweep.chain,
            block.shortcut if index == 0 else (),
            opens=index == 0,
            closes=index == last,
        )
        for index, sweep in enumerate(body)
    ]
