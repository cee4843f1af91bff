"""Memory and work of MAISI's sampling, from the spec and the shape alone. No torch.

The walk follows `prediction.predict`, `control.embed` and MONAI's blocks line by line: which map is
made when, and which name still holds it. A test compares it with a trace of the real pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Literal, NamedTuple

from synthct.models.maisi import walk
from synthct.models.maisi.mask_spec import channels_in, channels_out
from synthct.models.maisi.spec import AutoencoderSpec, MaisiSpec
from synthct.models.maisi.tally import FLOAT_BYTES, HALF_BYTES, Map, Row, Tally, Triple

Precision = Literal["float32", "bfloat16"]


class Cost(NamedTuple):
    """Of a guided step: predictions, masks that they look at, modalities that they are told, and
    how many of the predictions look at no mask where others do."""

    branches: int = 1
    masks: int = 1
    modalities: int = 1
    blind: int = 0


PLAIN = Cost()
CONTROLNET = "ControlNet"
"""The part of a step that blind predictions leave out."""
TILES = (192, 128, 96, 64, 32)
"""Sides of a tile of the mask embedding, in voxels, from the least work to the least memory."""
_SMALL_LATENT = 32**3
"""Voxels up to which a batch takes less time (benchmarks/sample.py)."""
_HEAP_BYTES = 40 * 2**20
"""Freed blocks that the C library keeps, and oneDNN's scratch: 18 to 68 MiB were seen on a CPU."""


@dataclass(frozen=True)
class SamplingMemory:
    """One sample's way from noise to latent, beside the weights.

    Attributes:
        embedding: bytes while the mask is embedded.
        step: bytes during a step, the mask's embedding included.
        macs_once, macs_per_step: multiply-adds.
        together: whether the branches of guidance are one batch.
        rows: the parts of a step.
    """

    precision: Precision
    together: bool
    tile: int
    embedding: int
    step: int
    macs_once: int
    macs_per_step: int
    rows: tuple[Row, ...]

    @property
    def peak(self) -> int:
        return max(self.embedding, self.step)


def sampling_memory(
    spec: MaisiSpec,
    size: Triple,
    precision: Precision,
    *,
    guided: Cost = PLAIN,
    together: bool = False,
    masked: bool = True,
    device: str = "cpu",
) -> SamplingMemory:
    """For an image grid of `size` voxels, sides multiples of the spec's `grid_multiple`.

    Args:
        guided: what a step compares.
        together: the branches as one batch; otherwise one after the other.
        masked: whether there is a mask (and the model has a ControlNet).
    """
    masked = masked and spec.controlnet
    tally = Tally(item_of(precision), blocked=device == "cpu")
    latent = _latent(spec, size)
    kept = _hold_between_steps(tally, spec, latent, guided, masked=masked)
    if together:
        rows, ways, blind = guided.branches, guided.modalities, guided.blind * masked
        _predict(tally, spec, latent, masked=masked, rows=rows, ways=ways, blind=blind)
    else:
        _predict(tally, spec, latent, masked=masked)
    times = 1 if together else guided.branches
    steered = 1 if together else guided.branches - guided.blind * masked
    work = [r.macs * (steered if r.name == CONTROLNET else times) for r in tally.rows]
    tile, embedding, once = TILES[0], 0, 0
    if masked:
        tile, embedding, once = _tiled(spec, size, precision, device, allowed=tally.peak - kept)
    beside = _HEAP_BYTES if device == "cpu" else 0
    return SamplingMemory(
        precision,
        together,
        tile,
        embedding + kept + beside if masked else 0,
        tally.peak + beside,
        once * guided.masks,
        sum(work),
        tuple(Row(r.name, r.peak_bytes, macs) for r, macs in zip(tally.rows, work, strict=True)),
    )


def quicker_together(guided: Cost, latent: Triple) -> bool:
    """Whether one batch takes less time than the branches one after the other.

    It reads the weights once, which shows on small latents; and branches that differ in nothing but
    their masks share the U-Net's way down.
    """
    shared = guided.modalities < guided.branches
    return guided.branches > 1 and (shared or prod(latent) <= _SMALL_LATENT)


def item_of(precision: Precision) -> int:
    return FLOAT_BYTES if precision == "float32" else HALF_BYTES


def parameters(spec: MaisiSpec) -> dict[str, int]:
    """Numbers that each network holds, by role."""
    unet, control, vae = Tally(), Tally(), Tally()
    least = 2 ** (len(spec.unet.num_channels) - 1)
    _predict(unet, spec, (least, least, least), masked=False)
    vae.parameters = autoencoder_parameters(spec.autoencoder)
    counts = {"vae": vae.parameters, "unet": unet.parameters}
    if spec.controlnet:
        latent = control.hold(spec.autoencoder.latent_channels, (least, least, least))
        skips = walk.unet_down(Tally(), spec, latent, 0)
        walk.controlnet(control, spec, latent, walk.time_layers(control, spec, unet=False), skips)
        walk.embedding(control, spec, (least, least, least))
        counts["controlnet"] = control.parameters
    return counts


