"""Training recipes of the family: typed, each with its cost and its score."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from synthct.errors import UsageError
from synthct.models.maisi.vae_loss import VaeLoss
from synthct.training.task import Recipe

TASKS = ("maisi-vae", "maisi-diffusion", "maisi-controlnet")
NAMES = ("mini", "mini-mr", "tiny", "tiny-mr")


@dataclass(frozen=True)
class Crops:
    """What is cut out of the scans for a batch."""

    voxels: int
    size_factors: tuple[float, ...]
    """Crops hold `voxels` times one of these, up to whole volumes: GroupNorm must meet both."""
    spacing_range_mm: tuple[float, float] = (2.0, 5.0)
    phantom_share: float = 0.2
    """Of the batches; none where no phantoms were prepared."""


@dataclass(frozen=True)
class MaisiRecipe:
    """A loop's recipe, the preset of the networks that it trains, its crops and its loss."""

    preset: str
    loop: Recipe
    crops: Crops
    vae: VaeLoss = field(default_factory=VaeLoss)


_VAE_CROPS = Crops(48 * 48 * 32, (0.5, 1.0, 1.0, 2.0, 4.0))
_LATENT_CROPS = Crops(64 * 64 * 60, (0.5, 0.5, 1.0, 1.0, 3.0), phantom_share=0.35)
_HEAD = 96 * 128 * 128
"""Voxels of a whole head at 2 mm."""
_MR_CROPS = Crops(_HEAD, (1.0,), spacing_range_mm=(2.0, 2.0), phantom_share=0.0)

_MINI: dict[str, MaisiRecipe] = {
    "maisi-vae": MaisiRecipe(
        "mini-ct",
        Recipe(
            steps=1000,
            learning_rate=3e-4,  # from the nearly linear start; 1e-3 shakes the levels of volumes
            warmup_steps=50,
            ema_decay=0.998,
            save_every=100,
        ),
        _VAE_CROPS,
    ),
    "maisi-diffusion": MaisiRecipe(
        "mini-ct",
        Recipe(steps=600, learning_rate=8e-4, ema_decay=0.998, save_every=100),
        _LATENT_CROPS,
    ),
    "maisi-controlnet": MaisiRecipe(
        "mini-ct",
        Recipe(steps=4400, learning_rate=8e-4, ema_decay=0.998, save_every=100),
        _LATENT_CROPS,
    ),
}
_MINI_MR: dict[str, MaisiRecipe] = {
    "maisi-vae": MaisiRecipe(
        "mini-mr",
        replace(_MINI["maisi-vae"].loop, steps=1500, learning_rate=1e-3),
        replace(_MR_CROPS, voxels=48 * 64 * 64, size_factors=(0.5, 1.0, 1.0, 2.0, 8.0)),
        VaeLoss(soft_window=0.0, kl_controlled=True),
    ),
    "maisi-diffusion": MaisiRecipe(
        "mini-mr",
        Recipe(steps=4000, learning_rate=5e-4, ema_decay=0.998, save_every=100),
        _MR_CROPS,
    ),
}
_RECIPES = {"mini": _MINI, "mini-mr": _MINI_MR}


def recipe(task: str, name: str) -> MaisiRecipe:
    """The recipe `name` of `task`: `mini` (the embedded default), or `tiny` (a smoke test).

    Raises:
        UsageError: there is no such task or recipe; what exists is listed.
    """
    if task not in TASKS:
        raise UsageError(f"no training task {task!r}", f"one of: {', '.join(TASKS)}")
    found = _RECIPES.get(name.replace("tiny", "mini"), {}).get(task)
    if found is None or name not in NAMES:
        have = [n for n in NAMES if task in _RECIPES[n.replace("tiny", "mini")]]
        raise UsageError(f"no recipe {name!r} for {task}", f"one of: {', '.join(have)}")
    return _tiny(name, found) if name.startswith("tiny") else found


def _tiny(preset: str, mini: MaisiRecipe) -> MaisiRecipe:
    """A smoke test: every code path, a few steps."""
    return replace(mini, preset=preset, loop=replace(mini.loop, steps=4, save_every=2, log_every=1))
