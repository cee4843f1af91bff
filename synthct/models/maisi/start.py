"""A start for autoencoders that are trained in minutes: nearly linear, with honest levels.

GroupNorm subtracts the mean of a volume and divides by its spread, and a code that must not lose HU
has to smuggle both past it. From a random start, small networks spend their whole training on that.
Here every normalised map begins with two channels of a large constant, +A and −A, which make the
spread the same for every volume, and with its signals in pairs (s, −s), which make the mean zero:
normalisation is nearly the identity. The constants are held: no step changes them or reads them.
Residual branches begin at zero, and the shortcuts carry a
linear code: with one halving the averages of 2×2×2 voxels and their differences (Haar), as far as
latent channels go; with two the cosine components of 4×4×4 voxels that hold most of a smooth
image's variance. Decoders that double by transposed convolutions begin as its inverse; others,
which interpolate, with the average alone. What the linear code cannot carry is left to training.
"""

from __future__ import annotations

import math

import torch
from monai.apps.generation.maisi.networks.autoencoderkl_maisi import (
    AutoencoderKlMaisi,
    MaisiGroupNorm3D,
    MaisiResBlock,
)
from torch import nn

from synthct.errors import UsageError

Convolution = nn.Conv3d | nn.ConvTranspose3d
CONSTANT = 16.0
"""A: the constant channels; signals are of the order of 1."""
CONTRAST, LEVEL = 3.0, -1.2
"""Network units [0, 1] times CONTRAST plus LEVEL: air −1.2, water 0.3, 1000 HU 1.8."""
AVERAGE_GAIN, DETAIL_GAIN = 2.0, 5.0
"""Latents of the order of 1: differences of neighbours are smaller than averages."""
NEIGHBOURS = 0.9
"""Correlation of neighbouring voxels, by which the components of 4×4×4 voxels are ordered."""
LOG_VARIANCE = -6.0


@torch.no_grad()
def nearly_linear(autoencoder: AutoencoderKlMaisi) -> None:
    """Set the weights of `autoencoder` to the start described above, from torch's random state.

    Raises:
        UsageError: its groups are too small to hold the constants and one signal.
    """
    groups = _norms(autoencoder)[0].num_groups
    if not can_start_linear(autoencoder):
        raise UsageError(
            f"{groups} groups leave fewer than 4 channels a group in the autoencoder",
            "give its spec wider maps or fewer groups",
        )
    halvings = _encoder(autoencoder, groups)
    _decoder(autoencoder, groups, halvings)
    for name in ("quant_conv_mu", "post_quant_conv"):
        _identity(_conv(autoencoder.get_submodule(name)))
    sigma = _conv(autoencoder.get_submodule("quant_conv_log_sigma"))
    nn.init.zeros_(sigma.weight)
    nn.init.constant_(_bias(sigma), LOG_VARIANCE)


def can_start_linear(autoencoder: AutoencoderKlMaisi) -> bool:
    """Whether each group of its norms holds the two constants and a pair for one signal."""
    return all(norm.num_channels >= 4 * norm.num_groups for norm in _norms(autoencoder))


def hold_constants(autoencoder: AutoencoderKlMaisi) -> None:
    """Keep every gradient from the constant channels: a step on them would move whole volumes."""
    groups = _norms(autoencoder)[0].num_groups
    for part in (autoencoder.encoder, autoencoder.decoder):
        convs = [m for m in part.modules() if isinstance(m, Convolution)]
        for conv in convs:
            made = conv is not convs[-1]
            read = conv is not convs[0]
            mask = torch.ones_like(conv.weight)
            rows = _rows(conv, mask)
            if made:
                _hold(_bias(conv), _kept(conv.out_channels, groups))
                rows[_kept(conv.out_channels, groups) == 0] = 0.0
            if read:
                rows[:, _kept(conv.in_channels, groups) == 0] = 0.0
            _hold(conv.weight, mask)
        for norm in (m for m in part.modules() if isinstance(m, MaisiGroupNorm3D)):
            _hold(norm.weight, _kept(norm.num_channels, groups))
            _hold(norm.bias, _kept(norm.num_channels, groups))


