"""The temperature is the one that maximizes the likelihood, whatever the logits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from geoseg.training.validation import HIGHEST, LOWEST, fit_temperature

Drawn = tuple[NDArray[np.float32], NDArray[np.int64]]


def fitted(logits: NDArray[np.float32], targets: NDArray[np.int64]) -> float:
    return fit_temperature(torch.from_numpy(logits), torch.from_numpy(targets))


def negative_log_likelihood(logits: NDArray[np.float32], targets: NDArray[np.int64], temperature: float = 1) -> float:
    """Return the mean over the pixels, computed with scipy and numpy."""
    likely = log_softmax(logits.astype(np.float64) / temperature, axis=1)
    return float(-likely[np.arange(len(targets)), targets].mean())


def drawn(seed: int, temperature: float, pixels: int = 20000, classes: int = 6) -> Drawn:
    """Return logits that are overconfident by a factor of `temperature`, and targets drawn from the honest ones."""
    rng = np.random.default_rng(seed)
    honest = rng.normal(0, 2, (pixels, classes))
    likely = np.exp(honest) / np.exp(honest).sum(axis=1, keepdims=True)
    targets = (likely.cumsum(axis=1) > rng.random((pixels, 1))).argmax(axis=1)
    return (honest * temperature).astype(np.float32), targets.astype(np.int64)


@pytest.mark.parametrize("temperature", [0.2, 0.7, 1.0, 2.5, 8.0])
def test_a_known_temperature_is_found(temperature: float) -> None:
    assert fitted(*drawn(0, temperature)) == pytest.approx(temperature, rel=0.03)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.1, 10), st.floats(0, 0.9))
def test_scipy_finds_nothing_better(seed: int, temperature: float, noise: float) -> None:
    logits, targets = drawn(seed, temperature, 300, 4)
    rng = np.random.default_rng(seed)
    targets = np.where(rng.random(len(targets)) < noise, rng.integers(0, 4, len(targets)), targets)
    found = fitted(logits, targets)
    likelihood = negative_log_likelihood(logits, targets, found)
    assert likelihood <= negative_log_likelihood(logits, targets) + 1e-12
    best = minimize_scalar(
        lambda inverse: negative_log_likelihood(logits, targets, 1 / inverse),
        bounds=(1 / HIGHEST, 1 / LOWEST), method="bounded", options={"xatol": 1e-10},
    )  # fmt: skip
    assert likelihood <= best.fun + 1e-9


def test_logits_without_a_number_do_not_count() -> None:
    logits, targets = drawn(2, 2.0, 400)
    alone = fitted(logits[:200], targets[:200])
    logits[200:300, 0], logits[300:, 1] = np.nan, np.inf
    assert fitted(logits, targets) == alone


def test_limits() -> None:
    sure = np.array([[9, 0], [0, 9]] * 10, np.float32)
    assert fitted(sure, np.tile([0, 1], 10)) == LOWEST
    assert fitted(sure, np.tile([1, 0], 10)) == HIGHEST
    assert fitted(sure[:0], np.zeros(0, np.int64)) == 1


def test_no_likelihood_of_huge_logits_is_lost() -> None:
    logits, targets = drawn(3, 1.0, 2000)
    assert fitted(logits * np.float32(15), targets) == pytest.approx(15 * fitted(logits, targets))
