"""Feature networks by name or by file: `mini-slices`, a ResNet-50, TorchScript, ONNX.

What a network is shown is part of the protocol, so it stands in `Preparation` and in every report.
"""

from __future__ import annotations

import importlib.util
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from synthct.checkpoints.load import load_into, read_tensors
from synthct.checkpoints.places import embedded_folder
from synthct.errors import DamagedWeights, InputError, UsageError
from synthct.evaluation.mini_slices import MiniSlices
from synthct.evaluation.resnet50 import is_resnet50, load_resnet50
from synthct.evaluation.slices import SlicedCase, Slicing
from synthct.record import sha256_of

Features = npt.NDArray[np.float32]
Network = Callable[..., Any]

MINI_SLICES = "mini-slices"
MINI_SLICING = Slicing(spacing_mm=2.0, side=256, share=0.4)
MAISI_SLICING = Slicing(spacing_mm=1.0, side=512, share=0.4, padded=True)
_IMAGENET_BGR = (0.406, 0.456, 0.485)


@dataclass(frozen=True)
class Preparation:
    """From slices in 0..1 to what the network takes.

    Attributes:
        channels: 1, or 3 times the same.
        minmax: each plane of a volume is stretched to 0..1 first (MAISI's script does).
        low, high: what 0 and 1 become.
        mean, std: subtracted from, and divided into, each channel after that.
        size: slices are resized to this side; 0: as they are.
    """

    channels: int = 3
    minmax: bool = False
    low: float = 0.0
    high: float = 1.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    size: int = 0

    def apply(self, unit: Tensor, extremes: tuple[float, float] | None) -> Tensor:
        """(n, side, side) → (n, channels, side, side)."""
        if extremes is not None:
            low, high = extremes
            unit = (unit - low) / (high - low + 1e-10)
        x = (unit * (self.high - self.low) + self.low)[:, None]
        if self.size:
            x = F.interpolate(x, size=(self.size,) * 2, mode="bilinear", antialias=True)
        mean, std = (
            torch.tensor(v, device=x.device).view(1, -1, 1, 1) for v in (self.mean, self.std)
        )
        return (x.expand(-1, self.channels, -1, -1) - mean) / std


@dataclass(frozen=True, eq=False)
class Extractor:
    """A network with its name, the hash of its file, and what it is shown."""

    name: str
    sha256: str
    network: Network
    preparation: Preparation
    slicing: Slicing
    device: torch.device

    def settings(self) -> dict[str, Any]:
        """What its features depend on, beside the case."""
        return {"network": self.sha256, "preparation": asdict(self.preparation)}

    def features(self, case: SlicedCase, plane: str, batch: int) -> Features:
        """(slices, d) of one plane; maps are averaged over their pixels.

        Raises:
            InputError: the network does not take such slices, or gives no finite numbers.
        """
        extremes = case.extremes(plane) if self.preparation.minmax else None
        rows = []
        for stack in case.batches(plane, batch):
            unit = torch.from_numpy(stack).to(self.device)
            with torch.inference_mode():
                rows.append(self._run(self.preparation.apply(unit, extremes)))
        found: Features = torch.cat(rows).float().cpu().numpy()
        if not np.isfinite(found).all():
            raise InputError(f"{self.name} gives features that are not finite")
        return found

    def _run(self, x: Tensor) -> Tensor:
        try:
            return _pooled(self.network(x), len(x))
        except (RuntimeError, ValueError, TypeError, KeyError) as error:
            raise InputError(
                f"{self.name} does not take slices {tuple(x.shape)}: {_reason(error)}",
                "say what it takes, e.g. --feature-option channels=1 --feature-option size=299, "
                "or --batch 1",
            ) from error


def load_extractor(
    features: str, options: Mapping[str, str], slicing: Mapping[str, Any], device: str
) -> Extractor:
    """The network called `features`.

    Args:
        features: `mini-slices`, or a file: `.safetensors`, `.pt`, `.pth` (a ResNet-50's tensors, or
            TorchScript), `.ts`, `.torchscript`, `.onnx`.
        options: fields of `Preparation` as text.
        slicing: fields of `Slicing` that differ from what the network was made for.
        device: torch's name of it.

    Raises:
        UsageError: no such name or option; ONNX without onnxruntime.
        WeightsError: the file is missing, damaged or no feature network.
    """
    place = torch.device(device)
    if features == MINI_SLICES:
        found = _mini(place)
    else:
        path = Path(features)
        if not path.is_file():
            raise UsageError(
                f"no feature network {features!r}",
                f"accepted: {MINI_SLICES}, or a .safetensors, TorchScript or .onnx file",
            )
        found = _of_file(path, place)
    return replace(
        found,
        preparation=_with(found.preparation, options),
        slicing=replace(found.slicing, **slicing),
    )


