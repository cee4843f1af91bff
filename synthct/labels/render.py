"""Draw a CT from a label map: for training pairs only, never for what a user asked for.

Each call draws another patient: contrast phase, organ means, bone density, noise. The numbers stand
in `appearance.toml`. Generation itself is the model's work (`synthct generate`).
"""

from __future__ import annotations

import functools
import sys
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from synthct.errors import MaskError
from synthct.geometry import Shape, Spacing
from synthct.labels.groups import BODY, BONES, LUNG_LOBES

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Labels = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float32]

AIR_HU = -1000.0
TISSUES = ("none", "fat", "muscle", "skin", "visceral_fat", "gas")
_FAT, _MUSCLE, _SKIN, _GAS = 1, 2, 3, 5
_PHASES = ("plain", "arterial", "portal")
_COLON = 62
_PERSONAL_SD_HU = 4.0  # of one organ against the others of its row


@dataclass(frozen=True)
class Patient:
    """One draw: HU of each label id (256 entries) and of each tissue (6), cortex and marrow."""

    phase: str
    hu: Floats
    tissue_hu: Floats
    cortex_hu: float
    marrow_hu: float


def render_hu(
    labels: Labels, tissues: Labels | None, spacing_mm: Spacing, rng: np.random.Generator
) -> Floats:
    """A CT in HU (float32, −1000..1000) that a scanner might have made of `labels`.

    Args:
        labels: MAISI ids with the body as 200, (i, j, k) RAS.
        tissues: what the voxels labelled 200 are (`TISSUES` by number); None: it is made up, fat
            outside, muscle by bones and lungs, skin around.
        spacing_mm: voxel size.
        rng: the only source of randomness: the same state gives the same image.

    Raises:
        MaskError: not a 3D uint8 map, or a tissue map of another shape.
    """
    _check(labels, tissues)
    patient = draw_patient(rng)
    if tissues is None:
        tissues = _made_up_tissues(labels, spacing_mm, rng)
    hu = patient.hu[labels]
    rest = labels == BODY
    hu[rest] = patient.tissue_hu[tissues[rest]]
    _marble(hu, rest & np.isin(tissues, (1, 4)), spacing_mm, rng)
    _draw_bones(hu, labels, patient, spacing_mm, rng)
    _draw_lungs(hu, labels, spacing_mm, rng)
    _draw_colon(hu, labels, rng)
    gas = (tissues == _GAS) & (labels > 0)
    hu[gas] = patient.tissue_hu[_GAS]
    return _scanned(hu, labels > 0, spacing_mm, rng)


def draw_patient(rng: np.random.Generator) -> Patient:
    """Phase and HU means; structures that share a row of the table vary together."""
    table = appearance()
    weights = np.array([table["phases"][p] for p in _PHASES])
    phase = int(rng.choice(len(_PHASES), p=weights / weights.sum()))
    hu = np.full(256, 40.0, np.float32)
    hu[0] = AIR_HU
    for row in table["structures"]:
        mean = row["hu"][phase]
        sd = row["sd"] + abs(mean) * row.get("relative_sd", 0.0)
        own = rng.normal(0, _PERSONAL_SD_HU, len(row["ids"]))
        hu[row["ids"]] = mean + rng.normal(0, sd) + own
    tissue = [rng.normal(*table["tissues"][name]) for name in TISSUES]
    density = rng.normal()
    cortex, marrow = (
        (m + s * density) for m, s in (table["bone"][k] for k in ("cortex", "marrow"))
    )
    return Patient(_PHASES[phase], hu, np.array(tissue, np.float32), cortex, max(marrow, 60.0))


@functools.cache
def appearance() -> dict[str, Any]:
    """The table `appearance.toml`."""
    text = resources.files("synthct.labels").joinpath("appearance.toml").read_text("utf-8")
    return tomllib.loads(text)


def smooth_noise(shape: Shape, sigma_voxels: float, rng: np.random.Generator) -> Floats:
    """Gaussian noise of unit variance with a correlation length of `sigma_voxels`.

    Long lengths are drawn on a coarse grid and interpolated.
    """
    step = max(1, int(sigma_voxels))
    small = tuple(n // step + 3 for n in shape)
    noise = rng.standard_normal(small, dtype=np.float32)
    if sigma_voxels / step > 0.2:
        noise = ndimage.gaussian_filter(noise, sigma_voxels / step)
    noise = np.asarray(noise / max(float(noise.std()), 1e-6), np.float32)
    for axis, n in enumerate(shape if step > 1 else ()):
        at = np.arange(n, dtype=np.float32) / step
        low = at.astype(np.intp)
        part = (at - low).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(3)])
        noise = noise.take(low, axis) * (np.float32(1) - part) + noise.take(low + 1, axis) * part
    i, j, k = shape
    return np.asarray(noise[:i, :j, :k], np.float32)


