"""The autoencoder beside the best linear code of its rate, on the validation scans.

    python benchmarks/linear_code.py DATA --model maisi-mini-ct --spacing 3

DATA is a folder that `synthct prepare` made. The linear code keeps, of every block of 4x4x4 voxels,
as many principal components as the autoencoder has numbers for it; it is fitted on the training
scans' blocks in the body. PSNR in the body (over -500 HU; MR: over 5 % of the range), range 1; the
autoencoder's mean error there, in HU or per mille of MR's range; the deviation of its latent.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from monai.apps.generation.maisi.networks.autoencoderkl_maisi import AutoencoderKlMaisi
from safetensors.torch import load_file

from synthct.models.maisi import data
from synthct.models.maisi.networks import build_autoencoder
from synthct.models.maisi.spec import MaisiSpec, preset
from synthct.models.maisi.vae_validation import BODY_ABOVE

SIDE = 4
RANGE = {"CT": 2000.0, "MR": 1000.0}
Floats = npt.NDArray[np.floating]
ROOT = Path(__file__).resolve().parents[1]


def volume(path: Path, spacing_mm: float, multiple: int) -> tuple[Floats, str]:
    """In network units at `spacing_mm`, padded with air; and its modality."""
    case = data.Case(path)
    stored = case.arrays["image"]
    extent_mm = np.array(stored.shape) * case.spacing_mm
    i, j, k = (max(1, round(float(n))) for n in extent_mm / spacing_mm)
    unit = data.unit_image(data.resize_image(stored, (i, j, k)), case.modality)[0, 0].numpy()
    return np.pad(unit, [(0, -n % multiple) for n in unit.shape]), case.modality


def blocks(image: Floats) -> Floats:
    """(blocks, 64)."""
    i, j, k = (n // SIDE for n in image.shape)
    apart = image.reshape(i, SIDE, j, SIDE, k, SIDE).transpose(0, 2, 4, 1, 3, 5)
    return apart.reshape(-1, SIDE**3)


def joined(parts: Floats, shape: tuple[int, ...]) -> Floats:
    i, j, k = (n // SIDE for n in shape)
    apart = parts.reshape(i, j, k, SIDE, SIDE, SIDE).transpose(0, 3, 1, 4, 2, 5)
    return apart.reshape(shape)


class LinearCode:
    """Principal components of the blocks of some volumes, wherever one of their voxels is body."""

    def __init__(self, paths: list[Path], spacing_mm: float, kept: int, multiple: int) -> None:
        total, products, count = np.zeros(SIDE**3), np.zeros((SIDE**3, SIDE**3)), 0
        for path in paths:
            image, modality = volume(path, spacing_mm, multiple)
            every = blocks(image)
            own = every[(every > BODY_ABOVE[modality]).any(1)].astype(np.float64)
            total, products, count = total + own.sum(0), products + own.T @ own, count + len(own)
        self.mean = total / count
        spread = products / count - np.outer(self.mean, self.mean)
        self.axes = np.linalg.eigh(spread)[1][:, ::-1][:, :kept]

    def __call__(self, image: Floats) -> Floats:
        code = (blocks(image) - self.mean) @ self.axes
        return joined(code @ self.axes.T + self.mean, image.shape)


def psnr_db(made: Floats, image: Floats, body: npt.NDArray[np.bool_]) -> float:
    return float(-10 * np.log10(np.mean((made.clip(0, 1) - image)[body] ** 2)))


@torch.inference_mode()
def there_and_back(autoencoder: AutoencoderKlMaisi, image: Floats) -> tuple[Floats, float]:
    """The image again, and the deviation of its latent."""
    mean, _ = autoencoder.encode(torch.from_numpy(image)[None, None])
    back: Floats = autoencoder.decode(mean)[0, 0].numpy()
    return back, float(mean.std())


def loaded(folder: Path, spec: MaisiSpec) -> AutoencoderKlMaisi:
    network = build_autoencoder(spec.autoencoder)
    tensors = load_file(folder / "vae.safetensors")
    network.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    return network.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default="maisi-mini-ct", help="an embedded one")
    parser.add_argument("--weights", type=Path, help="a folder with vae.safetensors")
    parser.add_argument("--spacing", type=float, default=3.0, help="mm")
    options = parser.parse_args()
    spec = preset(options.model.removeprefix("maisi-"))
    vae = spec.autoencoder
    autoencoder = loaded(options.weights or ROOT / "weights" / options.model, spec)
    kept = SIDE**3 * vae.latent_channels // vae.factor**3
    multiple = max(SIDE, spec.grid_multiple)
    train = sorted((options.data / "images").glob("*.npz"))
    linear = LinearCode(train, options.spacing, kept, multiple)
    linear_title = f"linear, {kept} of {SIDE**3}, dB"
    print(f"| {options.spacing:g} mm | {linear_title} | autoencoder, dB | mean error | deviation |")
    print("|---|---|---|---|---|")
    rows = []
    for path in sorted((options.data / "validation").glob("*.npz")):
        image, modality = volume(path, options.spacing, multiple)
        body = image > BODY_ABOVE[modality]
        back, deviation = there_and_back(autoencoder, image)
        error = RANGE[modality] * float((back.clip(0, 1) - image)[body].mean())
        found = [psnr_db(one, image, body) for one in (linear(image), back)]
        rows.append([*found, error, deviation])
        print(_row(path.stem, rows[-1]), flush=True)
    print(_row("mean", list(np.mean(rows, axis=0))))


def _row(name: str, values: list[float]) -> str:
    linear_db, own_db, error, deviation = values
    return f"| {name} | {linear_db:.2f} | {own_db:.2f} | {error:.1f} | {deviation:.2f} |"


if __name__ == "__main__":
    main()
