"""The learning rate as a function of the step, so that a run that goes on needs no memory of it."""

from __future__ import annotations

import math

from geoseg.training.recipe import Recipe


def rate(recipe: Recipe, lr: float, step: int, steps: int, epoch_steps: int) -> float:
    """Return the learning rate of a step (0 .. steps - 1) of so many, `epoch_steps` in an epoch.

    constant; step, multi-step (He et al. 2016, arXiv 1512.03385): times gamma every `step_epochs`, at each of the
    `milestones`; cyclic (Smith 2017, arXiv 1506.01186): a triangle from the floor to lr and back; exp-range: the same,
    each cycle's height times gamma; one-cycle (Smith and Topin 2019, arXiv 1708.07120): up and down by cosines; cosine
    (Loshchilov and Hutter 2017, arXiv 1608.03983): a linear rise, then half a cosine.
    """
    low = recipe.floor * lr
    match recipe.schedule:
        case "step":
            return lr * float(recipe.gamma ** (step // (recipe.step_epochs * epoch_steps)))
        case "multi-step":
            return lr * float(recipe.gamma ** sum(step >= epoch * epoch_steps for epoch in recipe.milestones))
        case "cyclic" | "exp-range":
            half = recipe.step_epochs * epoch_steps
            shrunk = recipe.gamma ** (step // (2 * half)) if recipe.schedule == "exp-range" else 1.0
            return low + (lr - low) * float(shrunk) * (1 - abs(step % (2 * half) / half - 1))
        case "one-cycle" | "cosine":
            return _risen_and_fallen(recipe, lr, low, step, steps)
    return lr


def _risen_and_fallen(recipe: Recipe, lr: float, low: float, step: int, steps: int) -> float:
    rising = round(recipe.warmup * steps)
    if step < rising:
        share = (step + 1) / (rising + 1)
        return low + (lr - low) * (share if recipe.schedule == "cosine" else 0.5 * (1 - math.cos(math.pi * share)))
    share = (step - rising) / max(1, steps - rising)
    return low + (lr - low) * 0.5 * (1 + math.cos(math.pi * share))
