from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from synthct.errors import DamagedWeights
from synthct.evaluation.lpips import Lpips

SHAPES = {  # of lpips.LPIPS(net="alex")
    "net.slice1.0": (64, 3, 11, 11),
    "net.slice2.3": (192, 64, 5, 5),
    "net.slice3.6": (384, 192, 3, 3),
    "net.slice4.8": (256, 384, 3, 3),
    "net.slice5.10": (256, 256, 3, 3),
}
STRIDES = ((4, 2), (1, 2), (1, 1), (1, 1), (1, 1))


@pytest.fixture(scope="module")
def tensors() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    state: dict[str, Tensor] = {}
    for n, (name, shape) in enumerate(SHAPES.items()):
        fan = shape[1] * shape[2] ** 2
        state[f"{name}.weight"] = torch.randn(shape, generator=generator) * (2 / fan) ** 0.5
        state[f"{name}.bias"] = 0.1 * torch.randn(shape[0], generator=generator)
        state[f"lin{n}.model.1.weight"] = torch.rand((1, shape[0], 1, 1), generator=generator)
        state[f"lins.{n}.model.1.weight"] = state[f"lin{n}.model.1.weight"].clone()
    return state


def _by_hand(state: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
    shift = torch.tensor([-0.030, -0.088, -0.188]).view(1, 3, 1, 1)
    scale = torch.tensor([0.458, 0.448, 0.450]).view(1, 3, 1, 1)
    x, y = (x - shift) / scale, (y - shift) / scale
    total = torch.zeros(len(x))
    for n, (name, (stride, padding)) in enumerate(zip(SHAPES, STRIDES, strict=True)):
        if n in (1, 2):
            x, y = F.max_pool2d(x, 3, 2), F.max_pool2d(y, 3, 2)
        weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
        x, y = (F.relu(F.conv2d(t, weight, bias, stride, padding)) for t in (x, y))
        apart = F.normalize(x, dim=1) - F.normalize(y, dim=1)
        total += F.conv2d(apart**2, state[f"lin{n}.model.1.weight"]).mean(dim=(1, 2, 3))
    return total


def test_it_is_lpips_by_hand(tmp_path: Path, tensors: dict[str, Tensor]) -> None:
    save_file(tensors, tmp_path / "alex.safetensors")
    metric = Lpips.load(tmp_path / "alex.safetensors")
    x, y = torch.rand(2, 2, 3, 70, 66, generator=torch.Generator().manual_seed(1)) * 2 - 1
    with torch.inference_mode():
        assert torch.allclose(metric.network(x, y), _by_hand(tensors, x, y), rtol=1e-4)


def test_the_same_is_zero_and_noise_grows(tmp_path: Path, tensors: dict[str, Tensor]) -> None:
    save_file(tensors, tmp_path / "alex.safetensors")
    metric = Lpips.load(tmp_path / "alex.safetensors")
    rng = np.random.default_rng(0)
    true = np.zeros((24, 24, 24), dtype=np.float32)
    true[6:18, 6:18, 6:18] = 0.5
    noise = rng.standard_normal(true.shape).astype(np.float32)
    values = [metric.distance(true + s * noise, true, every=8) for s in (0.0, 0.02, 0.1)]
    assert values[0] == 0 and values[1] < values[2]
    body = true > 0
    outside = true + np.where(body, 0, noise)
    assert metric.in_body(outside, true, body, every=8) == 0


def test_other_tensors_are_refused(tmp_path: Path, tensors: dict[str, Tensor]) -> None:
    missing = {k: v for k, v in tensors.items() if k != "lin3.model.1.weight"}
    save_file(missing, tmp_path / "alex.safetensors")
    with pytest.raises(DamagedWeights, match=r"lin3\.model\.1\.weight"):
        Lpips.load(tmp_path / "alex.safetensors")
