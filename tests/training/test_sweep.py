"""Finding a learning rate with a sweep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from geoseg.training.optimization import HIGHEST_LR, LOWEST_LR, SWEEP_STEPS, find_lr, steepest
from tests.training.tiny import TINY, same, tiny_learner

RATES = np.geomspace(LOWEST_LR, HIGHEST_LR, SWEEP_STEPS)


@pytest.mark.parametrize("at", [1e-5, 1e-3, 0.05])
def test_the_rate_where_the_loss_falls_steepest(at: float) -> None:
    losses = [float(2 - np.tanh(np.log(rate / at))) for rate in RATES]
    assert steepest(RATES, losses) == pytest.approx(at, rel=0.15)


def test_a_loss_that_recovers_after_a_rise_is_no_fall() -> None:
    losses = [float(2 - np.tanh(np.log(rate / 1e-4))) for rate in RATES]
    losses[40:43] = [9.0, 12.0, 9.0]
    assert steepest(RATES, losses) == pytest.approx(1e-4, rel=0.15)


@pytest.mark.parametrize("seed", range(3))
def test_batches_of_different_difficulty_do_not_change_the_rate(seed: int) -> None:
    """The oracle is the rate for batches that are all alike."""
    draw = np.random.default_rng(seed)

    def found(offsets: Sequence[float]) -> float:
        torch.manual_seed(0)
        network, image = torch.nn.Linear(8, 4), torch.ones(1, 8)
        return find_lr(
            TINY,
            network,
            batch_of=lambda number: (image, torch.tensor(offsets[number])),
            loss_of=lambda answer, offset: answer.square().sum() + offset,
        )

    assert found([50.0, *draw.uniform(0, 50, SWEEP_STEPS)]) == found([1.0] * SWEEP_STEPS)
    assert found([0.0, *draw.uniform(0, 50, SWEEP_STEPS)]) == found([1.0] * SWEEP_STEPS)


def test_gradients_are_limited_as_in_the_training() -> None:
    """With a small limit a step has the same length whatever the loss is multiplied by."""

    def found(factor: float) -> float:
        torch.manual_seed(0)
        return find_lr(
            replace(TINY, optimizer="sgd", clip=0.01),
            torch.nn.Linear(8, 4),
            batch_of=lambda _number: (torch.ones(1, 8), torch.tensor(factor)),
            loss_of=lambda answer, factor: factor * answer.square().sum(),
        )

    assert found(1000.0) == found(1.0)


def test_a_step_has_the_gradients_of_all_its_batches() -> None:
    """Batches that differ but have the mean of equal ones give the rate of these."""

    def found(factors: Sequence[float]) -> float:
        torch.manual_seed(0)
        return find_lr(
            replace(TINY, optimizer="sgd"),
            torch.nn.Linear(8, 4),
            batch_of=lambda number: (torch.ones(1, 8), torch.tensor(factors[number % len(factors)])),
            loss_of=lambda answer, factor: factor * answer.square().sum(),
            step_batches=len(factors),
        )

    assert found([-1.0, 3.0]) == found([1.0])


def test_the_sweep_accumulates_as_the_training_does(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("geoseg.training.optimization.SWEEP_STEPS", 5)
    learner = tiny_learner(data, replace(TINY, lr=None, batches=4, accumulate=3))
    drawn = list[int]()
    draw = learner.batch
    monkeypatch.setattr(learner, "batch", lambda number: drawn.append(number) or draw(number))
    learner.find_lr("cpu")
    assert drawn == [*range(15)]


def test_a_loss_that_is_gone_at_once_gives_a_usual_rate() -> None:
    assert steepest(RATES[:2], [1.0, 0.9]) == 1e-3
    assert steepest(RATES[:9], [0.01 * number for number in range(9)]) == 1e-3  # never falls


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
