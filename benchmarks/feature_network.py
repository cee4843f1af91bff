"""Train `mini-slices`, the embedded feature network, from the shared scans: one command.

    python benchmarks/feature_network.py DATA weights/mini-slices --minutes 10

DATA has ct/CASE/image.nii.gz, mr_brain/CASE/t1.nii.gz and VALIDATION.txt. CT cases are those that
docs/ct-cases.tsv calls `train`; MR those that VALIDATION.txt does not name. With them, phantoms
with drawn HU. A slice of a random plane is zoomed, shifted and now and then blurred, noised or
changed in brightness and contrast. The network learns which plane it is, how it was spoilt, how
much air, fat, soft tissue and bone each sixteenth of the clean slice holds, and, where there are
labels, which organs. Prints a line per 50 steps and the scores on the validation CT at the end.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from synthct.checkpoints.load import write_tensors
from synthct.evaluation.mini_slices import WIDTHS, MiniSlices
from synthct.labels.detect import detect
from synthct.labels.groups import (
    AIRWAYS,
    KIDNEYS,
    LEFT_LUNG_LOBES,
    LIMB_AND_GIRDLE_BONES,
    RIBS,
    RIGHT_LUNG_LOBES,
    VERTEBRAE,
)
from synthct.labels.remap import remap
from synthct.labels.render import render_hu
from synthct.phantom.phantom import make_phantom_with_tissues
from synthct.record import sha256_of
from synthct.volume.intensity import hu_to_unit
from synthct.volume.reading import read_image, read_labels
from synthct.volume.resample import resample_image, resample_labels, to_ras
from synthct.volume.volume import LabelVolume, Volume

SPACING_MM = 2.0
SIDE = 160
ORGANS = (
    (1,), (3,), KIDNEYS, (12,), (62,), (19,), (15,), (115,), LEFT_LUNG_LOBES, RIGHT_LUNG_LOBES,
    (6,), (22,), VERTEBRAE, RIBS, LIMB_AND_GIRDLE_BONES, (97,), AIRWAYS, (121,), (4,), (120,),
)  # fmt: skip
EDGES = (0.25, 0.45, 0.58)  # of the unit range: -500, -100, 160 HU
GRID = 4
COMPLETE = frozenset({"lidc-0001", "ts-example", "ts-dicom-slab"})  # every organ has its label
PHANTOMS = (("chest-abdomen", 9001), ("chest-abdomen", 9002), ("abdomen", 9003), ("head", 9004),
            ("pelvis", 9005), ("chest", 9006))  # fmt: skip


@dataclass
class Scan:
    """A volume on 2 mm in 0..1, float16 RAS; labels on the same grid where all organs have one."""

    name: str
    unit: np.ndarray
    labels: np.ndarray | None
    weight: float


def main() -> None:
    options = _options()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    held_out = _held_out(options.data)
    began = time.perf_counter()
    scans = [*_ct(options.data, held_out, False), *_mr(options.data, held_out), *_phantoms()]
    print(f"{len(scans)} volumes read in {time.perf_counter() - began:.0f} s", flush=True)
    network, heads = MiniSlices(), Heads()
    network = network.to(memory_format=torch.channels_last)
    steps = _train(network, heads, scans, options)
    _standardise(network, scans, options.seed)
    network.eval(), heads.eval()
    options.output.mkdir(parents=True, exist_ok=True)
    file = options.output / "features.safetensors"
    half = {k: v.half() if v.is_floating_point() else v for k, v in network.state_dict().items()}
    write_tensors(file, half, {"name": "mini-slices", "steps": str(steps)}, overwrite=True)
    (options.output / "SHA256SUMS").write_text(
        f"{sha256_of(file)}  {file.name}\n", encoding="utf-8"
    )
    _score(network, heads, [*_ct(options.data, held_out, True)], options.seed)


class Heads(nn.Module):
    """What the last map is asked: tissue by sixteenths, plane, organs, five kinds of spoiling."""

    def __init__(self) -> None:
        super().__init__()
        deep, pooled = WIDTHS[-1], sum(WIDTHS[1:])
        self.tissue = nn.Conv2d(deep, len(EDGES) + 1, 1)
        self.plane = nn.Linear(pooled, 3)
        self.organs = nn.Linear(pooled, len(ORGANS))
        self.spoilt = nn.Linear(pooled, 5)

    def forward(self, maps: list[Tensor]) -> dict[str, Tensor]:
        pooled = torch.cat([m.mean(dim=(2, 3)) for m in maps], dim=1)
        coarse = F.adaptive_avg_pool2d(maps[-1], GRID)
        return {
            "tissue": self.tissue(coarse),
            "plane": self.plane(pooled),
            "organs": self.organs(pooled),
            "spoilt": self.spoilt(pooled),
        }


def _train(
    network: MiniSlices, heads: Heads, scans: list[Scan], options: argparse.Namespace
) -> int:
    rng = np.random.default_rng(options.seed)
    parameters = [*network.parameters(), *heads.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=options.rate, weight_decay=1e-3)
    began, step, seconds = time.perf_counter(), 0, options.minutes * 60
    network.train(), heads.train()
    while (spent := time.perf_counter() - began) < seconds:
        rate = (
            options.rate
            * min(1.0, (step + 1) / 30)
            * 0.5
            * (1 + math.cos(math.pi * spent / seconds))
        )
        for group in optimiser.param_groups:
            group["lr"] = rate
        x, targets = _batch(scans, rng, options.batch)
        losses = _losses(heads(network.maps(x.to(memory_format=torch.channels_last))), targets)
        optimiser.zero_grad(set_to_none=True)
        sum(losses.values()).backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        step += 1
        if step % 50 == 0:
            known = " ".join(f"{k} {float(v):.3f}" for k, v in losses.items())
            print(f"step {step} {time.perf_counter() - began:.0f} s {known}", flush=True)
    return step


def _losses(found: dict[str, Tensor], targets: dict[str, Tensor]) -> dict[str, Tensor]:
    organs = F.binary_cross_entropy_with_logits(
        found["organs"], targets["organs"].clamp_min(0), reduction="none"
    )
    known = (targets["organs"] >= 0).float()
    return {
        "tissue": F.cross_entropy(found["tissue"], targets["tissue"]),
        "plane": 0.5 * F.cross_entropy(found["plane"], targets["plane"]),
        "organs": (organs * known).sum() / known.sum().clamp_min(1),
        "spoilt": F.smooth_l1_loss(found["spoilt"], targets["spoilt"], beta=0.1) * 4,
    }


def _batch(
    scans: list[Scan], rng: np.random.Generator, count: int, spoil: bool = True
) -> tuple[Tensor, dict[str, Tensor]]:
    weights = np.array([scan.weight for scan in scans])
    rows = [
        _sample(scans[int(rng.choice(len(scans), p=weights / weights.sum()))], rng, spoil)
        for _ in range(count)
    ]
    targets = {key: torch.stack([row[1][key] for row in rows]) for key in rows[0][1]}
    return torch.stack([row[0] for row in rows]), targets


def _sample(scan: Scan, rng: np.random.Generator, spoil: bool) -> tuple[Tensor, dict[str, Tensor]]:
    axis = int(rng.integers(3))
    length = scan.unit.shape[axis]
    at = int(rng.integers(int(0.08 * length), max(int(0.92 * length), int(0.08 * length) + 1)))
    plane = torch.from_numpy(np.take(scan.unit, at, axis=axis).astype(np.float32))
    ids = None if scan.labels is None else set(np.unique(np.take(scan.labels, at, axis=axis)))
    zoom = float(np.exp(rng.uniform(-0.25, 0.25)))
    if axis == 2 and rng.random() < 0.5:
        plane = plane.flip(0)
    clean = _placed(plane, zoom, rng if spoil else None)
    image, how = _spoilt(clean, rng) if spoil else (clean, [0.0] * 4)
    organs = [-1.0 if ids is None else float(bool(ids & set(group))) for group in ORGANS]
    return image[None], {
        "tissue": _tissue(clean),
        "plane": torch.tensor(axis),
        "organs": torch.tensor(organs),
        "spoilt": torch.tensor([*how, math.log(zoom)]),
    }


def _placed(plane: Tensor, zoom: float, rng: np.random.Generator | None) -> Tensor:
    """Zoomed, padded with air and cropped to SIDE x SIDE, shifted at random."""
    sized = F.interpolate(
        plane[None, None], scale_factor=zoom, mode="bilinear", recompute_scale_factor=True
    )[0, 0]
    room = torch.zeros(SIDE, SIDE)
    slices = []
    for n in sized.shape:
        slack = SIDE - n
        shift = 0 if rng is None else int(rng.integers(-12, 13))
        start = int(np.clip(slack // 2 + shift, min(0, slack), max(0, slack)))
        slices.append((max(start, 0), max(-start, 0), min(n, SIDE)))
    (a, b, n), (c, d, m) = slices
    room[a : a + n, c : c + m] = sized[b : b + n, d : d + m]
    return room


def _spoilt(image: Tensor, rng: np.random.Generator) -> tuple[Tensor, list[float]]:
    """Blur, noise, shift, contrast: each at random or not at all; and how much (about 0..1)."""
    blur, noise, shift, contrast = (float(rng.uniform()) * (rng.random() < 0.4) for _ in range(4))
    if blur:
        image = _blurred(image, 3.0 * blur)
    if contrast:
        contrast *= 1.0 if rng.random() < 0.5 else -1.0
        image = 0.4 + (image - 0.4) * math.exp(0.4 * contrast)
    if shift:
        shift *= 1.0 if rng.random() < 0.5 else -1.0
        image = image + 0.12 * shift
    if noise:
        image = image + 0.1 * noise * torch.from_numpy(
            rng.standard_normal(image.shape, dtype=np.float32)
        )
    return image.clamp(0, 1), [blur, noise, shift, contrast]


def _blurred(image: Tensor, sigma: float) -> Tensor:
    reach = max(1, math.ceil(3 * sigma))
    at = torch.arange(-reach, reach + 1, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (at / sigma) ** 2)
    kernel = kernel / kernel.sum()
    x = F.pad(image[None, None], (reach,) * 4, mode="replicate")
    x = F.conv2d(x, kernel[None, None, :, None])
    return F.conv2d(x, kernel[None, None, None, :])[0, 0]


def _tissue(image: Tensor) -> Tensor:
    """(4, 4, 4): share of air, fat, soft tissue and bone (by value) in each sixteenth."""
    kind = torch.bucketize(image, torch.tensor(EDGES))
    shares = F.one_hot(kind, len(EDGES) + 1).permute(2, 0, 1).float()
    return F.adaptive_avg_pool2d(shares, GRID)


@torch.no_grad()
def _standardise(network: MiniSlices, scans: list[Scan], seed: int) -> None:
    """Centre and spread of each feature over unspoilt training slices."""
    network.eval()
    rng = np.random.default_rng([seed, 1])
    rows = torch.cat([network(_batch(scans, rng, 32, False)[0]) for _ in range(16)])
    network.centre.copy_(rows.mean(0))
    network.spread.copy_(rows.std(0).clamp_min(1e-3))


@torch.no_grad()
def _score(network: MiniSlices, heads: Heads, scans: list[Scan], seed: int) -> None:
    rng = np.random.default_rng([seed, 2])
    batches = [_batch(scans, rng, 32) for _ in range(8)]
    found = [heads(network.maps(x)) for x, _ in batches]
    planes = torch.cat([f["plane"].argmax(1) for f in found])
    truth = torch.cat([t["plane"] for _, t in batches])
    spoilt = torch.cat([f["spoilt"] for f in found])
    amount = torch.cat([t["spoilt"] for _, t in batches])
    tissue = torch.cat([f["tissue"].softmax(1) for f in found])
    shares = torch.cat([t["tissue"] for _, t in batches])
    names = ("blur", "noise", "shift", "contrast", "zoom")
    print(json.dumps({
        "held_out": [scan.name for scan in scans],
        "slices": len(truth),
        "plane_accuracy": round(float((planes == truth).float().mean()), 3),
        "tissue_share_error": round(float((tissue - shares).abs().mean()), 4),
        "correlation": {
            name: round(float(torch.corrcoef(torch.stack([spoilt[:, i], amount[:, i]]))[0, 1]), 3)
            for i, name in enumerate(names)
        },
    }))  # fmt: skip


def _held_out(data: Path) -> frozenset[str]:
    lines = (data / "VALIDATION.txt").read_text(encoding="utf-8").splitlines()
    return frozenset(line.strip() for line in lines if line.strip() and line[0] != "#")


def _ct(data: Path, held_out: frozenset[str], validation: bool) -> list[Scan]:
    if validation:
        names = [n for n in sorted(held_out) if (data / "ct" / n / "image.nii.gz").is_file()]
    else:
        table = Path(__file__).resolve().parents[1] / "docs" / "ct-cases.tsv"
        lines = [line for line in table.read_text(encoding="utf-8").splitlines() if line[:1] != "#"]
        rows = csv.DictReader(lines, delimiter="\t")
        names = [r["case"] for r in rows if r["use"] == "train" and r["case"] not in held_out]
    return [_scan(data / "ct" / n / "image.nii.gz", n, "CT", 2.0) for n in names]


def _mr(data: Path, held_out: frozenset[str]) -> list[Scan]:
    files = sorted((data / "mr_brain").glob("ixi*/t1.nii.gz"))
    kept = [f for f in files if f.parent.name not in held_out]
    return [_scan(f, f.parent.name, "MR", 0.35) for f in kept]


def _scan(path: Path, name: str, modality: str, weight: float) -> Scan:
    volume = to_ras(read_image(path, modality))
    volume = volume.with_array(np.nan_to_num(volume.array, nan=-1000.0))
    grid = volume.geometry.with_spacing((SPACING_MM,) * 3)
    array = resample_image(volume, grid).array
    if modality == "CT":
        unit = hu_to_unit(array)
    else:
        unit = np.clip(array / max(float(np.percentile(array, 99.5)), 1e-6), 0, 1)
    labels = None
    if name in COMPLETE:
        mask = read_labels(path.with_name("labels.nii.gz")).labels
        scheme = detect(mask.ids(), mask.names, "totalsegmentator").scheme
        ids = to_ras(LabelVolume(remap(mask.array, scheme)[0], mask.geometry, "maisi"))
        labels = resample_labels(ids, grid)[0].array
    return Scan(name, unit.astype(np.float16), labels, weight)


def _phantoms() -> list[Scan]:
    made = []
    for region, seed in PHANTOMS:
        labels, tissues = make_phantom_with_tissues(region, (3.0, 3.0, 3.0), seed)
        spacing = labels.geometry.spacing_mm
        hu = render_hu(labels.array, tissues, spacing, np.random.default_rng(seed))
        grid = labels.geometry.with_spacing((SPACING_MM,) * 3)
        unit = hu_to_unit(resample_image(Volume(hu, labels.geometry), grid).array)
        ids = resample_labels(labels, grid)[0].array
        made.append(Scan(f"phantom-{seed}", unit.astype(np.float16), ids, 1.5))
    return made


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    main()
