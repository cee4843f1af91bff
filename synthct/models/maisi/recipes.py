"""Training recipes of the family: typed, each with its cost and its score.

`small` is the embedded CT model (also called `mini`), `mini-mr` the embedded MR model; with
`-decoder` their autoencoders' decoders alone, for texture. `medium` is for a single accelerator,
`published` the networks and the schedule of the MAISI papers. Where we have not made a run its
`cost` and `score` say so.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from synthct.errors import UsageError
from synthct.models.maisi.augment import Augment
from synthct.models.maisi.vae_loss import VaeLoss
from synthct.training.task import Recipe

TASKS = ("maisi-vae", "maisi-diffusion", "maisi-controlnet")
NOT_RUN = "not run by us"


@dataclass(frozen=True)
class Crops:
    """What is cut out of the scans for a batch."""

    voxels: int
    size_factors: tuple[float, ...] = (1.0,)
    """Crops hold `voxels` times one of these, up to whole volumes: GroupNorm must meet both."""
    spacing_range_mm: tuple[float, float] = (2.0, 5.0)
    phantom_share: float = 0.2
    """Of the batches; none where no phantoms were prepared."""
    cubes: bool = False
    """Cut cubes, as the papers do, instead of the whole field of view in plane."""
    sides: tuple[int, int, int] = (0, 0, 0)
    """Of every crop, instead of `voxels` times a factor; 0,0,0: by these. On a CPU a last side of
    32·n is quick.
    """
    later_voxels: int = 0
    """Size of the crops after `later_from` of the run; 0: as before."""
    later_from: float = 1 / 3
    """Share of the run after which crops have `later_voxels` (100 of 300 epochs)."""


@dataclass(frozen=True)
class LatentOptions:
    """Of the diffusion and the ControlNet stage."""

    encoded: bool = False
    """Train on whole pairs that `prepare --encode` made, instead of encoding crops."""
    checkpointing: bool = False
    """Make inner maps again in backward: less memory, a third more time."""
    blind_share: float = 0.1
    """Share of ControlNet steps without the mask, so that the U-Net stays good alone."""
    contrast: float = 0.0
    """Weight of the region-specific contrastive loss."""
    contrast_margin: float = 2.0
    reference_voxels: float = 6000.0
    """A structure of n voxels counts sqrt(reference_voxels / n), from 1 to `most`."""
    most: float = 4.0
    by_image: bool = False
    """Let a channel of the latent count by what its errors cost in the image."""
    air: float = 0.4
    """What air outside the patient counts."""
    l1: bool = False
    """Mean absolute error, as in the papers, instead of the squared one."""
    skip: bool = False
    """Learn what the noisy latent itself does not tell of the velocity (Karras et al. 2022).

    A small network need not pass its input through then. The U-Net's file says which it gives, and
    who goes on from one goes on with that. Networks that learn the noise have no such skip.
    """
    looks: int = 1
    """How often a crop is used once it is encoded, with other noise and masks each time."""
    draws: int = 1
    """Noises put on a crop in one step, at times spread over 0 to 1, where there are masks.

    The mask is embedded once for all, which takes a small model more time than the rest of a step.
    """


@dataclass(frozen=True)
class MaisiRecipe:
    """A loop's recipe, the preset of the networks that it trains, its crops and its loss."""

    preset: str
    loop: Recipe
    crops: Crops
    vae: VaeLoss = field(default_factory=VaeLoss)
    augment: Augment = field(default_factory=Augment)
    latent: LatentOptions = field(default_factory=LatentOptions)


_VAE_CROPS = Crops(64 * 48 * 32, (0.5, 1.0, 1.0, 2.0), phantom_share=0.3)
_VAE_LOSS = VaeLoss(gradient=0.25, squared=60.0)
_LATENT_CROPS = Crops(
    64 * 64 * 60, (0.5, 0.5, 1.0, 1.0, 2.0), spacing_range_mm=(2.0, 4.0), phantom_share=0.5
)
_BY_IMAGE = LatentOptions(by_image=True, looks=4)
_SKIPPED = replace(_BY_IMAGE, skip=True)
_WITH_MASKS = replace(_SKIPPED, draws=8)
_HEAD = 96 * 128 * 128
"""Voxels of a whole head at 2 mm."""
_MR_CROPS = Crops(_HEAD, (1.0,), spacing_range_mm=(2.0, 2.0), phantom_share=0.0)
_MR_VAE_CROPS = replace(_MR_CROPS, voxels=64 * 48 * 32, sides=(64, 48, 32))
_MR_VAE_LOSS = VaeLoss(soft_window=0.0, gradient=0.1, squared=60.0)
_CT_SCORE = "weights/maisi-mini-ct/CARD.md has what the shipped weights reached"
_MR_SCORE = "weights/maisi-mini-mr/CARD.md has what the shipped weights reached"

