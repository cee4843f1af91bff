"""Is a volume a copy of another, shifted, flipped or turned a little?

Both are brought to one coarse grid and band-passed, so that what is left is the individual's
organs, vessels and gas and neither the outline that all trunks share nor the noise. Their
correlation is computed for every shift at once through the Fourier transform, for all eight
mirrored forms; the best partners are turned by small angles too. Distance is that of unit vectors,
√(2 − 2ρ): 0 for a copy, 1.41 for what has nothing in common.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import sqrt
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import fft, ndimage

from synthct.volume.resample import resample_image
from synthct.volume.volume import Volume

Floats = npt.NDArray[np.float32]
Flips = tuple[bool, bool, bool]
Angles = tuple[float, float, float]

GRID_MM = 6.0
WINDOW_HU = (-200.0, 300.0)
_FINE, _BROAD = 0.7, 4.0  # voxels: standard deviations of the two blurs of the band
SHIFT_MM = 60.0
"""Shifts up to this are found whatever the size of the field of view."""
FLIPS: tuple[Flips, ...] = tuple(product((False, True), repeat=3))  # type: ignore[arg-type]
_TURNS_DEG = (6.0, 3.0, 1.5)
_TURNED = 2  # best partners that are turned, too


@dataclass(frozen=True)
class Match:
    """How `target`, flipped, turned by Euler angles and shifted, comes to lie on the query.

    Attributes:
        target: its number among the targets.
        distance: √(2 − 2 correlation).
        flips: along i, j, k of the target.
        degrees: about i, j, k, after the flips.
        shift: voxels of the coarse grid, after the turn.
    """

    target: int
    distance: float
    flips: Flips = (False, False, False)
    degrees: Angles = (0.0, 0.0, 0.0)
    shift: tuple[int, int, int] = (0, 0, 0)


def coarse(volume: Volume) -> Floats:
    """The volume (RAS) on a 6 mm grid, windowed, band-passed, of unit length."""
    grid = volume.geometry.with_spacing((GRID_MM,) * 3)
    window = np.clip(resample_image(volume, grid, cval=WINDOW_HU[0]).array, *_window(volume))
    fine = ndimage.gaussian_filter(window, _FINE, mode="nearest")
    return unit(fine - ndimage.gaussian_filter(window, _BROAD, mode="nearest"))


def _window(volume: Volume) -> tuple[float, float]:
    if volume.modality == "CT":
        return WINDOW_HU
    return 0.0, float(np.percentile(volume.array, 99.5))


def unit(array: npt.NDArray[Any]) -> Floats:
    """Scaled to length one; a flat array stays flat."""
    length = float(np.sqrt((array.astype(np.float64) ** 2).sum()))
    scaled: Floats = (array / length if length > 0 else array).astype(np.float32)
    return scaled


def matches(
    queries: Sequence[Floats], targets: Sequence[Floats], told: Callable[[], None] = lambda: None
) -> list[list[Match]]:
    """For every query its match with every target, closest first.

    All eight mirrored forms and all shifts are tried; the closest two are turned by up to 10
    degrees about each axis as well.

    Args:
        queries, targets: results of `coarse`.
        told: called after every target.
    """
    if not queries or not targets:
        return [[] for _ in queries]
    shape = common_shape([*queries, *targets])
    spectra = [_spectrum(query, shape) for query in queries]
    found: list[list[Match]] = [[] for _ in queries]
    for number, target in enumerate(targets):
        forms = [(flips, _spectrum(flipped(target, flips), shape)) for flips in FLIPS]
        for row, spectrum in zip(found, spectra, strict=True):
            row.append(min(_shifted(spectrum, forms, shape, number), key=lambda m: m.distance))
        told()
    for spectrum, row in zip(spectra, found, strict=True):
        row.sort(key=lambda match: match.distance)
        row[:_TURNED] = [turned(spectrum, targets[m.target], m, shape) for m in row[:_TURNED]]
        row.sort(key=lambda match: match.distance)
    return found


def common_shape(arrays: Sequence[Floats]) -> tuple[int, int, int]:
    """A grid for all of them with room for shifts."""
    room = round(SHIFT_MM / GRID_MM)
    i, j, k = (fft.next_fast_len(max(a.shape[n] for a in arrays) + room) for n in range(3))
    return i, j, k


def turned(
    spectrum: npt.NDArray[np.complex64],
    target: Floats,
    start: Match,
    shape: tuple[int, int, int],
) -> Match:
    """`start` improved by small turns of the target: one axis at a time, in shrinking steps."""
    best, form = start, flipped(target, start.flips)
    for step in _TURNS_DEG:
        for axis, sign in product(range(3), (-1, 1)):
            angles = tuple(a + sign * step * (n == axis) for n, a in enumerate(best.degrees))
            rotated = rotate(form, angles)  # type: ignore[arg-type]
            tried = _best_shift(spectrum, _spectrum(rotated, shape), shape)
            if tried[0] < best.distance - 1e-4:
                i, j, k = angles
                best = replace(best, distance=tried[0], shift=tried[1], degrees=(i, j, k))
    return best


def flipped(array: npt.NDArray[Any], flips: Flips) -> npt.NDArray[Any]:
    mirrored: npt.NDArray[Any] = np.flip(array, tuple(a for a, flip in enumerate(flips) if flip))
    return mirrored


def rotate(array: npt.NDArray[Any], degrees: Angles, fill: float = 0.0) -> Floats:
    """Turned about its middle by angles about i, j, k in this order; same shape, trilinear."""
    matrix = np.eye(3)
    for axis, angle in enumerate(np.deg2rad(degrees)):
        first, second = (n for n in range(3) if n != axis)
        turn = np.eye(3)
        turn[first, first] = turn[second, second] = np.cos(angle)
        turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
        matrix = turn @ matrix
    middle = (np.asarray(array.shape) - 1) / 2
    offset = middle - matrix.T @ middle
    rotated: Floats = ndimage.affine_transform(
        array.astype(np.float32, copy=False), matrix.T, offset, order=1, cval=fill
    )
    return rotated


def _shifted(
    spectrum: npt.NDArray[np.complex64],
    forms: Sequence[tuple[Flips, npt.NDArray[np.complex64]]],
    shape: tuple[int, int, int],
    number: int,
) -> Iterator[Match]:
    for flips, other in forms:
        distance, shift = _best_shift(spectrum, other, shape)
        yield Match(number, distance, flips, shift=shift)


def _best_shift(
    one: npt.NDArray[np.complex64], other: npt.NDArray[np.complex64], shape: tuple[int, int, int]
) -> tuple[float, tuple[int, int, int]]:
    """The least distance over all shifts of `other`, and that shift."""
    correlation = fft.irfftn(one * np.conj(other), s=shape, overwrite_x=True)
    place = np.unravel_index(int(np.argmax(correlation)), shape)
    best = float(correlation[place])
    i, j, k = (int(p) if p <= n // 2 else int(p) - n for p, n in zip(place, shape, strict=True))
    return sqrt(max(0.0, 2 - 2 * min(best, 1.0))), (i, j, k)


def _spectrum(array: Floats, shape: tuple[int, int, int]) -> npt.NDArray[np.complex64]:
    spectrum: npt.NDArray[np.complex64] = fft.rfftn(unit(array), s=shape)
    return spectrum
