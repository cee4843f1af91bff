"""`synthct train`: a task, a recipe and prepared data → weights that `generate` can use."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from synthct.atomic import replacing, write_text
from synthct.checkpoints.load import write_tensors
from synthct.errors import InputError, TrainingError, UsageError
from synthct.models.load import SCALE_FACTOR, SKIP, pick_device
from synthct.models.maisi.networks import build_autoencoder
from synthct.models.maisi.recipes import MaisiRecipe, recipe
from synthct.models.maisi.unit_latents import unit_latents
from synthct.models.maisi.vae_task import VaeTask
from synthct.record import platform_summary, sha256_of, versions
from synthct.training.loop import Fitted, fit
from synthct.training.settings import with_settings
from synthct.training.task import Validated
from synthct.training.team import Team, own_device
from synthct.training.team import team as join_team
from synthct.volume.manifest import FILE_NAME
from synthct.workflows.encoding import PRESET
from synthct.workflows.progress import Progress, SilentProgress
from synthct.workflows.training_stages import SCALE_BATCHES, Stage, build_stage

RECORD = "run.json"


@dataclass(frozen=True)
class Trained:
    """What a run left behind: files by role, ready for `generate --weights`."""

    task: str
    steps: int
    files: Mapping[str, Path]
    notes: tuple[str, ...] = ()
    stopped: bool = False
    """By a signal, before its end: there is a checkpoint, but there are no new weights."""
    leads: bool = True
    """Whether this is the process of a run that logs, saves and speaks."""

    def as_dict(self) -> dict[str, object]:
        return {
            "task": self.task,
            "steps": self.steps,
            "files": {role: str(path) for role, path in self.files.items()},
            "notes": list(self.notes),
            "stopped": self.stopped,
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
    device: str = "cpu",
    progress: Progress | None = None,
) -> Trained:
    """Train one stage, alone or as one of the processes that `torchrun` started.

    Later stages read the earlier ones' weights from `start`.

    Args:
        task: `maisi-vae`, `maisi-diffusion` or `maisi-controlnet`.
        data_folder: what `synthct prepare` made.
        output: checkpoints and log; the weights are written here as `{role}.safetensors`.
        settings: `key=value` of the recipe, as text.
        start: folder with the weights of the stages before; `output` by default. Weights of this
            stage that lie there too are where it goes on from (with `start` given).
        device: where to train; with torchrun, `cuda` is each process's own.

    Raises:
        UsageError: an unknown task, recipe or setting; a checkpoint without `resume`.
        MissingWeights: a stage before has not been trained.
        TrainingError: the run became NaN.
    """
    where = own_device(pick_device(device))
    with join_team(where) as team:
        return _train(
            task,
            recipe_name,
            with_settings(recipe(task, recipe_name), settings or {}),
            Path(data_folder),
            Path(output),
            Path(start) if start else None,
            resume=resume,
            team=team,
            device=where,
            progress=progress if progress and team.leads else SilentProgress(),
        )


def _train(
    task: str,
    recipe_name: str,
    chosen: MaisiRecipe,
    data_folder: Path,
    output: Path,
    start: Path | None,
    *,
    resume: bool,
    team: Team,
    device: torch.device,
    progress: Progress,
) -> Trained:
    stage = build_stage(task, chosen, data_folder, start, output)
    _require_validation(chosen, stage, data_folder)
    chosen = _by_epochs(chosen, stage, team)
    loop = chosen.loop
    if isinstance(stage, VaeTask):
        batches = loop.steps * loop.accumulate * team.size
        stage.later_voxels = chosen.crops.later_voxels
        stage.later_from = int(chosen.crops.later_from * batches)
    for note in stage.notes:
        progress.say(note)
    if resume:
        _require_same_skip(output / task / RECORD, stage)
    if team.leads:
        _write_record(output / task, task, recipe_name, chosen, stage, data_folder)
    with progress.stage(task, loop.steps) as advance:
        fitted = fit(
            stage,
            loop,
            output / task,
            resume=resume,
            advance=advance,
            say=progress.say,
            team=team,
            device=device,
        )
    if fitted.stopped or not team.leads:
        return Trained(task, fitted.step, {}, stage.notes, fitted.stopped, team.leads)
    files = {role: output / f"{role}.safetensors" for role in fitted.networks}
    metadata = {
        "task": task,
        "recipe": recipe_name,
        "steps": str(fitted.step),
        PRESET: chosen.preset,
    }
    if isinstance(stage, VaeTask):
        if start is None:  # those who go on from a VAE may have a U-Net for its latents
            progress.say(_unit_latents(fitted, stage, progress))
    else:
        metadata[SCALE_FACTOR] = repr(stage.scale_factor)
        if stage.spec.skip:
            metadata[SKIP] = "true"
    for role, weights in fitted.weights.items():
        write_half(files[role], weights, metadata)
    kept = _taken_along(task, loop.trainable, start, output, files)
    return Trained(task, fitted.step, files | kept, stage.notes)


def _taken_along(
    task: str, trainable: str, start: Path | None, output: Path, made: Mapping[str, Path]
) -> dict[str, Path]:
    """Copies of what `start` has and this stage leaves valid, so that `output` generates.

    A VAE stays as it is in the later stages. What was trained on an encoder's latents goes on
    being right where only the decoder moved.
    """
    if start is None or start.resolve() == output.resolve():
        return {}
    if task != "maisi-vae":
        roles = ["vae"]
    else:
        roles = ["unet", "controlnet"] if trainable == "decoder" else []
    found = {}
    for role in roles:
        source = start / f"{role}.safetensors"
        if role not in made and source.is_file():
            found[role] = output / source.name
            with replacing(found[role], overwrite=True) as temporary:
                shutil.copyfile(source, temporary)
    return found


def _unit_latents(fitted: Fitted, stage: VaeTask, progress: Progress) -> str:
    """Give the averaged VAE's latents unit deviation; how it is shared out, in a line."""
    vae = build_autoencoder(stage.spec.autoencoder)
    vae.load_state_dict(fitted.weights["vae"])
    seen = replace(stage, seed=stage.seed + 1)
    progress.say(f"bringing latents to unit deviation, over {SCALE_BATCHES} crops")
    with progress.stage("unit latents", 2 * SCALE_BATCHES) as advance:
        crops = (seen.batch(n) for n in range(SCALE_BATCHES))
        shares = unit_latents(vae.eval(), crops, advance)
    fitted.weights["vae"] = vae.state_dict()
    told = ", ".join(f"{share:.2f}" for share in shares)
    return f"latents brought to unit deviation, by channel {told}"


