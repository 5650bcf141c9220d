"""The network as it begins: random, with pretrained parts, or with what a bundle knows."""

from __future__ import annotations

from collections.abc import Callable

import torch

from geoseg.errors import ModelError
from geoseg.model.batch_norm import freeze_batch_norm
from geoseg.model.bundle import ModelBundle
from geoseg.model.network import build
from geoseg.model.transfer import transfer
from geoseg.training.plan import TrainingPlan

DEMO = "demo"
"""The name of the shipped model in `Recipe.init`."""


def start_network(plan: TrainingPlan, say: Callable[[str], None]) -> torch.nn.Module:
    """Return a new network in training mode; the seed decides what is random.

    Raises ModelError when pretrained weights cannot be fetched, or a bundle has another encoder; the shipped model,
    which nobody need have asked for, is then left out.
    """
    recipe = plan.recipe
    torch.manual_seed(recipe.seed)
    network = build(plan.architecture, plan.arguments, recipe.encoder_weights)
    if recipe.init is not None:
        bundle = ModelBundle.open(None if recipe.init == DEMO else recipe.init)
        try:
            taken = transfer(bundle, network, legend=plan.legend, output_codes=plan.output_codes, bands=plan.bands)
            say(f"begins with {taken}")
        except ModelError as fault:
            if recipe.init != DEMO:
                raise
            say(f"begins without the shipped model: {fault}")
    if recipe.norm == "frozen":
        freeze_batch_norm(network)
    return network.train()


def init_bundle(init: str | None) -> ModelBundle | None:
    """Return the bundle that `Recipe.init` names. Raises ModelError if it is none."""
    return None if init is None else ModelBundle.open(None if init == DEMO else init)
