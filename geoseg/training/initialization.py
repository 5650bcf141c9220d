"""The network as it begins, random, with pretrained parts or with what a bundle knows, and the way back to that."""

from __future__ import annotations

import torch

from geoseg.model import (
    ModelBundle,
    Transferred,
    build,
    freeze_batch_norm,
    is_weights_file,
    recorded_weights,
    transfer,
)
from geoseg.training.network import Says, has_batch_norm, init_bundle, nothing_to_freeze
from geoseg.training.plan import TrainingPlan

_GENTLE = 2e-4
"""Rates up to this are meant for weights that know their classes, as those of the recipe `default`."""


def start_network(plan: TrainingPlan, say: Says) -> torch.nn.Module:
    """Return a new network in training mode; the seed decides what is random.

    Raises ModelError when pretrained weights cannot be fetched or a bundle has another encoder, UsageError for
    `norm='frozen'` where no batch normalization is pretrained.
    """
    recipe = plan.recipe
    network, bundle, taken = _begun(plan)
    if recipe.encoder_weights is not None and bundle is None and is_weights_file(recipe.encoder_weights):
        say(f"the encoder starts with the weights {recorded_weights(recipe.encoder_weights)}")
    pretrained = {"encoder"} if recipe.encoder_weights is not None else set[str]()
    if taken is not None:
        say(f"begins with {taken}")
        if taken.new_classes and recipe.lr is not None and recipe.lr <= _GENTLE:
            say(f"new classes learn slowly at `lr={recipe.lr:g}`, which suits known ones; try `lr=1e-3`, `epochs=40`")
        pretrained = set(taken.taken)
    if recipe.norm == "frozen" or (recipe.norm == "auto" and bundle is not None and has_batch_norm(bundle)):
        # only of the parts that came pretrained: of others the statistics mean nothing
        parts = [part for name, part in network.named_children() if name in pretrained]
        if not sum(map(freeze_batch_norm, parts)):
            raise nothing_to_freeze()
    return network.train()


@torch.no_grad()
def bring_back(plan: TrainingPlan, network: torch.nn.Module) -> bool:
    """Move the weights back toward those at the start, by `start_share` of the way; say whether it was done.

    Weights between those before and after fine-tuning do better on unseen imagery (Wortsman et al. 2022, arXiv
    2109.01903) if both have the same classes and parts. A new class or part fits only the weights that it was trained
    with, so a network that has one keeps its weights.
    """
    if not (plan.recipe.start_share and plan.from_bundle):
        return False
    began, _, taken = _begun(plan)
    if taken is None or taken.new_classes or taken.left:
        return False
    old, new = began.state_dict(), network.state_dict()
    for key in new:
        if new[key].is_floating_point():
            new[key].lerp_(old[key].to(new[key]), plan.recipe.start_share)
    return True


def _begun(plan: TrainingPlan) -> tuple[torch.nn.Module, ModelBundle | None, Transferred | None]:
    """Return the network as it begins, the bundle it begins with, and what it took from that."""
    recipe = plan.recipe
    bundle = init_bundle(recipe, plan.architecture, plan.arguments)
    torch.manual_seed(recipe.seed)
    if bundle is None:
        return build(plan.architecture, plan.arguments, recipe.encoder_weights), None, None
    network = build(plan.architecture, plan.arguments, None)  # its encoder is the bundle's
    taken = transfer(bundle, network, legend=plan.legend, output_codes=plan.output_codes, bands=plan.bands)
    return network, bundle, taken
