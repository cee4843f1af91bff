"""Feature networks: strict layouts, and an independent forward pass of the ResNet-50."""

from __future__ import annotations

import importlib.util
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from synthct.checkpoints.places import embedded_folder
from synthct.errors import DamagedWeights, InputError, UsageError
from synthct.evaluation.extractors import load_extractor
from synthct.evaluation.resnet50 import KERAS_EPSILON, load_resnet50
from synthct.evaluation.slices import SlicedCase, Slicing

BLOCKS = (3, 4, 6, 3)
SMALL = {"side": 64, "padded": False}


def _state(bias: bool) -> dict[str, Tensor]:
    """A ResNet-50's tensors under torchvision's names, told from its description alone."""
    generator = torch.Generator().manual_seed(0)
    state: dict[str, Tensor] = {}

    def convolution(name: str, channels_in: int, channels: int, kernel: int) -> None:
        scale = (2 / (channels_in * kernel**2)) ** 0.5
        shape = (channels, channels_in, kernel, kernel)
        state[f"{name}.weight"] = torch.randn(shape, generator=generator) * scale
        if bias:
            state[f"{name}.bias"] = 0.1 * torch.randn(channels, generator=generator)

    def norm(name: str, channels: int) -> None:
        state[f"{name}.weight"] = 0.5 + torch.rand(channels, generator=generator)
        state[f"{name}.bias"] = 0.1 * torch.randn(channels, generator=generator)
        state[f"{name}.running_mean"] = 0.1 * torch.randn(channels, generator=generator)
        state[f"{name}.running_var"] = 0.5 + torch.rand(channels, generator=generator)

    convolution("conv1", 3, 64, 7)
    norm("bn1", 64)
    channels_in = 64
    for layer, (blocks, width) in enumerate(zip(BLOCKS, (64, 128, 256, 512), strict=True), 1):
        for block in range(blocks):
            at = f"layer{layer}.{block}"
            sizes = ((channels_in, width, 1), (width, width, 3), (width, 4 * width, 1))
            for number, size in enumerate(sizes, 1):
                convolution(f"{at}.conv{number}", *size)
                norm(f"{at}.bn{number}", size[1])
            if block == 0:
                convolution(f"{at}.downsample.0", channels_in, 4 * width, 1)
                norm(f"{at}.downsample.1", 4 * width)
            channels_in = 4 * width
    return state


def _forward(state: dict[str, Tensor], x: Tensor, keras: bool) -> Tensor:
    """He (2015) by hand; the stride of a block is in its 3 x 3, in Keras in its first 1 x 1."""

    def layer(name: str, norm: str, x: Tensor, stride: int = 1, padding: int = 0) -> Tensor:
        x = F.conv2d(x, state[f"{name}.weight"], state.get(f"{name}.bias"), stride, padding)
        known = [state[f"{norm}.{k}"] for k in ("running_mean", "running_var", "weight", "bias")]
        return F.batch_norm(x, *known, eps=KERAS_EPSILON if keras else 1e-5)

    x = F.max_pool2d(F.relu(layer("conv1", "bn1", x, 2, 3)), 3, 2, 1)
    for number, blocks in enumerate(BLOCKS, 1):
        for block in range(blocks):
            at = f"layer{number}.{block}"
            stride = 2 if block == 0 and number > 1 else 1
            first, second = (stride, 1) if keras else (1, stride)
            y = F.relu(layer(f"{at}.conv1", f"{at}.bn1", x, first))
            y = F.relu(layer(f"{at}.conv2", f"{at}.bn2", y, second, 1))
            y = layer(f"{at}.conv3", f"{at}.bn3", y)
            if block == 0:
                x = layer(f"{at}.downsample.0", f"{at}.downsample.1", x, stride)
            x = F.relu(x + y)
    return x


def test_the_keras_port_strides_and_adds_as_keras() -> None:
    state = _state(bias=True)
    x = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        found = load_resnet50(state, Path("w.pt"))(x)
        expected = _forward(state, x, keras=True)
    assert found.shape == (1, 2048, 2, 2)
    assert torch.allclose(found, expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))


