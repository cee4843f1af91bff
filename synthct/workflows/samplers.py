"""Which sampler a model can walk with, and what else sampling needs of the machine. No torch."""

from __future__ import annotations

import os
import shutil

from synthct.checkpoints.catalogue import Entry
from synthct.errors import UsageError
from synthct.workflows.request import Request

_FLOW = ("rflow", "ancestral", "heun", "midpoint", "adams")
_GAUSSIAN = ("ddpm", "ddim", "dpm++")
FITTING_SAMPLERS = {"rflow": _FLOW, "ddpm": _GAUSSIAN, "ddim": _GAUSSIAN}


def require_sampler(request: Request, entry: Entry) -> None:
    """A network trained for one kind of noise cannot walk another's path.

    Raises:
        UsageError: the sampler does not fit the model, or the time steps not the sampler.
    """
    asked = getattr(request, "sampler", None)
    fitting = FITTING_SAMPLERS[entry.sampler]
    if asked not in (None, *fitting):
        raise UsageError(
            f"{entry.name} was not trained for the sampler {asked}",
            f"it takes: {', '.join(fitting)}",
        )
    reference = getattr(request, "time_steps", "exact") == "reference"
    if reference and asked in _FLOW[1:]:
        raise UsageError(
            f"--time-steps reference: the reference has no sampler {asked}",
            f"leave out --sampler, or take exact time steps with {asked}",
        )


def require_compiler(device: str) -> None:
    """torch.compile builds C++ for a CPU.

    Raises:
        UsageError: no compiler is there.
    """
    if device == "cpu" and not any(map(shutil.which, (os.environ.get("CXX", "g++"), "clang++"))):
        raise UsageError("--compile needs a C++ compiler on a CPU", "install g++, or leave it out")
