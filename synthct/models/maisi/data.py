"""Training examples: crops of prepared scans at random spacings, as tensors.

A prepared case is an `.npz` with `image` (int16, RAS: HU, or thousandths of network units for MR),
`spacing_mm`, and for pairs `labels` (uint8 MAISI ids) and, for phantoms, `tissues`.
Crops keep the whole field of view in plane wherever the voxel budget allows: GroupNorm takes its
statistics over what it is fed, and must meet in training the shares of air that it meets in use.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from synthct.errors import InputError
from synthct.labels.render import render_hu
from synthct.volume.intensity import hu_to_unit, mr_to_unit
from synthct.volume.manifest import FILE_NAME, PAIRS, PLACES, read_manifest

Triple = tuple[int, int, int]
AIR_HU = -1000
AIR = {"CT": AIR_HU, "MR": 0}


@dataclass(frozen=True)
class Crop:
    """Where to cut, and what to resample it to: voxel bounds per axis, and the shape out."""

    start: Triple
    stop: Triple
    shape: Triple
    spacing_mm: tuple[float, float, float]


@dataclass
class Case:
    """One prepared scan or pair, held in memory as stored (int16, uint8)."""

    path: Path

    @cached_property
    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        with np.load(self.path) as stored:
            arrays = {name: stored[name] for name in stored.files}
        return trimmed(arrays)

    @property
    def spacing_mm(self) -> npt.NDArray[np.float64]:
        return np.asarray(self.arrays["spacing_mm"], dtype=np.float64)

    @property
    def shape(self) -> Triple:
        i, j, k = self.arrays["labels" if "labels" in self.arrays else "image"].shape
        return i, j, k

    @cached_property
    def meta(self) -> dict[str, Any]:
        return dict(json.loads(str(self.arrays["meta"]))) if "meta" in self.arrays else {}

    @property
    def modality(self) -> str:
        return str(self.meta.get("modality", "CT"))


def trimmed(arrays: dict[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    """The case cut to the box of its body: generation never samples the air around it either.

    Without labels or a body (MR, which is generated without a mask) it stays whole.
    """
    if "labels" not in arrays and "body" not in arrays:
        return arrays
    inside = arrays["labels"] > 0 if "labels" in arrays else arrays["body"]
    box = body_box(inside)
    return {name: a[box] if a.ndim == 3 else a for name, a in arrays.items()}


def body_box(inside: npt.NDArray[np.bool_]) -> tuple[slice, slice, slice]:
    """The smallest box that holds every true voxel."""
    spans = []
    for axis in range(3):
        hit = np.flatnonzero(inside.any(axis=tuple(a for a in range(3) if a != axis)))
        spans.append(slice(int(hit[0]), int(hit[-1]) + 1))
    return spans[0], spans[1], spans[2]


def cases_in(folder: Path) -> list[Case]:
    """Every prepared case of a folder, in order of name.

    In a dataset with a manifest these are the cases that it names for this folder: a file that an
    earlier split left behind is not read.

    Raises:
        InputError: no such case, or a manifest that makes no sense.
    """
    found = [Case(path) for path in sorted(folder.glob("*.npz"))]
    manifest = folder.parent / FILE_NAME
    if folder.name in PLACES and manifest.is_file():
        named = read_manifest(manifest).prepared_in(folder.name)
        found = [case for case in found if case.path.stem in named]
    if not found:
        raise InputError(f"no prepared cases (*.npz) in {folder}", _how_to_get(folder))
    return found


def _how_to_get(folder: Path) -> str:
    """What to do where a folder of a dataset holds no cases."""
    if folder.name == PAIRS and (folder.parent / FILE_NAME).is_file():
        return (
            "this stage learns from scans with labels: run `synthct prepare` again with "
            "--labels DIR, --pseudo-labels or --phantoms N"
        )
    return "run `synthct prepare` first"


def random_crop(
    case: Case,
    rng: np.random.Generator,
    *,
    voxels: int,
    spacing_range_mm: tuple[float, float],
    multiple: int,
    cube: bool = False,
    sides: Triple = (0, 0, 0),
) -> Crop:
    """A crop of about `voxels` voxels at a random spacing, sides multiples of `multiple`.

    In plane everything, as long as at least 3·`multiple` planes remain; else a window. With `cube`
    all sides are alike, with `sides` they are these, rounded up, as far as the scan goes.
    """
    low, high = spacing_range_mm
    base = np.exp(rng.uniform(np.log(low), np.log(high)))
    spacing = np.clip(base * np.exp(rng.uniform(-0.3, 0.3, 3)), low, high)
    if rng.random() < 0.5:
        spacing[1] = spacing[0]
    whole = np.array(case.shape) * case.spacing_mm / spacing
    whole = np.maximum(multiple, np.ceil(whole / multiple).astype(int) * multiple)
    if all(sides):
        side = np.minimum(whole, [-(-n // multiple) * multiple for n in sides])
        voxels = int(np.prod(side))
    else:
        side = np.minimum(whole, _cube_side(voxels, multiple)) if cube else whole.copy()
    least = 3 * multiple
    if not all(sides) and not cube:
        planes = voxels // (side[0] * side[1]) // multiple * multiple
        side[2] = min(whole[2], max(least, planes))
    while np.prod(side) > 1.25 * voxels:
        axis = int(np.argmax(side[:2]))
        if side[axis] <= least:
            break
        side[axis] -= multiple
    extent = side * spacing / case.spacing_mm
    slack = np.maximum(0, np.array(case.shape) - extent)
    start = np.floor(rng.uniform(0, 1, 3) * (slack + 1e-6)).astype(int)
    # a crop may run past the scan: what lies there is air, as in the padding at inference
    stop = np.maximum(start + 1, np.round(start + extent).astype(int))
    return Crop(_triple(start), _triple(stop), _triple(side), tuple(map(float, spacing)))  # type: ignore[arg-type]


def _cube_side(voxels: int, multiple: int) -> int:
    side: float = float(voxels) ** (1 / 3)
    return max(multiple, round(side / multiple) * multiple)


def cut(array: npt.NDArray[Any], crop: Crop, fill: float) -> npt.NDArray[Any]:
    """The crop's voxels, `fill` where it runs past the array."""
    window = tuple(
        slice(a, min(b, n)) for a, b, n in zip(crop.start, crop.stop, array.shape, strict=True)
    )
    inside = array[window]
    missing = [(0, max(0, b - n)) for b, n in zip(crop.stop, array.shape, strict=True)]
    if any(after for _, after in missing):
        return np.pad(inside, missing, constant_values=fill)
    return inside