def test_radimagenets_own_names_are_the_same_network(tmp_path: Path) -> None:
    state = _state(bias=False)
    places = {"conv1": "0", "bn1": "1", "layer1": "4", "layer2": "5", "layer3": "6", "layer4": "7"}
    renamed = {}
    for key, value in state.items():
        head, rest = key.split(".", 1)
        renamed[f"backbone.{places[head]}.{rest}"] = value
    path = tmp_path / "ResNet50.pt"
    torch.save(renamed, path)
    extractor = load_extractor(str(path), {}, SMALL, "cpu")
    assert extractor.preparation.minmax and extractor.preparation.mean == (0.406, 0.456, 0.485)
    shown = SlicedCase(_volume(), (-1000, 1000), Slicing(2.0, 64, 0.1))
    features = extractor.features(shown, "axial", 2)
    unit = torch.from_numpy(np.concatenate(list(shown.batches("axial", 9))))
    stretched = (unit - unit.min()) / (unit.max() - unit.min())
    x = stretched[:, None] - torch.tensor([0.406, 0.456, 0.485]).view(1, 3, 1, 1)
    with torch.inference_mode():
        expected = _forward(state, x, keras=False).mean(dim=(2, 3))
    assert np.allclose(features, expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))


@pytest.mark.parametrize("change", ["missing", "unexpected", "shape"])
def test_a_key_amiss_is_named(tmp_path: Path, change: str) -> None:
    state = _state(bias=False)
    if change == "missing":
        del state["layer3.2.bn1.weight"]
    elif change == "unexpected":
        state["layer3.9.bn1.weight"] = torch.zeros(3)
    else:
        state["layer3.2.bn1.weight"] = torch.zeros(3)
    path = tmp_path / "w.safetensors"
    save_file(state, path)
    with pytest.raises(DamagedWeights, match=r"layer3\.[29]\.bn1\.weight"):
        load_extractor(str(path), {}, SMALL, "cpu")


