"""The learning rate over a run."""

from __future__ import annotations

from synthct.training.task import Recipe


def learning_rate(recipe: Recipe, step: int) -> float:
    """Linear warm-up, then polynomial decay to zero at `recipe.steps`."""
    return recipe.learning_rate * share(recipe, step)


def share(recipe: Recipe, step: int) -> float:
    """Of the recipe's highest rate, 0 to 1."""
    warm = min(1.0, (step + 1) / max(1, recipe.warmup_steps))
    left = max(0.0, 1.0 - step / recipe.steps)
    return float(warm * left**recipe.power)