def resize_image(array: npt.NDArray[Any], shape: Triple) -> torch.Tensor:
    """(i, j, k) → float32 (1, 1, *shape), linear; averages over what a coarser voxel covers."""
    tensor = torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))[None, None]
    if tensor.shape[2:] == torch.Size(shape):
        return tensor
    factors = [n / m for n, m in zip(tensor.shape[2:], shape, strict=True)]
    if max(factors) > 1.5:
        pool = [max(1, round(f)) for f in factors]
        tensor = functional.avg_pool3d(tensor, pool, ceil_mode=True, count_include_pad=False)
    return functional.interpolate(tensor, size=shape, mode="trilinear", align_corners=False)


def resize_labels(array: npt.NDArray[Any], shape: Triple) -> npt.NDArray[Any]:
    """(i, j, k) → `shape`, each voxel the label at its centre."""
    index = [
        np.minimum(((np.arange(m) + 0.5) * n / m).astype(np.int64), n - 1)
        for n, m in zip(array.shape, shape, strict=True)
    ]
    return array[np.ix_(*index)]


def image_of(case: Case, crop: Crop) -> torch.Tensor:
    """The crop of a scan in its stored units, (1, 1, X, Y, Z)."""
    return resize_image(cut(case.arrays["image"], crop, AIR[case.modality]), crop.shape)


def phantom_image(
    case: Case, crop: Crop, rng: np.random.Generator
) -> tuple[torch.Tensor, npt.NDArray[np.uint8]]:
    """A phantom drawn in HU, (1, 1, X, Y, Z), and its labels (X, Y, Z)."""
    labels = resize_labels(cut(case.arrays["labels"], crop, 0), crop.shape)
    tissues = resize_labels(cut(case.arrays["tissues"], crop, 0), crop.shape)
    hu = torch.from_numpy(render_hu(labels, tissues, crop.spacing_mm, rng))[None, None]
    return hu, labels


def unit_image(stored: torch.Tensor, modality: str = "CT") -> torch.Tensor:
    """Stored units → network units, float32."""
    to_unit = hu_to_unit if modality == "CT" else mr_to_unit
    return torch.as_tensor(to_unit(stored.numpy()), dtype=torch.float32)


def _triple(values: npt.NDArray[Any]) -> Triple:
    i, j, k = (int(v) for v in values)
    return i, j, k