class _Pixels(nn.Module):
    """A network whose features can be told without it: mean and mean of squares per channel."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x.mean(dim=(2, 3)), x.square().mean(dim=(2, 3))], dim=1)


def test_torchscript_is_shown_what_was_asked(tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    torch.jit.script(_Pixels()).save(str(path))
    options = {"channels": "3", "low": "0", "high": "255", "mean": "1,2,3", "std": "2"}
    extractor = load_extractor(str(path), options, SMALL, "cpu")
    shown = SlicedCase(_volume(), (-1000, 1000), Slicing(2.0, 64, 0.2))
    features = extractor.features(shown, "coronal", 3)
    slices = np.concatenate(list(shown.batches("coronal", 9))).astype(np.float64)
    expected = [(255 * slices.mean((1, 2)) - m) / 2 for m in (1, 2, 3)]
    assert np.allclose(features[:, :3], np.stack(expected, 1), rtol=1e-4)


def test_a_network_that_takes_other_slices_says_so(tmp_path: Path) -> None:
    path = tmp_path / "net.ts"
    torch.jit.script(nn.Conv2d(5, 2, 3)).save(str(path))
    extractor = load_extractor(str(path), {}, SMALL, "cpu")
    with pytest.raises(InputError, match="does not take slices"):
        extractor.features(SlicedCase(_volume(), (0, 1), Slicing(2.0, 64, 0.1)), "axial", 4)


@pytest.mark.skipif(
    importlib.util.find_spec("onnxruntime") is not None, reason="onnxruntime is installed"
)
def test_onnx_without_its_runtime_is_one_clear_line(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(b"onnx")
    with pytest.raises(UsageError, match="onnxruntime, which is not installed"):
        load_extractor(str(path), {}, {}, "cpu")


def _onnx(path: Path, network: nn.Module, shape: tuple[int, ...], free: bool) -> str:
    """`network` exported; a batch and sides of any size where `free`."""
    pytest.importorskip("onnxruntime", reason="onnxruntime, which runs ONNX files, is not here")
    pytest.importorskip("onnx", reason="onnx, which torch exports with, is not here")
    axes = {"x": {0: "n", 2: "h", 3: "w"}} if free else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network.eval(), (torch.rand(shape),), str(path), input_names=["x"],
            output_names=["y"], dynamic_axes=axes, dynamo=False,
        )  # fmt: skip
    return str(path)


def test_the_same_network_as_onnx_and_as_torchscript_gives_the_same_features(
    tmp_path: Path,
) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 5, stride=2), nn.ReLU(), nn.Conv2d(8, 6, 3)).eval()
    exported = _onnx(tmp_path / "net.onnx", network, (2, 3, 64, 64), free=True)
    torch.jit.script(network).save(str(tmp_path / "net.ts"))
    shown = SlicedCase(_volume(), (-1000, 1000), Slicing(2.0, 64, 0.2))
    found, same = (
        load_extractor(path, {}, SMALL, "cpu").features(shown, "axial", 4)
        for path in (exported, str(tmp_path / "net.ts"))
    )
    assert found.shape[1] == 6
    assert np.allclose(found, same, atol=1e-4)


def test_onnx_files_that_cannot_be_used_say_why(tmp_path: Path) -> None:
    network = nn.Conv2d(1, 4, 3)
    narrow = _onnx(tmp_path / "one.onnx", network, (1, 1, 64, 64), free=False)
    extractor = load_extractor(narrow, {"channels": "1"}, SMALL, "cpu")
    shown = SlicedCase(_volume(), (-1000, 1000), Slicing(2.0, 64, 0.1))
    assert extractor.features(shown, "axial", 1).shape[1] == 4
    with pytest.raises(InputError, match="does not take slices") as told:
        extractor.features(shown, "axial", 4)
    assert "--batch 1" in told.value.hint
    (tmp_path / "broken.onnx").write_bytes(b"onnx")
    with pytest.raises(DamagedWeights, match="no ONNX file"):
        load_extractor(str(tmp_path / "broken.onnx"), {}, SMALL, "cpu")


@pytest.mark.parametrize("given", [{"colour": "3"}, {"channels": "two"}, {"std": "0"}])
def test_options_that_make_no_sense(given: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="feature option"):
        load_extractor("mini-slices", given, {}, "cpu")


def test_names_and_files_that_are_no_network(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no feature network"):
        load_extractor("inception", {}, {}, "cpu")
    save_file({"a": torch.zeros(2)}, tmp_path / "w.safetensors")
    with pytest.raises(DamagedWeights, match="no network that is known"):
        load_extractor(str(tmp_path / "w.safetensors"), {}, {}, "cpu")


def test_the_batch_changes_nothing() -> None:
    extractor = load_extractor("mini-slices", {}, SMALL, "cpu")
    shown = SlicedCase(_volume(), (-1000, 1000), Slicing(2.0, 64, 0.4))
    one, many = (extractor.features(shown, "axial", batch) for batch in (1, 7))
    assert one.shape == (len(range(14, 33)), 192)
    assert np.allclose(one, many, atol=1e-4)


def test_the_embedded_file_is_the_one_of_its_checksum() -> None:
    folder = embedded_folder("mini-slices")
    written = (folder / "SHA256SUMS").read_text(encoding="utf-8").split()[0]
    extractor = load_extractor("mini-slices", {}, {}, "cpu")
    assert extractor.sha256 == written
    assert (folder / "features.safetensors").stat().st_size < 4 << 20


def _volume() -> np.ndarray:
    rng = np.random.default_rng(0)
    unit = np.zeros((48, 48, 48), dtype=np.float32)
    unit[8:40, 6:42, :] = 0.5 + 0.1 * rng.standard_normal((32, 36, 48), dtype=np.float32)
    return unit.clip(0, 1)
