"""One device of several: `python -m synthct.models.maisi.worker FOLDER RANK`. Started by `several`.

It decodes its share of the planes of every piece in the folder into the pieces' images, and ends.
It also ends, and takes the folder along, when its standard input does: the process that started it
is gone.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import threading
import traceback
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from monai.apps.generation.maisi.networks.autoencoderkl_maisi import AutoencoderKlMaisi
from safetensors.torch import load_file

from synthct.atomic import replacing
from synthct.errors import SynthctError, WeightsError
from synthct.models.maisi.networks import build_autoencoder
from synthct.models.maisi.several import plan_of
from synthct.models.maisi.spec import AutoencoderSpec
from synthct.models.maisi.tiled import planner
from synthct.models.maisi.translation import decoder_layers
from synthct.tensors import Slab
from synthct.tiling.cuts import Cut
from synthct.tiling.halo import run
from synthct.tiling.schedule import network
from synthct.tiling.team import Workers

_FAILED = 1
_PATIENCE = timedelta(days=7)
"""A neighbour that is slow is waited for; one that has ended is noticed by `several`."""


def main(folder: Path, rank: int) -> int:
    """Do the share of worker `rank`; return the exit code."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; `several` ends the workers
    threading.Thread(target=_end_with_the_parent, args=(folder,), daemon=True).start()
    try:
        _work(folder, rank)
    except SynthctError as error:
        with replacing(folder / f"error-{rank}.json", overwrite=True) as unfinished:
            unfinished.write_text(json.dumps(error.as_dict()), encoding="utf-8")
        return error.exit_code
    except Exception:
        traceback.print_exc()
        return _FAILED
    return 0


def _end_with_the_parent(folder: Path) -> None:
    while os.read(0, 1):  # without sys.stdin's lock, which the end of the interpreter asks for
        pass
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(_FAILED)


def _work(folder: Path, rank: int) -> None:
    job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    count = len(job["devices"])
    torch.set_num_threads(job["threads"])
    device = torch.device(job["devices"][rank])
    if device.type == "cuda":
        torch.cuda.set_device(device)
    store = dist.FileStore(str(folder / "meeting"), count)  # type: ignore[attr-defined]
    dist.init_process_group("gloo", store=store, rank=rank, world_size=count, timeout=_PATIENCE)
    try:
        for number, piece in enumerate(job["pieces"]):
            told = np.memmap(folder / "progress.i64", dtype=np.int64, mode="r+", shape=(count, 2))[
                rank
            ]
            _decode(folder, number, piece, device, job["spill"], told)
    finally:
        dist.destroy_process_group()


@torch.inference_mode()
def _decode(
    folder: Path,
    number: int,
    piece: dict[str, Any],
    device: torch.device,
    spill: str | None,
    told: np.ndarray[Any, np.dtype[np.int64]],
) -> None:
    spec = _spec(piece["spec"])
    layers = decoder_layers(_decoder(spec, folder / piece["decoder"], device))
    latent = load_file(folder / f"latent-{number}.safetensors")["latent"].to(device)
    axis = piece["plan"]["axis"]
    turned = latent.transpose(2, 2 + axis).shape
    size = turned[2], turned[3], turned[4]
    plan = plan_of(piece["plan"], network(layers, turned[1], size))
    image = np.memmap(
        folder / f"image-{number}.f32", dtype=np.float32, mode="r+", shape=tuple(piece["shape"])
    )

    def write(sample: int, cut: Cut, slab: Slab) -> None:
        place = [slice(None)] * 3
        place[axis] = slice(*cut)
        image[tuple(place)] = slab[0, 0].float().cpu().numpy()

    def progress(done: int, total: int) -> None:
        told[:] = done, total

    run(
        layers,
        latent,
        axis=axis,
        planner=planner(plan=plan, room=plan.room),
        dtype=getattr(torch, plan.dtype),
        sink=write,
        spill_folder=None if spill is None else Path(spill),
        progress=progress,
        team=Workers(),
    )


def _spec(words: dict[str, Any]) -> AutoencoderSpec:
    made: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in words.items()}
    return AutoencoderSpec(**made)


def _decoder(spec: AutoencoderSpec, path: Path, device: torch.device) -> AutoencoderKlMaisi:
    """The network with its decoder alone on `device`; the rest has no memory."""
    with torch.device("meta"):
        autoencoder = build_autoencoder(spec).eval()
    lacking = autoencoder.load_state_dict(
        load_file(path, device=str(device)), strict=False, assign=True
    )
    if any(name.startswith(("decoder.", "post_quant")) for name in lacking.missing_keys):
        raise WeightsError(f"{path.name} holds no whole decoder")
    return autoencoder


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2])))