def _check(labels: Labels, tissues: Labels | None) -> None:
    if labels.ndim != 3 or labels.dtype != np.uint8:
        raise MaskError(f"labels: 3D uint8 needed, {labels.ndim}D {labels.dtype} received")
    if tissues is not None and tissues.shape != labels.shape:
        raise MaskError(f"tissues of shape {tissues.shape} for labels of shape {labels.shape}")


def _members(labels: Labels, ids: tuple[int, ...]) -> Mask:
    table = np.zeros(256, bool)
    table[list(ids)] = True
    return np.asarray(table[labels])


def _made_up_tissues(labels: Labels, spacing_mm: Spacing, rng: np.random.Generator) -> Labels:
    """Muscle near bones, lungs and muscles, in a wavy layer; fat elsewhere; a line of skin."""
    firm = _members(labels, (*BONES, *LUNG_LOBES, *range(98, 108)))
    sigma = [7.0 / s for s in spacing_mm]
    near = ndimage.gaussian_filter(firm.astype(np.float32), sigma, truncate=2.5)
    waves = smooth_noise(labels.shape, 8.0 / min(spacing_mm), rng)
    tissues = np.full(labels.shape, _FAT, np.uint8)
    tissues[near + 0.05 * waves > rng.uniform(0.1, 0.2)] = _MUSCLE
    inner = ndimage.binary_erosion(labels > 0, border_value=1)
    tissues[(labels > 0) & ~inner] = _SKIN
    return tissues


def _marble(hu: Floats, fat: Mask, spacing_mm: Spacing, rng: np.random.Generator) -> None:
    """Strands and small vessels in fat: thin sheets where two smooth fields cross zero."""
    sigma = max(1.2, 3.0 / min(spacing_mm))
    field = smooth_noise(hu.shape, sigma, rng)
    strands = fat & (np.abs(field) < 0.06)
    hu[strands] += np.float32(rng.uniform(30, 80))


def _draw_bones(
    hu: Floats, labels: Labels, patient: Patient, spacing_mm: Spacing, rng: np.random.Generator
) -> None:
    """Cortex at the surface, marrow inside; the shell is about 2.5 mm, at least a voxel.

    The voxel below is marrow already: at 3 mm, vertebrae of ts-example fall from 239 to 141 HU.
    """
    bone = _members(labels, BONES)
    if not bone.any():
        return
    size = [2 * max(1, round(2.5 / s)) + 1 for s in spacing_mm]
    share = ndimage.uniform_filter(bone.astype(np.float32), size)[bone]
    depth = np.clip((share - 0.62) / 0.28, 0, 1)
    spongy = 1 + 0.2 * smooth_noise(hu.shape, 0.8, rng)[bone]
    cortex = np.where(labels[bone] == 120, 1.35, 1.0) * patient.cortex_hu
    hu[bone] = cortex * (1 - depth) + patient.marrow_hu * depth * spongy


def _draw_lungs(hu: Floats, labels: Labels, spacing_mm: Spacing, rng: np.random.Generator) -> None:
    """Parenchyma with vessels: tubes where two smooth fields both cross zero."""
    lung = _members(labels, LUNG_LOBES)
    if not lung.any():
        return
    table = appearance()["lung"]
    base = rng.normal(*table["mean"]) + 25 * smooth_noise(hu.shape, 6.0, rng)[lung]
    pair = [smooth_noise(hu.shape, max(1.5, 7.0 / min(spacing_mm)), rng)[lung] for _ in range(2)]
    tube = np.clip(1.4 - np.hypot(*pair) / rng.uniform(0.06, 0.12), 0, 1)
    vessel = rng.normal(*table["vessel"])
    hu[lung] = base * (1 - tube) + vessel * tube


def _draw_colon(hu: Floats, labels: Labels, rng: np.random.Generator) -> None:
    """Contents of the colon: mottled."""
    colon = labels == _COLON
    if colon.any():
        hu[colon] += 35 * smooth_noise(hu.shape, 1.5, rng)[colon]


def _scanned(hu: Floats, body: Mask, spacing_mm: Spacing, rng: np.random.Generator) -> Floats:
    """Partial volume, a slow bias and correlated noise; air outside keeps a little noise."""
    table = appearance()["noise"]
    hu = ndimage.gaussian_filter(hu, rng.uniform(*table["blur_voxels"]), truncate=3)
    sd = rng.uniform(*table["sd"])
    noise = smooth_noise(hu.shape, rng.uniform(*table["correlation_voxels"]), rng)
    bias = smooth_noise(hu.shape, max(4.0, 60.0 / min(spacing_mm)), rng)
    noise *= np.where(body, np.float32(sd), np.float32(10.0))
    hu += noise
    hu += np.float32(table["bias"] / 2) * np.clip(bias, -2, 2) * body
    return np.asarray(np.clip(hu, AIR_HU, -AIR_HU, out=hu), np.float32)