def _norms(network: nn.Module) -> list[MaisiGroupNorm3D]:
    return [m for m in network.modules() if isinstance(m, MaisiGroupNorm3D)]


def _kept(channels: int, groups: int) -> torch.Tensor:
    """1 for every channel that may learn, 0 for the constants."""
    kept = torch.ones(channels)
    for c in _constants(channels, groups):
        kept[c : c + 2] = 0.0
    return kept


def _hold(parameter: torch.Tensor, mask: torch.Tensor) -> None:
    parameter.register_hook(lambda gradient: gradient * mask.to(gradient.device))


def _encoder(autoencoder: AutoencoderKlMaisi, groups: int) -> int:
    """Start it; how often it halves the grid."""
    first, *inner, last = _convolutions(autoencoder.encoder)
    _carry(first, groups, {(0, 0): _delta(CONTRAST)}, bias=LEVEL)
    latents = last.out_channels
    signals = [len(_signals(c.out_channels, groups)) for c in [first, *inner]]
    halvings = [conv for conv in inner if conv.stride[0] == 2]
    bands = min(8, *signals) if len(halvings) > 1 else min(latents, 4)
    carried = 1
    for conv in inner:
        kernels = {(n, n): _one(conv) for n in range(carried)}
        if conv in halvings[:1]:
            kernels = {(n, 0): _haar(n) for n in range(bands)}
            carried = bands
        elif conv in halvings[1:2]:
            carried = min(latents, len(_signals(conv.out_channels, groups)))
            kernels = _cosines(carried, bands)
        elif conv in halvings:
            kernels = {(n, n): _haar(0) for n in range(carried)}
        _carry(conv, groups, kernels)
    gains = _gains(latents, len(halvings))
    _read(last, groups, {n: gains[n] for n in range(min(latents, carried))})
    _plain_norms(autoencoder.encoder)
    return len(halvings)


def _decoder(autoencoder: AutoencoderKlMaisi, groups: int, halvings: int) -> None:
    first, *inner, last = _convolutions(autoencoder.decoder)
    latents = first.in_channels
    gains = _gains(latents, halvings)
    doublings = [conv for conv in inner if isinstance(conv, nn.ConvTranspose3d)]
    narrowest = first if doublings else min([first, *inner], key=lambda conv: conv.out_channels)
    carried = min(latents, len(_signals(narrowest.out_channels, groups)))
    kernels = {(n, n): _delta(1 / gains[n]) for n in range(carried)}
    _carry(first, groups, kernels, read_pairs=False)
    for conv in inner:
        if conv not in doublings:
            kernels = {(n, n): _one(conv) for n in range(carried)}
        elif conv is doublings[-1]:
            bands = min(carried, 8 if len(doublings) > 1 else 4)
            kernels = {(0, n): _placed(8 * _haar(n)[:2, :2, :2]) for n in range(bands)}
            carried = 1
        elif conv is doublings[-2]:
            analysis = _cosines(carried, 8)
            kernels = {(m, n): _placed(8 * k[:2, :2, :2]) for (n, m), k in analysis.items()}
            carried = 8
        else:
            kernels = {(n, n): _placed(torch.ones(2, 2, 2)) for n in range(carried)}
        _carry(conv, groups, kernels)
    _read(last, groups, {0: 1 / CONTRAST})
    _bias(last).fill_(-LEVEL / CONTRAST)
    _plain_norms(autoencoder.decoder)


def _convolutions(part: nn.Module) -> list[Convolution]:
    """Those on the linear way through: first, resampling and shortcut convolutions, last."""
    found = []
    for block in part.get_submodule("blocks").children():
        if isinstance(block, MaisiResBlock):
            nn.init.zeros_(_conv(block.conv2).weight)
            nn.init.zeros_(_bias(_conv(block.conv2)))
            _constant_rows(_conv(block.conv1), block.norm1.num_groups)
            if not isinstance(block.nin_shortcut, nn.Identity):
                found.append(_conv(block.nin_shortcut))
        elif not isinstance(block, MaisiGroupNorm3D):
            found.append(_conv(block))
    return found