def _mini(device: torch.device) -> Extractor:
    path = embedded_folder(MINI_SLICES) / "features.safetensors"
    network = load_into(MiniSlices, path, dtype=torch.float32).to(device)
    preparation = Preparation(channels=1)
    return Extractor(MINI_SLICES, sha256_of(path), network, preparation, MINI_SLICING, device)


def _of_file(path: Path, device: torch.device) -> Extractor:
    digest, preparation = sha256_of(path), Preparation()
    if path.suffix == ".onnx":
        network: Network = _onnx(path)
    elif path.suffix in (".ts", ".torchscript") or is_torchscript(path):
        network = load_torchscript(path, device)
    else:
        tensors = read_tensors(path)
        if not is_resnet50(tensors):
            raise DamagedWeights(
                f"{path} holds tensors of no network that is known here",
                "tensors alone: a ResNet-50; any other network as TorchScript or ONNX",
            )
        network = load_resnet50(tensors, path).to(device)
        preparation = Preparation(minmax=True, mean=_IMAGENET_BGR)
    return Extractor(path.name, digest, network, preparation, MAISI_SLICING, device)


def is_torchscript(path: Path) -> bool:
    """By its content: an archive with code in it."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any("/code/" in name for name in archive.namelist())


def load_torchscript(path: Path, device: torch.device) -> Network:
    try:
        module: Network = torch.jit.load(str(path), map_location=device).eval()
    except (RuntimeError, ValueError) as error:
        raise DamagedWeights(f"{path} is no TorchScript that can be read") from error
    return module


def _onnx(path: Path) -> Network:
    if importlib.util.find_spec("onnxruntime") is None:
        raise UsageError(
            f"{path.name}: ONNX files need the package onnxruntime, which is not installed",
            "install it, or give the network as TorchScript",
        )
    runtime = importlib.import_module("onnxruntime")
    try:
        session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions share no class of their own
        raise DamagedWeights(f"{path} is no ONNX file that can be read: {_reason(error)}") from None
    name = session.get_inputs()[0].name

    def run(x: Tensor) -> Tensor:
        try:
            found = session.run(None, {name: x.cpu().numpy()})[0]
        except Exception as error:
            raise ValueError(_reason(error)) from error
        return torch.from_numpy(np.asarray(found))

    return run


def _reason(error: Exception) -> str:
    """The last line of what a library said."""
    lines = str(error).strip().splitlines()
    return lines[-1][:200] if lines else "no reason given"


def _pooled(output: Any, count: int) -> Tensor:
    """(n, d) of whatever a network returns: its first output, maps averaged over pixels."""
    while not isinstance(output, Tensor):
        output = next(iter(output.values())) if isinstance(output, dict) else output[0]
    if output.ndim > 2:
        output = output.flatten(2).mean(dim=2)
    if output.ndim != 2 or len(output) != count:
        raise ValueError(f"{tuple(output.shape)} came out, (slices, features) are needed")
    rows: Tensor = output
    return rows


def _with(preparation: Preparation, options: Mapping[str, str]) -> Preparation:
    parsed: dict[str, Any] = {}
    kinds: dict[str, Callable[[str], Any]] = {
        "channels": int,
        "size": int,
        "low": float,
        "high": float,
        "minmax": _yes,
    }
    for key, text in options.items():
        try:
            if key in ("mean", "std"):
                parsed[key] = tuple(float(v) for v in text.split(","))
            else:
                parsed[key] = kinds[key](text)
        except KeyError:
            known = ", ".join([*kinds, "mean", "std"])
            raise UsageError(f"no feature option {key!r}", f"accepted: {known}") from None
        except ValueError:
            raise UsageError(f"feature option {key}={text}: no such value") from None
    made = replace(preparation, **parsed)
    if made.channels not in (1, 3) or any(v == 0 for v in made.std):
        raise UsageError("feature options: channels is 1 or 3, and std never 0")
    return made


def _yes(text: str) -> bool:
    if text not in ("yes", "no"):
        raise ValueError(text)
    return text == "yes"