def autoencoder_parameters(vae: AutoencoderSpec) -> int:
    """Numbers in MONAI's AutoencoderKlMaisi: encoder, decoder and the three 1×1×1 convolutions."""
    widths, blocks, latent = vae.num_channels, vae.num_res_blocks, vae.latent_channels
    between = 3 * latent * (latent + 1)
    encoder = _convolutions((channels_in(vae), widths[0]), (widths[-1], latent)) + 2 * widths[-1]
    decoder = _convolutions((latent, widths[-1]), (widths[0], channels_out(vae))) + 2 * widths[0]
    return (
        between + encoder + _levels(widths, blocks) + decoder + _levels(widths[::-1], blocks[::-1])
    )


def decoder_macs(vae: AutoencoderSpec, latent: Triple) -> int:
    """Multiply-adds of decoding without recomputing anything (MAISI.md section 3)."""
    widths, blocks = vae.num_channels[::-1], vae.num_res_blocks[::-1]
    voxels = prod(latent)
    total = voxels * (vae.latent_channels**2 + 27 * vae.latent_channels * widths[0])
    into = widths[0]
    for level, width in enumerate(widths):
        for _ in range(blocks[level]):
            short = 0 if into == width else into * width
            total += voxels * (27 * width * (into + width) + short)
            into = width
        if level + 1 < len(widths):  # a transposed convolution multiplies per voxel that comes in
            total += voxels * (1 if vae.use_convtranspose else 8) * 27 * width * width
            voxels *= 8
    return total + voxels * 27 * widths[-1] * channels_out(vae)


def _levels(widths: tuple[int, ...], blocks: tuple[int, ...]) -> int:
    """Residual blocks of every level, and the convolution that changes the grid after all but one.

    A block: two norms, two convolutions, a 1×1×1 convolution where the width changes.
    """
    total, into = 0, widths[0]
    for level, width in enumerate(widths):
        for _ in range(blocks[level]):
            total += 2 * into + 2 * width + _convolutions((into, width), (width, width))
            total += 0 if into == width else (into + 1) * width
            into = width
        if level + 1 < len(widths):
            total += _convolutions((width, width))
    return total


def _convolutions(*widths: tuple[int, int]) -> int:
    return sum(27 * into * out + out for into, out in widths)


def _latent(spec: MaisiSpec, size: Triple) -> Triple:
    i, j, k = (n // spec.autoencoder.factor for n in size)
    return i, j, k


def _hold_between_steps(
    tally: Tally, spec: MaisiSpec, latent: Triple, guided: Cost, *, masked: bool
) -> int:
    """Mask embeddings, noise, latent, predictions, and the sum that becomes the next latent."""
    for _ in range(guided.masks * masked):
        tally.hold(spec.unet.num_channels[0], latent)
    for _ in range(3 + guided.branches):
        tally.hold(spec.autoencoder.latent_channels, latent, FLOAT_BYTES)
    return tally.now


def _predict(
    tally: Tally,
    spec: MaisiSpec,
    latent: Triple,
    *,
    masked: bool,
    rows: int = 1,
    ways: int = 1,
    blind: int = 0,
) -> None:
    """`prediction.predict`, a row for each part; `rows` predictions, `ways` down the U-Net.

    All but `blind` of them are steered by a mask.
    """
    tally.part("between steps")
    tally.batch = ways
    source = Map(spec.autoencoder.latent_channels, latent, FLOAT_BYTES)
    width = walk.time_layers(tally, spec, unet=True)
    skips = walk.unet_down(tally, spec, source, width)
    tally.part("U-Net down")
    residual, tally.batch = None, rows - blind
    if masked:
        temb = walk.time_layers(tally, spec, unet=False)
        residual = walk.controlnet(tally, spec, source, temb, skips, rows)
        tally.part(CONTROLNET)
    tally.batch = rows
    hidden = walk.middle(tally, spec.unet, skips[-1], width)
    if residual is not None:
        tally.free(residual)
    tally.part("U-Net middle")
    tally.free(walk.unet_up(tally, spec, hidden, skips, width))


def _tiled(
    spec: MaisiSpec, size: Triple, precision: Precision, device: str, allowed: int
) -> tuple[int, int, int]:
    """(tile, bytes, multiply-adds) of the mask's embedding: the largest tile within `allowed`."""
    found = TILES[-1], 0, 0
    labels_bytes = prod(size)
    for side in TILES:
        tally = Tally(item_of(precision), blocked=device == "cpu")
        shape, count = _largest_tile(spec, size, side)
        walk.embedding(tally, spec, shape)
        found = side, tally.peak + labels_bytes, tally.macs * count
        if tally.peak + labels_bytes <= allowed:
            break
    return found


def _largest_tile(spec: MaisiSpec, size: Triple, side: int) -> tuple[Triple, int]:
    """Voxels of the largest tile with its margin, and how many tiles there are."""
    factor = spec.autoencoder.factor
    counts = [-(-(n // factor) // max(1, side // factor)) for n in size]
    cores = [-(-(n // factor) // count) * factor for n, count in zip(size, counts, strict=True)]
    margin = mask_margin(spec)
    i, j, k = (min(n, core + 2 * margin) for n, core in zip(size, cores, strict=True))
    return (i, j, k), prod(counts)


def mask_margin(spec: MaisiSpec) -> int:
    """Voxels around a tile that the mask encoder looks at; `control.reach` asks the network."""
    margin, halvings = 1, len(spec.embedding_channels) - 1
    for _ in range(halvings):
        margin = 2 * margin + 2
    factor: int = 2**halvings
    return -(-(margin + 1) // factor) * factor
