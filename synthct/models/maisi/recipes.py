"""Training recipes of the family: typed, each with its cost and its score."""

from __future__ import annotations

from dataclasses import dataclass, replace

from synthct.errors import UsageError
from synthct.training.task import Recipe

TASKS = ("maisi-vae", "maisi-diffusion", "maisi-controlnet")


@dataclass(frozen=True)
class MaisiRecipe:
    """A loop's recipe, and the preset of the networks that it trains."""

    preset: str
    loop: Recipe


_MINI: dict[str, Recipe] = {
    "maisi-vae": Recipe(
        steps=1000,
        learning_rate=3e-4,  # from the nearly linear start; 1e-3 shakes the levels of volumes
        warmup_steps=50,
        ema_decay=0.998,
        save_every=100,
    ),
    "maisi-diffusion": Recipe(
        steps=600,
        learning_rate=8e-4,
        ema_decay=0.998,
        save_every=100,
    ),
    "maisi-controlnet": Recipe(
        steps=4400,
        learning_rate=8e-4,
        ema_decay=0.998,
        save_every=100,
    ),
}


def recipe(task: str, name: str) -> MaisiRecipe:
    """The recipe `name` of `task`: `mini` (the embedded default) or `tiny` (a smoke test).

    Raises:
        UsageError: there is no such task or recipe; what exists is listed.
    """
    if task not in TASKS:
        raise UsageError(f"no training task {task!r}", f"one of: {', '.join(TASKS)}")
    if name == "mini":
        return MaisiRecipe("mini-ct", _MINI[task])
    if name == "tiny":
        return MaisiRecipe("tiny", replace(_MINI[task], steps=4, save_every=2, log_every=1))
    raise UsageError(f"no recipe {name!r} for {task}", "one of: mini, tiny")
