"""Finding a learning rate with a sweep."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from geoseg.training.optimization import HIGHEST_LR, LOWEST_LR, SWEEP_STEPS, steepest
from tests.training.tiny import TINY, same, tiny_learner

RATES = np.geomspace(LOWEST_LR, HIGHEST_LR, SWEEP_STEPS)


@pytest.mark.parametrize("at", [1e-5, 1e-3, 0.05])
def test_the_rate_where_the_loss_falls_steepest(at: float) -> None:
    losses = [float(2 - np.tanh(np.log(rate / at))) for rate in RATES]
    assert steepest(RATES, losses) == pytest.approx(at, rel=0.15)


def test_a_loss_that_is_gone_at_once_gives_a_usual_rate() -> None:
    assert steepest(RATES[:2], [1.0, 0.9]) == 1e-3


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_learner_is_left_as_it_was(data: Path, monkeypatch: pytest.MonkeyPatch, optimizer: str) -> None:
    monkeypatch.setattr("geoseg.training.optimization.SWEEP_STEPS", 25)
    learner = tiny_learner(data, replace(TINY, optimizer=optimizer, lr=None))
    before = {name: tensor.clone() for name, tensor in learner.state_dict().items()}
    found = learner.find_lr("cpu")
    assert LOWEST_LR < found < HIGHEST_LR
    assert same(learner.state_dict(), before)
    assert all(parameter.grad is None for parameter in learner.parameters())
    assert learner.state.batches == 0
    torch.rand(7)
    assert learner.find_lr("cpu") == found  # whatever was drawn before