_SMALL: dict[str, MaisiRecipe] = {
    "maisi-vae": MaisiRecipe(
        "mini-ct",
        Recipe(
            steps=2300,
            learning_rate=4e-4,  # from the linear start; 1e-3 shakes the levels of volumes
            warmup_steps=50,
            ema_decay=0.998,
            save_every=100,
            cost="1.0 s a step on 1 CPU core: 40 minutes",
            score=_CT_SCORE,
        ),
        _VAE_CROPS,
        _VAE_LOSS,
    ),
    "maisi-diffusion": MaisiRecipe(
        "mini-ct",
        Recipe(
            steps=250,
            learning_rate=8e-4,
            ema_decay=0.998,
            save_every=100,
            cost="1 minute on 1 CPU core",
            score=_CT_SCORE,
        ),
        _LATENT_CROPS,
        latent=_SKIPPED,
    ),
    "maisi-controlnet": MaisiRecipe(
        "mini-ct",
        Recipe(
            steps=4400,
            learning_rate=1e-3,
            ema_decay=0.998,
            save_every=100,
            cost="2.4 s a step on 1 CPU core: 3 hours",
            score=_CT_SCORE,
        ),
        _LATENT_CROPS,
        latent=_WITH_MASKS,
    ),
}
_MINI_MR: dict[str, MaisiRecipe] = {
    "maisi-vae": MaisiRecipe(
        "mini-mr",
        Recipe(
            steps=13_000,
            learning_rate=5e-4,
            warmup_steps=50,
            ema_decay=0.998,
            save_every=100,
            cost="0.7 s a step on 1 CPU core: 150 minutes",
            score=_MR_SCORE,
        ),
        _MR_VAE_CROPS,
        _MR_VAE_LOSS,
    ),
    "maisi-diffusion": MaisiRecipe(
        "mini-mr",
        Recipe(
            steps=9200,
            learning_rate=6e-4,
            ema_decay=0.998,
            save_every=100,
            cost="0.7 s a step on 1 CPU core: 105 minutes",
            score=_MR_SCORE,
        ),
        _MR_CROPS,
        latent=_BY_IMAGE,
    ),
}


def _sharper(recipe: MaisiRecipe, steps: int, texture: float) -> MaisiRecipe:
    """The decoder alone, held to the texture of the scans: latents and a U-Net stay valid."""
    cost = "0.8 s a step on 1 CPU core"
    loop = replace(recipe.loop, steps=steps, learning_rate=3e-4, trainable="decoder", cost=cost)
    return replace(recipe, loop=loop, vae=replace(recipe.vae, texture=texture))


