"""Whether a training can run here at all: asked before scenes are decoded, not hours later."""

from __future__ import annotations

from importlib.util import find_spec

from geoseg.errors import UsageError
from geoseg.training.fit import hardware
from geoseg.training.recipe import Recipe


def check_runnable(recipe: Recipe, device: str, devices: int, *, wandb: bool) -> None:
    """Raise UsageError for more devices than there are, a precision that they lack, or a logger that is not there."""
    hardware(device, devices, recipe)
    if wandb and find_spec("wandb") is None:
        raise UsageError("`wandb=True` needs Weights & Biases; pip install wandb, or leave it out")
