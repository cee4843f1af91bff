"""Decoding on several devices: one process for each, every one with its share of the planes.

The processes are started here and end with the block that started them, whatever happens. What they
need (decoder, latents, plans) and what they make (planes of the image, how far they are) goes
through files in a folder that lasts as long. See `worker` for their side.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from monai.apps.generation.maisi.networks.autoencoderkl_maisi import AutoencoderKlMaisi
from safetensors.torch import save_file

from synthct import errors
from synthct.errors import MemoryBudgetError, OutputError, SynthctError
from synthct.models.maisi.decode import ImageSink
from synthct.models.maisi.hu_file import reserve
from synthct.models.maisi.spec import AutoencoderSpec
from synthct.tensors import Image, Latent
from synthct.tiling import heap
from synthct.tiling.budget import Plan, Room
from synthct.tiling.halo import Progress
from synthct.tiling.schedule import Network, arrange

WORKER = "synthct.models.maisi.worker"
_LOOKS_PER_SECOND = 10
_GRACE_SECONDS = 5.0
_KILLED = (-9, 137)  # what a process ends with where the system needed its memory
_CHUNK = 2**24  # voxels handed on at once
_LOOPBACK = {"linux": "lo", "darwin": "lo0"}

Planes = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Piece:
    """A latent (1, c, i, j, k), already divided by the scale factor, and how it is decoded."""

    spec: AutoencoderSpec
    autoencoder: AutoencoderKlMaisi
    latent: Latent
    plan: Plan  # from `plans.decode_plan`, or of any other cut, with its `room.devices`


def decode_on(
    devices: Sequence[str],
    piece: Piece,
    *,
    spill_dir: Path | None = None,
    sink: ImageSink | None = None,
    progress: Progress | None = None,
) -> Image | None:
    """What `decode` gives, made by several devices; arguments and errors as there."""
    with decoded(devices, [piece], folder=spill_dir, progress=progress) as (image,):
        if sink is None:
            return torch.from_numpy(np.array(image))[None, None]
        _pour(image, piece.plan.axis, sink)
        return None


def _pour(image: Planes, axis: int, sink: ImageSink) -> None:
    extent = image.shape[axis]
    step = max(1, _CHUNK * extent // image.size)
    for start in range(0, extent, step):
        cut = start, min(start + step, extent)
        slab = np.take(image, range(*cut), axis)
        sink(0, cut, axis, torch.from_numpy(slab)[None, None])


@contextmanager
def decoded(
    devices: Sequence[str],
    pieces: Sequence[Piece],
    *,
    folder: Path | None = None,
    progress: Progress | None = None,
) -> Iterator[list[Planes]]:
    """The images (X, Y, Z) of all pieces, float32, in files that go when the block ends.

    Args:
        devices: names, e.g. cuda:0, cuda:1; the same CPU may be named several times.
        folder: where the files lie; the system's temporary folder if None.
        progress: called with (done, total) as all devices together go on.

    Raises:
        MemoryBudgetError: a device ran out of memory with the smallest plan.
        OutputError: the files cannot be made, or the disk is full.
    """
    with _workplace(folder) as place:
        images = _laid_out(place, devices, pieces, folder)
        for device in devices:
            heap.release(torch.device(device))  # a worker on the same device needs the memory
        with _Crew(devices, place) as crew:
            crew.watch(progress)
        yield images
        del images


@contextmanager
def _workplace(folder: Path | None) -> Iterator[Path]:
    try:
        place = Path(tempfile.mkdtemp(prefix="synthct-devices-", dir=folder))
    except OSError as error:
        raise OutputError(f"no folder for several devices: {error.strerror}") from error
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _laid_out(
    place: Path, devices: Sequence[str], pieces: Sequence[Piece], spill: Path | None
) -> list[Planes]:
    """Everything that the workers read, and the empty files that they fill."""
    names: dict[AutoencoderKlMaisi, str] = {}
    images, jobs = [], []
    try:
        for number, piece in enumerate(pieces):
            if piece.autoencoder not in names:
                names[piece.autoencoder] = f"decoder-{number}.safetensors"
                save_file(_decoder(piece.autoencoder), place / names[piece.autoencoder])
            latent = piece.latent.detach().cpu().contiguous()
            save_file({"latent": latent}, place / f"latent-{number}.safetensors")
            shape = [n * piece.spec.factor for n in latent.shape[2:]]
            images.append(_empty(place / f"image-{number}.f32", shape))
            jobs.append(
                {
                    "spec": asdict(piece.spec),
                    "decoder": names[piece.autoencoder],
                    "shape": shape,
                    "plan": plan_words(piece.plan),
                }
            )
        _empty(place / "progress.i64", [len(devices), 2], np.int64)
    except OSError as error:
        raise OutputError(f"no files for several devices: {error.strerror}") from error
    threads = max(1, torch.get_num_threads() // len(devices))
    words = {
        "devices": list(devices),
        "threads": threads,
        "spill": None if spill is None else str(spill),
        "pieces": jobs,
    }
    (place / "job.json").write_text(json.dumps(words), encoding="utf-8")
    return images


def _decoder(autoencoder: AutoencoderKlMaisi) -> dict[str, torch.Tensor]:
    every = autoencoder.state_dict()
    wanted = [name for name in every if name.startswith(("decoder.", "post_quant_conv."))]
    return {name: every[name].detach().cpu().contiguous() for name in wanted}


def _empty(path: Path, shape: Sequence[int], kind: Any = np.float32) -> Any:
    with path.open("wb") as file:
        reserve(file, prod(shape) * np.dtype(kind).itemsize)
    return np.memmap(path, dtype=kind, mode="r+", shape=tuple(shape))


def plan_words(plan: Plan) -> dict[str, Any]:
    """A plan in JSON's words; its schedule follows from the kept boundaries."""
    return {
        "kept": sorted(plan.schedule.kept),
        "cuts": plan.cuts,
        "itemsize": plan.itemsize,
        "room": asdict(plan.room),
        "spilled": sorted(plan.spilled),
        "axis": plan.axis,
    }


