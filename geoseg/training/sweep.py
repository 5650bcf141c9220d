"""A learning rate found before the training: a sweep upwards until the loss no longer falls."""

from __future__ import annotations

import copy
import math

import numpy as np
import torch

from geoseg.training.feed import Batch
from geoseg.training.learner import Learner
from geoseg.training.optimizer import optimizer_of

STEPS = 60
LOWEST, HIGHEST = 1e-6, 1.0
_SMOOTHING = 0.8
_DIVERGED = 3.0
"""Times the lowest loss: nothing is learnt beyond."""
_FALLBACK = 1e-3


def sweep(learner: Learner, device: str) -> float:
    """Return the rate at which the smoothed loss falls steepest (Smith 2017, arXiv 1506.01186, section 3.3).

    A copy of the network learns for at most STEPS batches while the rate rises by equal factors; the learner is left
    as it was.
    """
    learner.to(device)
    network = copy.deepcopy(learner.network).train()
    optimizer = optimizer_of(learner.plan.recipe, network, LOWEST)
    rates = np.geomspace(LOWEST, HIGHEST, STEPS)
    losses: list[float] = []
    torch.manual_seed(learner.plan.recipe.seed)
    smoothed = None
    for number, rate in enumerate(rates):
        batch = learner.transfer_batch_to_device(learner.batch(number), learner.device, 0)
        for group in optimizer.param_groups:
            group["lr"] = float(rate)
        value = _step(learner, network, optimizer, batch)
        smoothed = value if smoothed is None else _SMOOTHING * smoothed + (1 - _SMOOTHING) * value
        if not math.isfinite(value) or (losses and smoothed > _DIVERGED * min(losses)):
            break
        losses.append(smoothed)
    learner.cpu()
    return steepest(rates[: len(losses)], losses)


def steepest(rates: np.ndarray[tuple[int], np.dtype[np.float64]], losses: list[float]) -> float:
    """Return the rate where the loss falls most for a rise of the rate by one factor."""
    if len(losses) < 4:
        return _FALLBACK
    slopes = np.gradient(np.asarray(losses), np.log(rates))
    return float(f"{rates[int(np.argmin(slopes))]:.1e}")


def _step(learner: Learner, network: torch.nn.Module, optimizer: torch.optim.Optimizer, batch: Batch) -> float:
    image, targets = learner.seen_by_network(batch)
    loss = learner.loss(network(image), targets)
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return float(loss.detach())
