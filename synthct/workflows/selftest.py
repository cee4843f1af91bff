"""`synthct selftest decode`: tiled equals whole, on this machine, for its device and precision.

A MAISI autoencoder with random weights decodes and encodes latents of awkward sizes twice: MONAI's
network at once, and slab by slab. float32 must agree to 3e-6 of relative L2 (or be no further from
a float64 run than 2.5 times MONAI's own distance), bfloat16 storage to 0.012.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from monai.apps.generation.maisi.networks.autoencoderkl_maisi import AutoencoderKlMaisi
from torch import Tensor, nn

from synthct.errors import UsageError
from synthct.models.load import pick_devices
from synthct.models.maisi.networks import build_autoencoder
from synthct.models.maisi.outline import decoder_outline
from synthct.models.maisi.several import Piece, decoded
from synthct.models.maisi.spec import AutoencoderSpec, preset
from synthct.models.maisi.tiled import planner, smallest
from synthct.models.maisi.translation import decoder_layers, encoder_layers
from synthct.tiling.budget import Room
from synthct.tiling.halo import Planner, run
from synthct.tiling.kernels import full_precision
from synthct.tiling.schedule import schedule
from synthct.workflows.progress import Progress, SilentProgress

EXACT, CLOSE = 3e-6, 0.012
_ROUNDING = 2.5
"""Two float32 results as good as each other are up to twice their distance from float64 apart."""

_THREE_LEVELS = AutoencoderSpec((16, 32, 64), (1, 1, 1), 4, 8)
_SPECS = {"small": _THREE_LEVELS, "published widths": preset("ct-rflow").autoencoder}


@dataclass(frozen=True)
class Task:
    """One comparison; `slabs` None: the smallest plan, which makes maps again."""

    network: str
    part: Literal["decoder", "encoder"]
    shape: tuple[int, int, int]
    slabs: int | None
    axis: int


TASKS = (
    Task("small", "decoder", (1, 1, 1), 1, 0),
    Task("small", "decoder", (1, 7, 3), 5, 0),
    Task("small", "decoder", (7, 5, 3), 3, 0),
    Task("small", "decoder", (5, 11, 4), 7, 1),
    Task("small", "decoder", (6, 5, 13), 11, 2),
    Task("small", "decoder", (8, 8, 8), 64, 1),
    Task("small", "decoder", (13, 6, 5), None, 0),
    Task("small", "decoder", (4, 5, 11), None, 2),
    Task("small", "encoder", (17, 23, 13), 5, 0),
    Task("small", "encoder", (19, 8, 29), 6, 2),
    Task("small", "encoder", (13, 31, 11), None, 1),
    Task("published widths", "decoder", (3, 5, 4), 7, 1),
    Task("published widths", "decoder", (5, 3, 3), None, 0),
)


@dataclass(frozen=True)
class Case:
    """A task's outcome: relative L2 against MONAI, and the most that was allowed."""

    network: str
    part: str
    shape: tuple[int, int, int]
    slabs: int | None
    axis: int
    dtype: str
    error: float
    allowed: float

    @property
    def passed(self) -> bool:
        return self.error <= self.allowed

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "shape": list(self.shape), "passed": self.passed}


@dataclass(frozen=True)
class SelfTest:
    device: str
    dtype: str
    cases: tuple[Case, ...]

    @property
    def passed(self) -> bool:
        return all(case.passed for case in self.cases)

    def as_dict(self) -> dict[str, Any]:
        cases = [case.as_dict() for case in self.cases]
        return {
            "device": self.device,
            "dtype": self.dtype,
            "passed": self.passed,
            "cases": cases,
        }


def selftest_decode(
    device: str = "auto",
    dtype: Literal["float32", "bfloat16"] = "float32",
    *,
    progress: Progress | None = None,
    halo_limit: int | None = None,
) -> SelfTest:
    """Compare tiled with whole for every task.

    Args:
        device: auto, cpu, cuda, cuda:N or mps; several (`cuda:0,cuda:1`) share every decoding.
        dtype: in which maps are held while tiling; MONAI always runs in float32.
        halo_limit: for tests: fewer halo planes than exactness needs, so that it must fail.

    Raises:
        UsageError: a device is absent; a halo is limited on several.
    """
    devices = pick_devices(device)
    name = ",".join(map(str, devices))
    twins = {name: _network(spec).to(devices[0]) for name, spec in _SPECS.items()}
    stage = (progress or SilentProgress()).stage
    cases: list[Case] = []
    made: Iterable[Tensor]
    if len(devices) > 1:
        if halo_limit is not None:
            raise UsageError("--halo is for one device")
        tasks = [task for task in TASKS if task.part == "decoder"]
        with stage("decoding on several devices", 1) as tick:
            made = _by_several(tasks, twins, devices, getattr(torch, dtype))
            tick()
    else:
        tasks = list(TASKS)
        kind = getattr(torch, dtype)
        made = (
            _tiled(twins[task.network], task, _source(task, devices[0]), kind, halo_limit)
            for task in tasks
        )
    with full_precision(), stage("comparing", len(tasks)) as tick:
        for task, got in zip(tasks, made, strict=True):
            cases.append(_case(task, twins[task.network], got, devices[0], dtype))
            tick()
    return SelfTest(name, dtype, tuple(cases))


