"""MONAI's MAISI networks walked by shape: which map each block makes, and when it ends. No torch.

Line for line what `DiffusionModelUNetMaisi`, `ControlNetMaisi` and their blocks do, as
`prediction.predict` and `control.embed` call them. A caller's own name for a map outlives the call:
so a block's input is the caller's to free. `Tally.item` is what convolutions and linear layers
write; under bfloat16 autocast, pooling gives float32 on a CPU.
"""

from __future__ import annotations

from math import prod

from synthct.models.maisi.mask_spec import context_of
from synthct.models.maisi.spec import MaisiSpec, UNetSpec
from synthct.models.maisi.tally import FLOAT_BYTES, Map, Tally, Triple

LABEL_BITS = 8


def unet_down(t: Tally, spec: MaisiSpec, latent: Map, temb: int) -> list[Map]:
    """Every skip connection, the last one being the hidden map too."""
    skips = [t.conv(latent, spec.unet.num_channels[0])]
    for level in range(len(spec.unet.num_channels)):
        skips += _down_block(t, spec.unet, level, skips[-1], temb)
    return skips


def controlnet(
    t: Tally, spec: MaisiSpec, latent: Map, temb: int, skips: list[Map], rows: int = 1
) -> Map:
    """The residual of the middle; the others end as they are added to `skips`, of `rows` each."""
    hidden = t.conv(latent, spec.unet.num_channels[0])
    onto = iter(range(len(skips)))
    _residual(t, hidden, skips, next(onto), rows)
    for level in range(len(spec.unet.num_channels)):
        states = _down_block(t, spec.unet, level, hidden, temb)
        t.free(hidden)
        hidden = states[-1]
        for state in states:
            _residual(t, state, skips, next(onto), rows)
            if state is not hidden:
                t.free(state)
    last = middle(t, spec.unet, hidden, temb)
    t.free(hidden)
    residual = t.conv(last, last.channels, kernel=1)
    t.free(last)
    return residual


def middle(t: Tally, unet: UNetSpec, hidden: Map, temb: int) -> Map:
    first = _resnet(t, hidden, hidden.channels, temb)
    second = _attention(t, unet, len(unet.num_channels) - 1, first)
    t.free(first)
    third = _resnet(t, second, hidden.channels, temb)
    t.free(second)
    return third


def unet_up(t: Tally, spec: MaisiSpec, hidden: Map, skips: list[Map], temb: int) -> Map:
    """The map before `out`; a row for each level."""
    unet = spec.unet
    read: list[Map] = []
    for level in reversed(range(len(unet.num_channels))):
        t.free(*read)
        first = len(skips) - unet.num_res_blocks - 1
        skips, read = skips[:first], skips[first:]
        entered, hidden = hidden, _up_block(t, unet, level, hidden, read, temb)
        t.free(entered)
        t.part(f"U-Net up, level {level}")
    out = _activated(t, hidden)
    prediction = t.conv(out, spec.autoencoder.latent_channels)
    t.free(out, hidden, *read)
    t.part("U-Net out")
    return prediction


def embedding(t: Tally, spec: MaisiSpec, labels: Triple) -> Map:
    """The mask encoder on one tile, from label bits to the ControlNet's first width."""
    bits = t.hold(LABEL_BITS, labels, 1)
    wide = t.hold(LABEL_BITS, labels, FLOAT_BYTES)
    t.free(bits)
    hidden = _swish_conv(t, wide, spec.embedding_channels[0])
    t.free(wide)
    for narrow, wider in zip(spec.embedding_channels, spec.embedding_channels[1:], strict=False):
        for channels, stride in ((narrow, 1), (wider, 2)):
            following = _swish_conv(t, hidden, channels, stride)
            t.free(hidden)
            hidden = following
    out = t.conv(hidden, spec.unet.num_channels[0])
    t.free(hidden)
    return out


def time_layers(t: Tally, spec: MaisiSpec, *, unet: bool) -> int:
    """Weights of the embeddings of time, class, regions and spacing; the width of their sum."""
    first = spec.unet.num_channels[0]
    width = 4 * first
    inputs = [first]
    if unet and not context_of(spec.unet):
        inputs += [4, 4] * spec.unet.regions + [3]
    for into in inputs:
        t.linear(into, width)
        t.linear(width, width)
    if spec.unet.num_class_embeds is not None:
        t.parameters += spec.unet.num_class_embeds * width
    return width * len(inputs)


def _residual(t: Tally, state: Map, skips: list[Map], at: int, rows: int) -> None:
    """A skip that several predictions share becomes a copy for each of `rows`."""
    made, skip = t.conv(state, state.channels, kernel=1), skips[at]
    if skip.batch < rows:
        steered, t.batch = t.batch, rows
        skips[at] = t.like(skip)
        t.batch = steered
        t.free(skip)
    t.free(made)