_SMALL_DECODER = {"maisi-vae": _sharper(_SMALL["maisi-vae"], 900, 0.2)}
_MINI_MR_DECODER = {"maisi-vae": _sharper(_MINI_MR["maisi-vae"], 400, 0.08)}
_PAPER_LOSS = VaeLoss(
    soft_window=0.0,
    gradient=0.0,
    perceptual=0.3,
    adversarial=0.1,
    kl_controlled=True,
    kl=1e-7,
    critic_channels=32,
)
_PAPER_AUGMENT = Augment(
    rotate=0.2,
    intensity=0.3,
    low_resolution=0.2,
    bias_field=0.3,
    gibbs=0.3,
    contrast=0.3,
    histogram=0.3,
)
_PAPER_CROPS = Crops(
    64**3, spacing_range_mm=(0.5, 3.0), phantom_share=0.0, cubes=True, later_voxels=128**3
)
_PAPER_LATENTS = LatentOptions(
    encoded=True,
    checkpointing=True,
    blind_share=0.0,
    l1=True,
    reference_voxels=0.0,
    most=1.0,
    air=1.0,
)
_PUBLISHED: dict[str, MaisiRecipe] = {
    "maisi-vae": MaisiRecipe(
        "ct-rflow",
        Recipe(
            steps=1,
            epochs=300,
            learning_rate=1e-4,
            power=0.9,
            save_every=1000,
            cost=NOT_RUN,
            score="36-39 dB at about 1 mm, as published",
        ),
        _PAPER_CROPS,
        _PAPER_LOSS,
        _PAPER_AUGMENT,
    ),
    "maisi-diffusion": MaisiRecipe(
        "ct-rflow",
        Recipe(
            steps=1,
            epochs=200,
            learning_rate=1e-4,
            power=2.0,
            save_every=1000,
            cost=NOT_RUN,
            score=NOT_RUN,
        ),
        _PAPER_CROPS,
        latent=_PAPER_LATENTS,
    ),
    "maisi-controlnet": MaisiRecipe(
        "ct-rflow",
        Recipe(
            steps=10_000,
            learning_rate=1e-4,
            power=2.0,
            trainable="controlnet",
            save_every=1000,
            cost=NOT_RUN,
            score=NOT_RUN,
        ),
        _PAPER_CROPS,
        latent=replace(_PAPER_LATENTS, contrast=0.01, reference_voxels=6000.0, most=100.0),
    ),
}
_MEDIUM: dict[str, MaisiRecipe] = {
    "maisi-vae": MaisiRecipe(
        "medium-ct",
        Recipe(
            steps=60_000,
            learning_rate=2e-4,
            save_every=1000,
            validate_every=2000,
            patience=5,
            cost=NOT_RUN,
            score=NOT_RUN,
        ),
        Crops(64**3, (0.5, 1.0, 1.0, 2.0, 4.0), spacing_range_mm=(1.0, 3.0), later_voxels=128**3),
        VaeLoss(perceptual=0.3, adversarial=0.05, adversarial_from=10_000, kl_controlled=True),
        replace(_PAPER_AUGMENT, rotate=0.1),
    ),
    "maisi-diffusion": MaisiRecipe(
        "medium-ct",
        Recipe(
            steps=60_000,
            learning_rate=2e-4,
            accumulate=2,
            save_every=1000,
            cost=NOT_RUN,
            score=NOT_RUN,
        ),
        Crops(128**3, (0.5, 1.0, 1.0, 2.0), spacing_range_mm=(1.0, 3.0)),
    ),
    "maisi-controlnet": MaisiRecipe(
        "medium-ct",
        Recipe(
            steps=40_000,
            learning_rate=1e-4,
            accumulate=2,
            save_every=1000,
            cost=NOT_RUN,
            score=NOT_RUN,
        ),
        Crops(128**3, (0.5, 1.0, 1.0, 2.0), spacing_range_mm=(1.0, 3.0)),
        latent=LatentOptions(contrast=0.01),
    ),
}
_RECIPES = {
    "mini": _SMALL,
    "small": _SMALL,
    "medium": _MEDIUM,
    "published": _PUBLISHED,
    "mini-mr": _MINI_MR,
    "small-decoder": _SMALL_DECODER,
    "mini-mr-decoder": _MINI_MR_DECODER,
    "tiny": _SMALL,
    "tiny-mr": _MINI_MR,
}
NAMES = tuple(_RECIPES)


def recipe(task: str, name: str) -> MaisiRecipe:
    """The recipe `name` of `task`; those called `tiny` are smoke tests.

    Raises:
        UsageError: there is no such task or recipe; what exists is listed.
    """
    if task not in TASKS:
        raise UsageError(f"no training task {task!r}", f"one of: {', '.join(TASKS)}")
    found = _RECIPES.get(name, {}).get(task)
    if found is None:
        have = [n for n in NAMES if task in _RECIPES[n]]
        raise UsageError(f"no recipe {name!r} for {task}", f"one of: {', '.join(have)}")
    return _tiny(name, found) if name.startswith("tiny") else found


def _tiny(preset: str, small: MaisiRecipe) -> MaisiRecipe:
    """A smoke test: every code path, a few steps."""
    loop = replace(small.loop, steps=4, save_every=2, log_every=1)
    return replace(small, preset=preset, loop=loop)