def plan_of(words: dict[str, Any], network: Network) -> Plan:
    """The inverse of `plan_words`."""
    return Plan(
        arrange(network, words["kept"]),
        tuple(tuple((first, stop) for first, stop in step) for step in words["cuts"]),
        words["itemsize"],
        Room(**words["room"]),
        frozenset(words["spilled"]),
        words["axis"],
    )


class _Crew:
    """The processes; at the end of the block none of them is left."""

    def __init__(self, devices: Sequence[str], place: Path) -> None:
        self._devices, self._place = devices, place
        self._workers: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> _Crew:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        if sys.platform in _LOOPBACK:  # they talk on this machine only
            environment.setdefault("GLOO_SOCKET_IFNAME", _LOOPBACK[sys.platform])
        try:
            for rank in range(len(self._devices)):
                command = [sys.executable, "-W", "ignore", "-m", WORKER]
                command += [str(self._place), str(rank)]
                self._workers.append(
                    # A worker ends by itself when its standard input does: with this process.
                    subprocess.Popen(command, stdin=subprocess.PIPE, env=environment)
                )
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.terminate()
        for worker in self._workers:
            try:
                worker.wait(_GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.wait()
            with suppress(OSError):
                if worker.stdin is not None:
                    worker.stdin.close()

    def watch(self, progress: Progress | None) -> None:
        """Until all have ended well.

        Raises:
            SynthctError: what a worker came to grief with.
        """
        path, shape = self._place / "progress.i64", (len(self._devices), 2)
        told = np.memmap(path, dtype=np.int64, mode="r", shape=shape)
        codes = [worker.poll() for worker in self._workers]
        while any(code is None for code in codes):
            if any(codes):
                raise self._trouble(codes)
            total = int(told[:, 1].max())
            if progress is not None and total:
                progress(min(int(told[:, 0].sum()), total), total)
            time.sleep(1 / _LOOKS_PER_SECOND)
            codes = [worker.poll() for worker in self._workers]
        if any(codes):
            raise self._trouble(codes)
        if progress is not None:
            progress(total := int(told[:, 1].max()), total)

    def _trouble(self, codes: list[int | None]) -> SynthctError:
        """The first that is told; a neighbour's end may have been noticed before its cause."""
        deadline = time.monotonic() + 1
        tales: list[Path] = []
        while not tales and time.monotonic() < deadline:
            tales = sorted(self._place.glob("error-*.json"))
            time.sleep(1 / _LOOKS_PER_SECOND)
        if tales:
            return _retold(json.loads(tales[0].read_text(encoding="utf-8")))
        rank = next(rank for rank, code in enumerate(codes) if code)
        if any(code in _KILLED for code in codes):
            return MemoryBudgetError(
                "the system ended a worker, as it does where memory runs out",
                "pass a smaller --max-memory, or fewer devices",
            )
        return SynthctError(
            f"the worker on {self._devices[rank]} ended with code {codes[rank]}",
            "its own words stand above",
        )


def _retold(words: dict[str, Any]) -> SynthctError:
    """The error that a worker has written down."""
    kind = getattr(errors, words["kind"], SynthctError)
    if issubclass(kind, MemoryBudgetError):
        return MemoryBudgetError(words["message"], words["hint"], minimum=words.get("minimum"))
    error: SynthctError = kind(words["message"], words["hint"])
    return error
