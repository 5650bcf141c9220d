"""Learning rates against torch's own schedulers, step by step."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch.optim import lr_scheduler

from geoseg.training import Recipe
from geoseg.training.optimization import rate

LR, STEPS, EPOCH_STEPS = 0.02, 60, 5


def rates(recipe: Recipe, steps: int = STEPS) -> list[float]:
    return [rate(recipe, LR, step, steps, EPOCH_STEPS) for step in range(steps)]


def torch_rates(kind: Any, lr: float = LR, **settings: Any) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr, momentum=0.9)
    scheduler = kind(optimizer, **settings)
    found = []
    for _ in range(STEPS):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


CASES: dict[str, tuple[dict[str, Any], Any, dict[str, Any]]] = {
    "constant": ({}, lr_scheduler.ConstantLR, {"factor": 1.0}),
    "step": ({"step_epochs": 3, "gamma": 0.3}, lr_scheduler.StepLR, {"step_size": 3 * EPOCH_STEPS, "gamma": 0.3}),
    "multi-step": (
        {"milestones": (2, 5, 9), "gamma": 0.5},
        lr_scheduler.MultiStepLR,
        {"milestones": [2 * EPOCH_STEPS, 5 * EPOCH_STEPS, 9 * EPOCH_STEPS], "gamma": 0.5},
    ),
    "cyclic": (
        {"step_epochs": 2, "floor": 0.05},
        lr_scheduler.CyclicLR,
        {"base_lr": 0.05 * LR, "max_lr": LR, "step_size_up": 2 * EPOCH_STEPS, "mode": "triangular"},
    ),
    "cosine": (
        {"warmup": 0.0, "floor": 0.1},
        lr_scheduler.CosineAnnealingLR,
        {"T_max": STEPS, "eta_min": 0.1 * LR},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_rates_are_those_of_torch(name: str) -> None:
    options, kind, settings = CASES[name]
    assert rates(Recipe(schedule=name, **options)) == pytest.approx(torch_rates(kind, **settings), rel=1e-9)


def test_exp_range_lowers_each_cycle_by_gamma() -> None:
    def cycle(at: float) -> float:
        return 0.4 ** (int(at) // (4 * EPOCH_STEPS))

    wanted = torch_rates(
        lr_scheduler.CyclicLR,
        base_lr=0.05 * LR, max_lr=LR, step_size_up=2 * EPOCH_STEPS, scale_fn=cycle, scale_mode="iterations",
    )  # fmt: skip
    found = rates(Recipe(schedule="exp-range", step_epochs=2, floor=0.05, gamma=0.4))
    assert found == pytest.approx(wanted, rel=1e-9)


def test_one_cycle_is_torchs_but_for_where_its_steps_lie() -> None:
    """Both rise and fall along half a cosine, but only torch's first and last steps are at the floor."""
    recipe = Recipe(schedule="one-cycle", warmup=0.3, floor=0.04)
    wanted = torch_rates(
        lr_scheduler.OneCycleLR, max_lr=LR, total_steps=STEPS + 1, pct_start=20 / 61, div_factor=25,
        final_div_factor=1, anneal_strategy="cos",
    )  # fmt: skip
    rising = round(0.3 * STEPS)
    found = rates(recipe)
    assert found[:rising] == pytest.approx(wanted[1 : rising + 1], rel=1e-6)
    assert max(found) == found[rising] == pytest.approx(LR)
    falling = torch_rates(lr_scheduler.CosineAnnealingLR, T_max=STEPS - rising, eta_min=0.04 * LR)
    assert found[rising:] == pytest.approx(falling[: STEPS - rising], rel=1e-9)


def test_cosine_rises_by_equal_steps_first() -> None:
    found = rates(Recipe(schedule="cosine", warmup=0.2))
    rises = [later - earlier for earlier, later in itertools.pairwise([0.0, *found[:13]])]
    assert rises == pytest.approx([LR / 13] * 13)
    assert found[12] == pytest.approx(LR)
    assert found[12:] == sorted(found[12:], reverse=True)


@pytest.mark.parametrize("schedule", ["constant", "step", "multi-step", "cyclic", "exp-range", "one-cycle", "cosine"])
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_the_shortest_trainings_learn(schedule: str, steps: int) -> None:
    found = rates(Recipe(schedule=schedule, milestones=(1,), floor=0.0, warmup=0.5), steps)
    assert all(0 <= each <= LR * (1 + 1e-12) for each in found)
    if schedule not in {"cyclic", "exp-range"}:  # these begin at their floor
        assert found[0] > 0
