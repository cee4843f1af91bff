"""`synthct train`: a task, a recipe and prepared data → weights that `generate` can use."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from monai.apps.generation.maisi.networks.autoencoderkl_maisi import AutoencoderKlMaisi
from torch import nn

from synthct.checkpoints.load import load_into, read_metadata, read_tensors, write_tensors
from synthct.errors import MissingWeights, TrainingError, UsageError
from synthct.models.load import SCALE_FACTOR
from synthct.models.maisi.latent_task import LatentTask
from synthct.models.maisi.networks import build_autoencoder
from synthct.models.maisi.recipes import MaisiRecipe, recipe
from synthct.models.maisi.spec import MaisiSpec, preset
from synthct.models.maisi.vae_task import VaeTask
from synthct.training.loop import fit
from synthct.training.task import Recipe
from synthct.workflows.progress import Progress, SilentProgress

SCALE_BATCHES = 24


@dataclass(frozen=True)
class Trained:
    """What a run left behind: files by role, ready for `generate --weights`."""

    task: str
    steps: int
    files: Mapping[str, Path]

    def as_dict(self) -> dict[str, object]:
        return {
            "task": self.task,
            "steps": self.steps,
            "files": {role: str(path) for role, path in self.files.items()},
        }


def train(
    task: str,
    *,
    data_folder: Path | str,
    output: Path | str,
    recipe_name: str = "mini",
    settings: Mapping[str, str] | None = None,
    start: Path | str | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> Trained:
    """Train one stage. Later stages read the earlier ones' weights from `start`.

    Args:
        task: `maisi-vae`, `maisi-diffusion` or `maisi-controlnet`.
        data_folder: what `synthct prepare` made.
        output: checkpoints and log; the weights are written here as `{role}.safetensors`.
        settings: `key=value` of the recipe, as text.
        start: folder with the weights of the stages before; `output` by default. A ControlNet
            that lies there too is where the ControlNet stage goes on from.

    Raises:
        UsageError: an unknown task, recipe or setting; a checkpoint without `resume`.
        MissingWeights: a stage before has not been trained.
        TrainingError: the run became NaN.
    """
    chosen = recipe(task, recipe_name)
    loop = with_settings(chosen.loop, settings or {})
    output, progress = Path(output), progress or SilentProgress()
    start = output if start is None else Path(start)
    stage = _stage(task, dataclasses.replace(chosen, loop=loop), Path(data_folder), start)
    with progress.stage(task, loop.steps) as advance:
        networks = fit(stage, loop, output / task, resume=resume, advance=advance, say=progress.say)
    files = {role: output / f"{role}.safetensors" for role in networks}
    metadata = {"task": task, "recipe": recipe_name, "steps": str(loop.steps)}
    if isinstance(stage, LatentTask):
        metadata[SCALE_FACTOR] = repr(stage.scale_factor)
    for role, network in networks.items():
        write_half(files[role], network, metadata)
    return Trained(task, loop.steps, files)


def write_half(path: Path, network: nn.Module, metadata: Mapping[str, str]) -> None:
    """Store a network's tensors as float16.

    Raises:
        TrainingError: a value does not fit.
    """
    half = {key: value.detach().half() for key, value in network.state_dict().items()}
    if not all(bool(torch.isfinite(value).all()) for value in half.values()):
        raise TrainingError(f"{path.name}: a weight does not fit into float16")
    write_tensors(path, half, dict(metadata), overwrite=True)


def with_settings(loop: Recipe, settings: Mapping[str, str]) -> Recipe:
    """`loop` with some fields replaced, each read as the type that it has.

    Raises:
        UsageError: no such field, or a value that is none of its type.
    """
    fields = {field.name: getattr(loop, field.name) for field in dataclasses.fields(loop)}
    changes: dict[str, Any] = {}
    for name, text in settings.items():
        if name not in fields:
            raise UsageError(f"no setting {name!r}", f"one of: {', '.join(fields)}")
        changes[name] = _read(name, text, type(fields[name]))
    return dataclasses.replace(loop, **changes)


def _read(name: str, text: str, kind: type) -> object:
    try:
        if kind is bool:
            return {"true": True, "false": False}[text.lower()]
        return kind(text)
    except (ValueError, KeyError):
        raise UsageError(f"{name}={text}: {kind.__name__} expected") from None


def _stage(task: str, chosen: MaisiRecipe, folder: Path, start: Path) -> VaeTask | LatentTask:
    spec, loop = preset(chosen.preset), chosen.loop
    if task == "maisi-vae":
        return VaeTask(
            spec,
            folder / "images",
            loop.seed,
            bfloat16=loop.bfloat16,
            phantoms=folder / "pairs" if (folder / "pairs").is_dir() else None,
        )
    autoencoder = load_into(lambda: build_autoencoder(spec.autoencoder), _weights(start, "vae"))
    controlled = task == "maisi-controlnet"
    unet = _weights(start, "unet") if controlled else None
    factor = scale_factor(spec, autoencoder, folder) if unet is None else _stated(unet)
    stage = LatentTask(
        spec,
        folder / "pairs",
        autoencoder,
        factor,
        controlled,
        seed=loop.seed,
        bfloat16=loop.bfloat16,
    )
    if unet is not None:
        grown = start / "controlnet.safetensors"
        stage.begin_from(_floats(unet), _floats(grown) if grown.is_file() else None)
    return stage


def _floats(path: Path) -> dict[str, torch.Tensor]:
    return {key: value.float() for key, value in read_tensors(path).items()}


def scale_factor(spec: MaisiSpec, autoencoder: AutoencoderKlMaisi, folder: Path) -> float:
    """1 / standard deviation of the latents of some crops: what diffusion multiplies them with."""
    scans = VaeTask(spec, folder / "images", seed=1)
    with torch.no_grad():
        latents = [autoencoder.encode(scans.batch(n))[0].flatten() for n in range(SCALE_BATCHES)]
    return float(1.0 / torch.cat(latents).std())


def _stated(unet: Path) -> float:
    return float(read_metadata(unet)[SCALE_FACTOR])


def _weights(folder: Path, role: str) -> Path:
    path = folder / f"{role}.safetensors"
    if not path.is_file():
        raise MissingWeights(
            f"{path} not found: this stage begins from the one before",
            "train that first, or point --from to its folder",
        )
    return path


__all__ = ["Trained", "train"]