def _constant_rows(conv: Convolution, groups: int) -> None:
    for c in _constants(conv.out_channels, groups):
        _rows(conv, conv.weight)[c : c + 2] = 0.0
        _bias(conv)[c], _bias(conv)[c + 1] = CONSTANT, -CONSTANT


def _conv(module: nn.Module) -> Convolution:
    return next(m for m in module.modules() if isinstance(m, Convolution))


def _rows(conv: Convolution, weight: torch.Tensor) -> torch.Tensor:
    """A view of `weight` as (out, in, 3 kernel axes); transposed convolutions have it turned."""
    return weight.transpose(0, 1) if isinstance(conv, nn.ConvTranspose3d) else weight


def _bias(conv: Convolution) -> torch.Tensor:
    assert conv.bias is not None, "MONAI's autoencoder has a bias in every convolution"
    return conv.bias


def _signals(channels: int, groups: int) -> list[tuple[int, int]]:
    """Channels (s, −s) of every signal; the first two channels of each group are constant."""
    size = channels // groups
    starts = range(0, channels, size)
    pairs = [[(a + n, a + n + 1) for n in range(2, size - 1, 2)] for a in starts]
    return [pair for n in range(len(pairs[0])) for pair in (group[n] for group in pairs)]


def _constants(channels: int, groups: int) -> list[int]:
    return list(range(0, channels, channels // groups))


def _carry(
    conv: Convolution,
    groups: int,
    kernels: dict[tuple[int, int], torch.Tensor],
    *,
    bias: float = 0.0,
    read_pairs: bool = True,
) -> None:
    """Let `conv` make signals of signals; what `kernels` leaves open stays small and random."""
    out = _signals(conv.out_channels, groups)
    single = conv.in_channels == 1 or not read_pairs
    into = (
        [(n, n) for n in range(conv.in_channels)] if single else _signals(conv.in_channels, groups)
    )
    fan = math.sqrt(len(into) * conv.weight[0, 0].numel())
    weight = torch.zeros_like(_rows(conv, conv.weight))
    offset = torch.zeros_like(_bias(conv))
    given = {n for n, _ in kernels}
    for n, (plus, minus) in enumerate(out):
        for m, (a, b) in enumerate(into):
            kernel = kernels.get((n, m), torch.zeros_like(weight[0, 0]))
            if n not in given:
                kernel = torch.randn_like(kernel) * 0.5 / fan
            half = kernel if a == b else kernel / 2
            weight[plus, a] += half
            if a != b:
                weight[plus, b] -= half
        weight[minus] = -weight[plus]
        offset[plus] = bias if n in given else 0.0
        offset[minus] = -offset[plus]
    _rows(conv, conv.weight).copy_(weight)
    _bias(conv).copy_(offset)
    _constant_rows(conv, groups)


def _read(conv: Convolution, groups: int, gains: dict[int, float]) -> None:
    """The last convolution of a part: output n is signal n times its gain, plus a little noise."""
    signals = _signals(conv.in_channels, groups)
    fan = math.sqrt(len(signals) * 27)
    conv.weight.copy_(torch.randn_like(conv.weight) * 0.02 / fan)
    _bias(conv).zero_()
    for c in _constants(conv.in_channels, groups):
        conv.weight[:, c : c + 2] = 0.0
    for n, gain in gains.items():
        plus, minus = signals[n]
        conv.weight[n, plus, 1, 1, 1] += gain / 2
        conv.weight[n, minus, 1, 1, 1] -= gain / 2


def _plain_norms(part: nn.Module) -> None:
    """Scale every group norm on the linear way so that it divides by the constants' spread."""
    for norm in (m for m in part.modules() if isinstance(m, MaisiGroupNorm3D)):
        size = norm.num_channels // norm.num_groups
        norm.weight.fill_(CONSTANT * math.sqrt(2 / size))
        norm.weight.mul_(_kept(norm.num_channels, norm.num_groups))


def _delta(gain: float) -> torch.Tensor:
    kernel = torch.zeros(3, 3, 3)
    kernel[1, 1, 1] = gain
    return kernel


def _placed(taps: torch.Tensor) -> torch.Tensor:
    """A transposed kernel (3, 3, 3) whose input voxel makes these 2×2×2 voxels and no others."""
    kernel = torch.zeros(3, 3, 3)
    kernel[1:, 1:, 1:] = taps
    return kernel


def _one(conv: Convolution) -> torch.Tensor:
    return _delta(1.0) if conv.kernel_size[0] == 3 else torch.ones(1, 1, 1)


_HAAR = ("000", "100", "010", "001", "110", "101", "011", "111")
"""Along which of i, j, k the number-th kernel takes half the difference instead of the average."""


def _haar(number: int) -> torch.Tensor:
    """0: average of 2×2×2; 1, 2, 3: half the difference along i, j, k (taps 0 and 1 of three)."""
    average, difference = torch.tensor([0.5, 0.5, 0.0]), torch.tensor([-0.5, 0.5, 0.0])
    i, j, k = (difference if digit == "1" else average for digit in _HAAR[number])
    return torch.einsum("i,j,k->ijk", i, j, k)


def _waves() -> tuple[torch.Tensor, torch.Tensor]:
    """The cosines of 4 places (wave, place), and the variance (4, 4, 4) of their products."""
    places = torch.arange(4, dtype=torch.float64)
    waves = torch.cos(math.pi / 4 * (places + 0.5) * places[:, None])
    waves = waves / waves.norm(dim=1, keepdim=True)
    spread = NEIGHBOURS ** (places - places[:, None]).abs()
    variance = torch.einsum("ui,ij,uj->u", waves, spread, waves)
    products = torch.einsum("u,v,w->uvw", variance, variance, variance)
    return waves, (products * 1e9).round() / 1e9  # the three axes are equal to the last digit


def _gains(latents: int, halvings: int) -> list[float]:
    """Of the latent's channels; with several halvings by the variance that a component has."""
    if halvings < 2:
        return [AVERAGE_GAIN] + [DETAIL_GAIN] * (latents - 1)
    variances = torch.sort(_waves()[1].flatten(), descending=True).values[:latents]
    return [AVERAGE_GAIN * math.sqrt(float(variances[0] / one)) for one in variances]


def _cosines(count: int, bands: int) -> dict[tuple[int, int], torch.Tensor]:
    """The components of 4×4×4 voxels with most variance, made of the first `bands` of `_haar`.

    Discrete cosines, ordered as in an image whose neighbours correlate by `NEIGHBOURS`.
    """
    waves, variances = _waves()
    order = torch.sort(variances.flatten(), descending=True, stable=True).indices.tolist()[:count]
    # of each wave, what averages and differences of two neighbours add to it: (wave, 0|1, place)
    pairs = waves.reshape(4, 2, 2) / 2
    parts = torch.stack([pairs.sum(-1), pairs[..., 1] - pairs[..., 0]], dim=1).float()
    kernels = {}
    for n, number in enumerate(order):
        frequencies = number // 16, number // 4 % 4, number % 4
        for m in range(bands):
            sides = [parts[u, int(a)] for u, a in zip(frequencies, _HAAR[m], strict=True)]
            kernels[n, m] = torch.zeros(3, 3, 3)
            kernels[n, m][:2, :2, :2] = torch.einsum("i,j,k->ijk", *sides)
    return kernels


def _identity(conv: Convolution) -> None:
    conv.weight.zero_()
    _bias(conv).zero_()
    for n in range(conv.out_channels):
        conv.weight[n, n] = 1.0