def _source(task: Task, place: torch.device) -> Tensor:
    channels = _SPECS[task.network].latent_channels if task.part == "decoder" else 1
    generator = torch.Generator().manual_seed(sum(task.shape))
    return torch.randn(1, channels, *task.shape, generator=generator).to(place)


@torch.no_grad()
def _case(
    task: Task, network: AutoencoderKlMaisi, got: Tensor, place: torch.device, dtype: str
) -> Case:
    source = _source(task, place)
    expected = _at_once(network, task.part, source)
    allowed = CLOSE
    if dtype == "float32":
        true = _true(network, task, source)
        allowed = max(EXACT, _ROUNDING * relative_l2(expected, true))
    return Case(
        task.network,
        task.part,
        task.shape,
        task.slabs,
        task.axis,
        dtype,
        relative_l2(got, expected),
        allowed,
    )


def _by_several(
    tasks: list[Task],
    twins: Mapping[str, AutoencoderKlMaisi],
    devices: Sequence[torch.device],
    dtype: torch.dtype,
) -> list[Tensor]:
    """The decoded latents of all tasks, from one process for each device."""
    pieces = []
    for task in tasks:
        turned = list(task.shape)
        turned[0], turned[task.axis] = turned[task.axis], turned[0]
        spec = _SPECS[task.network]
        size = turned[0], turned[1], turned[2]
        todo = schedule(decoder_outline(spec), spec.latent_channels, size)
        plan = _planner(task, devices[0].type, len(devices))(todo, dtype.itemsize)
        source = _source(task, torch.device("cpu"))
        pieces.append(Piece(spec, twins[task.network], source, replace(plan, axis=task.axis)))
    with decoded([str(one) for one in devices], pieces) as images:
        return [torch.from_numpy(np.array(image))[None, None] for image in images]


def _planner(task: Task, kind: str, devices: int = 1) -> Planner:
    room = Room(device=kind, devices=devices, streamed=devices > 1)
    return smallest(room) if task.slabs is None else planner(slabs=task.slabs, room=room)


def _at_once(network: AutoencoderKlMaisi, part: str, source: Tensor) -> Tensor:
    if part == "decoder":
        image: Tensor = network.decode(source)
        return image
    hidden: Tensor = network.encoder(source)
    return hidden


def _tiled(
    network: AutoencoderKlMaisi, task: Task, source: Tensor, dtype: torch.dtype, halo: int | None
) -> Tensor:
    layers = decoder_layers(network) if task.part == "decoder" else encoder_layers(network)
    chosen = _planner(task, source.device.type)
    result = run(layers, source, axis=task.axis, planner=chosen, dtype=dtype, halo_limit=halo)
    assert result is not None  # no sink was given
    return result


def _true(network: AutoencoderKlMaisi, task: Task, source: Tensor) -> Tensor:
    """In float64 on the CPU, where every device's result is held against the same."""
    twin = network.to("cpu")
    once = Task(task.network, task.part, task.shape, 1, 0)
    result = _tiled(twin, once, source.cpu().double(), torch.float64, None)
    network.to(source.device)
    return result


def relative_l2(got: Tensor, expected: Tensor) -> float:
    """Infinite where the shapes differ: voxels were dropped."""
    if got.shape != expected.shape:
        return float("inf")
    ours, theirs = got.double().cpu(), expected.double().cpu()
    return float((ours - theirs).norm() / theirs.norm())


def _network(spec: AutoencoderSpec) -> AutoencoderKlMaisi:
    """Evaluation mode, seeded weights that keep a signal's size, norms away from one."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = build_autoencoder(spec).eval()
        for module in network.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.normal_(module.weight, 0.0, (1.4 / module.weight[0].numel()) ** 0.5)
            if isinstance(module, nn.GroupNorm):
                nn.init.normal_(module.weight, 1.0, 0.1)
                nn.init.normal_(module.bias, 0.0, 0.1)
    return network