def _down_block(t: Tally, unet: UNetSpec, level: int, hidden: Map, temb: int) -> list[Map]:
    states: list[Map] = []
    for _ in range(unet.num_res_blocks):
        hidden = _resnet(t, hidden, unet.num_channels[level], temb)
        if unet.attention_levels[level]:
            attended = _attention(t, unet, level, hidden)
            t.free(hidden)
            hidden = attended
        states.append(hidden)
    if level + 1 < len(unet.num_channels):
        if unet.resblock_updown:
            states.append(_resnet(t, hidden, hidden.channels, temb, change=-1))
        else:
            states.append(t.conv(hidden, hidden.channels, stride=2))
    return states


def _up_block(
    t: Tally, unet: UNetSpec, level: int, entered: Map, skips: list[Map], temb: int
) -> Map:
    hidden = entered
    for skip in reversed(skips):
        item = max(hidden.item, skip.item)
        joined = t.hold(hidden.channels + skip.channels, skip.size, item)
        _free_unless(t, hidden, entered)
        hidden = _resnet(t, joined, unet.num_channels[level], temb)
        t.free(joined)
        if unet.attention_levels[level]:
            attended = _attention(t, unet, level, hidden)
            t.free(hidden)
            hidden = attended
    if level == 0:
        return hidden
    larger = _larger(t, unet, hidden, temb)
    _free_unless(t, hidden, entered)
    return larger


def _larger(t: Tally, unet: UNetSpec, hidden: Map, temb: int) -> Map:
    if unet.resblock_updown:
        return _resnet(t, hidden, hidden.channels, temb, change=1)
    stretched = _resampled(t, hidden, 1)
    larger = t.conv(stretched, hidden.channels)
    t.free(stretched)
    return larger


def _resnet(t: Tally, x: Map, channels: int, temb: int, change: int = 0) -> Map:
    """`change`: 1 doubles the grid, -1 halves it."""
    hidden, short = _activated(t, x), x
    if change:
        short = _resampled(t, x, change)
        moved = _resampled(t, hidden, change)
        t.free(hidden)
        hidden = moved
    made = t.conv(hidden, channels)
    t.free(hidden)
    t.linear(temb, channels)
    timed = t.like(made)
    t.free(made)
    hidden = _activated(t, timed)
    t.free(timed)
    made = t.conv(hidden, channels)
    t.free(hidden)
    kept = short if channels == x.channels else t.conv(short, channels, kernel=1)
    total = t.hold(channels, made.size, max(kept.item, made.item))
    t.free(made)
    if kept is not short:
        t.free(kept)
    if short is not x:
        t.free(short)
    return total


def _attention(t: Tally, unet: UNetSpec, level: int, x: Map) -> Map:
    """Norm, three linear layers, fused attention (linear in tokens), sum."""
    if context_of(unet):
        return _transformer(t, context_of(unet), x)
    tokens, width = prod(x.size), x.channels
    normed = t.norm(x)
    for _ in range(3 + unet.include_fc):
        t.linear(width, width, tokens)
    t.macs += t.batch * 2 * tokens * tokens * width
    made = [t.hold(width, x.size) for _ in range(4 + unet.include_fc)]  # q, k, v, sum, projection
    t.free(*made[:-1], normed)
    out = t.hold(width, x.size, max(x.item, t.item))
    t.free(made[-1])
    return out


def _transformer(t: Tally, context: int, x: Map) -> Map:
    """MONAI's SpatialTransformer: attention to the map itself, to the context, and a wide layer."""
    tokens, width = prod(x.size), x.channels
    normed = t.norm(x)
    inside = t.conv(normed, width, kernel=1)
    t.free(normed)
    for looked_at, others in ((width, tokens), (context, 1)):
        t.parameters += 2 * width - 3 * width  # a norm; q, k and v have no bias
        t.linear(width, width, tokens)
        for _ in range(2):
            t.linear(looked_at, width, others)
        t.linear(width, width, tokens)
        t.macs += t.batch * 2 * tokens * others * width
    t.free(*[t.hold(width, x.size) for _ in range(4)])
    t.parameters += 2 * width
    t.linear(width, 8 * width, tokens)
    t.linear(4 * width, width, tokens)
    t.free(t.hold(8 * width, x.size), t.hold(4 * width, x.size))
    projected = t.conv(inside, width, kernel=1)
    t.free(inside)
    out = t.hold(width, x.size, max(x.item, t.item))
    t.free(projected)
    return out


def _activated(t: Tally, x: Map) -> Map:
    normed = t.norm(x)
    active = t.like(normed)
    t.free(normed)
    return active


def _swish_conv(t: Tally, x: Map, channels: int, stride: int = 1) -> Map:
    made = t.conv(x, channels, stride=stride)
    scaled = t.like(made)
    gate = t.like(made)
    t.free(scaled)
    product = t.like(made)
    t.free(made, gate)
    return product


def _resampled(t: Tally, x: Map, change: int) -> Map:
    i, j, k = (2 * n if change > 0 else n // 2 for n in x.size)
    return t.hold(x.channels, (i, j, k), x.item if change > 0 else FLOAT_BYTES)


def _free_unless(t: Tally, one: Map, kept: Map) -> None:
    if one is not kept:
        t.free(one)
