"""The network as it begins: random, with pretrained parts, or with what a bundle knows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from geoseg.errors import ModelError, UsageError
from geoseg.model import DEMO as SHIPPED
from geoseg.model import (
    HEADS,
    ModelBundle,
    Transferred,
    build,
    freeze_batch_norm,
    is_file,
    parameter_shapes,
    told,
    transfer,
)
from geoseg.training.plan import TrainingPlan
from geoseg.training.recipe import Recipe

DEMO = "demo"
"""The name of the shipped model in `Recipe.init`."""
_GENTLE = 2e-4
"""Rates up to this are meant for weights that know their classes, as those of the recipe `default`."""
_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
"""Of batch normalization; group normalization has none."""


def start_network(plan: TrainingPlan, say: Callable[[str], None]) -> torch.nn.Module:
    """Return a new network in training mode; the seed decides what is random.

    Raises ModelError when pretrained weights cannot be fetched or a bundle has another encoder, UsageError when batch
    normalization is to be frozen where none is pretrained.
    """
    recipe = plan.recipe
    network, bundle, taken = _begun(plan)
    if recipe.encoder_weights is not None and bundle is None and is_file(recipe.encoder_weights):
        say(f"the encoder begins with the weights {told(recipe.encoder_weights)}")
    pretrained = {"encoder"} if recipe.encoder_weights is not None else set[str]()
    if taken is not None:
        say(f"begins with {taken}")
        if taken.new_classes and recipe.lr is not None and recipe.lr <= _GENTLE:
            say(f"new classes learn slowly at `lr={recipe.lr:g}`, which suits known ones; try `lr=1e-3`, `epochs=40`")
        pretrained = set(taken.taken)
    if recipe.norm == "frozen" or (recipe.norm == "auto" and bundle is not None and has_batch_norm(bundle)):
        _freeze(network, pretrained)
    return network.train()


@torch.no_grad()
def bring_back(plan: TrainingPlan, network: torch.nn.Module) -> bool:
    """Mix what a network has learnt with what it began with, `start_share` of that; tell whether there was any.

    Between the weights before and after fine-tuning lie those that do better on what neither saw (Wortsman et al. 2022,
    arXiv 2109.01903). Parts of which the bundle had nothing, and a head with classes it did not know, stay as learnt.
    """
    if not (plan.recipe.start_share and plan.from_bundle):
        return False
    began, _, taken = _begun(plan)
    parts = () if taken is None else (part for part in taken.taken if not (taken.new_classes and part in HEADS))
    old, new = began.state_dict(), network.state_dict()
    keys = [key for part in parts for key in new if key.startswith(f"{part}.") and new[key].is_floating_point()]
    for key in keys:
        new[key].lerp_(old[key].to(new[key]), plan.recipe.start_share)
    return bool(keys)


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


def init_bundle(
    recipe: Recipe, architecture: str, arguments: Mapping[str, Any], say: Callable[[str], None] = lambda _line: None
) -> ModelBundle | None:
    """Return the bundle to begin with; None, and a line that says why, where the shipped model does not suit.

    Nobody need have asked for the shipped one: an encoder with weights of its own keeps them, another one has no use
    for its. Raises ModelError for a file that is no bundle, or whose encoder is another; UsageError for batch
    normalization that is to be frozen where none is pretrained.
    """
    bundle = _suitable(recipe, architecture, arguments, say)
    has_statistics = bundle is not None and has_batch_norm(bundle)
    if recipe.norm == "frozen" and not has_statistics and (bundle is not None or recipe.encoder_weights is None):
        raise _nothing_to_freeze()
    return bundle


def has_batch_norm(bundle: ModelBundle) -> bool:
    """Tell whether a bundle's norm layers hold statistics of what it was trained on."""
    return bundle.arguments.get("norm") != "group"


def _suitable(
    recipe: Recipe, architecture: str, arguments: Mapping[str, Any], say: Callable[[str], None]
) -> ModelBundle | None:
    if recipe.init is None:
        return None
    if recipe.init == DEMO and recipe.encoder_weights is not None:
        say(f"begins without the shipped model: the encoder has weights of its own, {recipe.encoder_weights}")
        return None
    bundle = ModelBundle.open(SHIPPED if recipe.init == DEMO else recipe.init)
    if _has_encoder(bundle, architecture, arguments):
        if recipe.encoder_weights is not None:
            say(f"begins with {bundle.name}, so the encoder weights {recipe.encoder_weights} are left out")
        return bundle
    other = f"{bundle.architecture} on {bundle.arguments.get('encoder_name', 'no encoder')}"
    if recipe.init == DEMO:
        say(f"begins without the shipped model, {other}: the encoder is another")
        return None
    raise ModelError(
        f"nothing of {bundle.name}, {other}, fits the new network: its encoder is another; choose the same "
        "`architecture` and `encoder`, or start afresh with `init='none'`"
    )


def _has_encoder(bundle: ModelBundle, architecture: str, arguments: Mapping[str, Any]) -> bool:
    """Tell whether a bundle's encoder, on as many bands, is that of an architecture."""
    of_bundle = bundle.arguments | {"in_channels": arguments["in_channels"]}
    theirs, ours = _encoder(bundle.architecture, of_bundle), _encoder(architecture, arguments)
    return bool(ours) and theirs == ours


def _encoder(architecture: str, arguments: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    shapes = parameter_shapes(architecture, arguments)
    return {key: shape for key, shape in shapes.items() if key.startswith("encoder.") and not key.endswith(_STATISTICS)}


def _freeze(network: torch.nn.Module, pretrained: set[str]) -> None:
    """Freeze the batch normalization of the parts that came pretrained: of others the statistics mean nothing."""
    if not sum(freeze_batch_norm(part) for name, part in network.named_children() if name in pretrained):
        raise _nothing_to_freeze()


def _nothing_to_freeze() -> UsageError:
    return UsageError(
        "`norm='frozen'` keeps pretrained batch norm as it is, and there is none; "
        "give `encoder_weights='imagenet'`, or `init` with a model of the same encoder, or `norm='batch'`"
    )
