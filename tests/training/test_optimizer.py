"""Optimizers: every option arrives, and biases and norms are not decayed."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from geoseg.model import build, freeze_batch_norm
from geoseg.training import Recipe
from geoseg.training.optimization import optimizer_of
from geoseg.training.recipe import OPTIMIZERS

OPTIONS = {
    "lr": 0.003, "weight_decay": 0.04, "momentum": 0.7, "betas": (0.8, 0.95), "eps": 1e-5, "amsgrad": True,
}  # fmt: skip
CARRIED: dict[str, tuple[type[torch.optim.Optimizer], tuple[str, ...]]] = {
    "adam": (torch.optim.Adam, ("lr", "weight_decay", "betas", "eps", "amsgrad")),
    "adamw": (torch.optim.AdamW, ("lr", "weight_decay", "betas", "eps", "amsgrad")),
    "rmsprop": (torch.optim.RMSprop, ("lr", "weight_decay", "momentum", "eps")),
    "sgd": (torch.optim.SGD, ("lr", "weight_decay", "momentum")),
}


def network() -> torch.nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build("PlainUnet", {"in_channels": 3, "classes": 4, "depth": 1, "channels": 4, "batch_norm": True})


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_option_arrives(name: str) -> None:
    kind, carried = CARRIED[name]
    optimizer = optimizer_of(Recipe(optimizer=name, **OPTIONS), network(), OPTIONS["lr"])
    assert type(optimizer) is kind
    decayed, free = optimizer.param_groups
    for option in carried:
        assert decayed[option] == OPTIONS[option]
        assert free[option] == (0 if option == "weight_decay" else OPTIONS[option])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_biases_and_norms_are_not_decayed(name: str) -> None:
    learner = network()
    decayed, free = optimizer_of(Recipe(optimizer=name), learner, 0.1).param_groups
    plain = {id(parameter) for parameter in free["params"]}
    for module in learner.modules():
        for key, parameter in module.named_parameters(recurse=False):
            is_plain = key == "bias" or isinstance(module, torch.nn.BatchNorm2d)
            assert (id(parameter) in plain) == is_plain
    parameters = [*decayed["params"], *free["params"]]
    assert {id(each) for each in parameters} == {id(each) for each in learner.parameters()}
    assert len(parameters) == len(list(learner.parameters()))


def test_frozen_norms_are_not_learnt() -> None:
    learner = network()
    assert freeze_batch_norm(learner) > 0
    groups = optimizer_of(Recipe(), learner, 0.1).param_groups
    assert all(parameter.requires_grad for group in groups for parameter in group["params"])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_are_torchs(name: str) -> None:
    """Equal networks take equal steps with our optimizer and with torch's, its groups made by hand."""
    kind, carried = CARRIED[name]
    ours, theirs = network(), network()
    settings: dict[str, Any] = {option: OPTIONS[option] for option in carried}
    hand = [
        {"params": [each for each in theirs.parameters() if each.ndim > 1]},
        {"params": [each for each in theirs.parameters() if each.ndim == 1], "weight_decay": 0.0},
    ]
    for learner, optimizer in (
        (ours, optimizer_of(Recipe(optimizer=name, **OPTIONS), ours, OPTIONS["lr"])),
        (theirs, kind(hand, **settings)),
    ):
        for seed in range(3):
            image = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
            optimizer.zero_grad()
            learner(image).square().mean().backward()
            optimizer.step()
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(one, other)
