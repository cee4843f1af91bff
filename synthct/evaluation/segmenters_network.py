"""Networks that segment: what they are shown, and how their answer comes back to the grid."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from synthct.errors import InputError
from synthct.volume.nifti import write_volume
from synthct.volume.resample import resample_image, resample_labels
from synthct.volume.volume import LabelVolume, Volume

Runner = Callable[[Volume], npt.NDArray[Any]]
"""A `Volume` in RAS → the network's own ids on the same grid."""

_SPACING_MM = (1.5, 1.5, 1.5)
_WINDOW_HU = (-1000.0, 1000.0)
_ROI = (96, 96, 96)


def script_runner(path: Path, settings: Mapping[str, Any], device: str) -> Runner:
    """A TorchScript network (1, 1, i, j, k) in 0..1 → (1, classes, i, j, k), window by window.

    Args:
        path: the file.
        settings: `spacing_mm`, `window_hu` (its ends become 0 and 1), `roi`, where they differ
            from 1.5 mm, −1000..1000 and 96³.
        device: where it runs.

    Raises:
        InputError: no TorchScript file; settings that are no three numbers.
    """
    import torch

    spacing_mm = _numbers(settings, "spacing_mm", _SPACING_MM, path)
    roi = [int(n) for n in _numbers(settings, "roi", _ROI, path)]
    low, high = _numbers(settings, "window_hu", _WINDOW_HU, path)
    try:
        network = torch.jit.load(str(path), map_location=device).eval()
    except (RuntimeError, ValueError, OSError) as error:
        raise InputError(f"{path}: no TorchScript network", "torch.jit.save writes one") from error

    def run(volume: Volume) -> npt.NDArray[Any]:
        from monai.inferers import sliding_window_inference

        grid = volume.geometry.with_spacing((spacing_mm[0], spacing_mm[1], spacing_mm[2]))
        shown = np.clip((resample_image(volume, grid).array - low) / (high - low), 0, 1)
        with torch.inference_mode():
            tensor = torch.from_numpy(np.ascontiguousarray(shown, np.float32))[None, None]
            scores = sliding_window_inference(tensor.to(device), roi, 1, network, overlap=0.25)
        return _back(_decided(scores), volume, grid)

    return run


def bundle_runner(folder: Path, device: str) -> tuple[Runner, dict[int, str]]:
    """A MONAI bundle: its own preprocessing, network and inferer; and the names of its channels.

    Raises:
        InputError: a folder that is no bundle, or lacks its weights or the names of its labels.
    """
    parser = _bundle(folder)
    names = _channels(parser, folder)
    network = _bundle_network(parser, folder, device)
    steps, inferer = (parser.get_parsed_content(key) for key in ("preprocessing", "inferer"))

    def run(volume: Volume) -> npt.NDArray[Any]:
        import tempfile

        import torch
        from monai.transforms import Invertd

        with tempfile.TemporaryDirectory() as work, torch.inference_mode():
            path = Path(work) / "image.nii.gz"
            write_volume(path, volume)
            item = steps({"image": str(path)})
            scores = inferer(item["image"][None].to(device), network)
            item["pred"] = item["image"].clone()
            item["pred"].set_array(torch.from_numpy(_decided(scores).astype(np.float32))[None])
            back = Invertd("pred", steps, orig_keys="image", nearest_interp=True)(item)["pred"]
        ids: npt.NDArray[Any] = np.rint(np.asarray(back)[0]).astype(np.uint8)
        if ids.shape != volume.array.shape:
            raise InputError(f"{folder}: its answer has shape {ids.shape}, the image another")
        return ids

    return run, names


def _bundle(folder: Path) -> Any:
    from monai.bundle import ConfigParser

    configs = [folder / "configs" / f"inference.{end}" for end in ("json", "yaml", "yml")]
    found = next((path for path in configs if path.is_file()), None)
    meta = folder / "configs" / "metadata.json"
    if found is None or not meta.is_file():
        raise InputError(
            f"{folder}: no MONAI bundle",
            "it holds configs/inference.json, configs/metadata.json and models/model.pt",
        )
    parser = ConfigParser()
    parser.read_config(str(found))
    parser.read_meta(str(meta))
    parser["bundle_root"] = str(folder)
    return parser


def _channels(parser: Any, folder: Path) -> dict[int, str]:
    outputs = parser.get("_meta_", {}).get("network_data_format", {}).get("outputs", {})
    channels = outputs.get("pred", {}).get("channel_def", {})
    names = {int(key): str(name) for key, name in channels.items() if int(key)}
    if not names:
        raise InputError(f"{folder}: its metadata.json names no labels (channel_def)")
    return names


def _bundle_network(parser: Any, folder: Path, device: str) -> Any:
    from synthct.checkpoints.load import read_tensors

    network = parser.get_parsed_content("network_def")
    network.load_state_dict(read_tensors(folder / "models" / "model.pt"))
    return network.to(device).eval()


def _decided(scores: Any) -> npt.NDArray[Any]:
    """Ids from scores (1, classes, i, j, k); a single channel is cut at a half of its sigmoid."""
    if scores.shape[1] == 1:
        return (scores[0, 0] > 0).cpu().numpy().astype(np.uint8)  # type: ignore[no-any-return]
    return scores[0].argmax(0).cpu().numpy().astype(np.uint8)  # type: ignore[no-any-return]


def _back(ids: npt.NDArray[Any], volume: Volume, grid: Any) -> npt.NDArray[Any]:
    if grid.same_as(volume.geometry):
        return ids
    return resample_labels(LabelVolume(ids, grid), volume.geometry)[0].array


def _numbers(
    settings: Mapping[str, Any], key: str, default: Sequence[float], path: Path
) -> list[float]:
    try:
        values = [float(value) for value in settings.get(key, default)]
    except (TypeError, ValueError):
        values = []
    if len(values) != len(default):
        raise InputError(f"{path}: {key} is not {len(default)} numbers", "see its json file")
    return values