def _require_validation(chosen: MaisiRecipe, stage: Stage, data_folder: Path) -> None:
    """Refuse to judge by an empty fold."""
    if not chosen.loop.validate_every or not isinstance(stage, Validated):
        return
    if not any((data_folder / "validation").glob("*.npz")):
        raise InputError(
            f"validate_every={chosen.loop.validate_every}, but {data_folder}/validation is empty",
            "synthct prepare … --exclude FILE keeps scans for it; or --set validate_every=0",
        )


def _by_epochs(chosen: MaisiRecipe, stage: Stage, team: Team) -> MaisiRecipe:
    """The recipe with its steps counted, where it gives epochs."""
    loop = chosen.loop
    if not loop.epochs:
        return chosen
    a_step = loop.accumulate * team.size
    steps = max(1, -(-loop.epochs * stage.examples // a_step))
    return dataclasses.replace(chosen, loop=dataclasses.replace(loop, steps=steps))


def write_half(
    path: Path, network: nn.Module | Mapping[str, torch.Tensor], metadata: Mapping[str, str]
) -> None:
    """Store the tensors of a network, or of its state, as float16.

    Raises:
        TrainingError: a value does not fit.
    """
    state = network.state_dict() if isinstance(network, nn.Module) else network
    half = {key: value.detach().half().cpu() for key, value in state.items()}
    if not all(bool(torch.isfinite(value).all()) for value in half.values()):
        raise TrainingError(f"{path.name}: a weight does not fit into float16")
    write_tensors(path, half, dict(metadata), overwrite=True)


def _require_same_skip(record: Path, stage: Stage) -> None:
    """Else a run would go on to another target, and its header be wrong of half of it."""
    if not record.is_file():
        return
    was, now = bool(json.loads(record.read_text()).get(SKIP, False)), stage.spec.skip
    if was != now:
        setting = f"skip={str(was).lower()}"
        raise UsageError(
            f"{record.parent} was begun with {setting}, not with {str(now).lower()}",
            f"resume with the same --from, or where there was none with --set {setting}",
        )


def _write_record(
    folder: Path, task: str, name: str, chosen: MaisiRecipe, stage: Stage, data_folder: Path
) -> None:
    """`run.json`: what this run is, before its first step."""
    manifest = data_folder / FILE_NAME
    record: dict[str, Any] = {
        "task": task,
        "recipe": name,
        "settings": dataclasses.asdict(chosen),
        SKIP: stage.spec.skip,
        "notes": list(stage.notes),
        "manifest_sha256": sha256_of(manifest) if manifest.is_file() else None,
        "versions": versions(),
        "platform": platform_summary(),
    }
    write_text(folder / RECORD, json.dumps(record, indent=2) + "\n", overwrite=True)


__all__ = ["Trained", "train", "with_settings"]
