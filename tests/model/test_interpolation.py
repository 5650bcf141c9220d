"""Interpolation and softmax of a network's coarse scores, against torch in double precision."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn import functional

from geoseg.model import Weights
from geoseg.model.engines.interpolation import fine_strips, softmax

SIZES = [(1, 1), (1, 2), (2, 2), (2, 4), (3, 6), (4, 16), (7, 64), (17, 40), (33, 64), (100, 101), (64, 64)]
CASES = list(itertools.product(SIZES, (False, True)))


def random_scores(coarse_px: int, fine_px: int, classes: int = 5) -> tuple[NDArray[np.float32], Weights]:
    """Return scores of two windows, and weights."""
    random = np.random.default_rng(coarse_px * 1000 + fine_px)
    scores = (random.normal(size=(2, classes, coarse_px, coarse_px)) * random.choice([1, 5, 30])).astype(np.float32)
    return scores, Weights(*random.random((2, 2, fine_px), np.float32))


def fine_scores(scores: NDArray[np.float32], fine_px: int, *, aligned: bool) -> torch.Tensor:
    """Return scores, interpolated by torch in double precision."""
    values = torch.from_numpy(scores).double()
    return functional.interpolate(values, size=(fine_px, fine_px), mode="bilinear", align_corners=aligned)


def plane(weights: Weights) -> NDArray[np.float32]:
    """Return the weight of each pixel, (n, 1, row, col)."""
    return weights.rows[:, None, :, None] * weights.cols[:, None, None, :]


@pytest.mark.parametrize("classes", [1, 2, 19])
@pytest.mark.parametrize(("sizes", "aligned"), CASES)
def test_probabilities_are_the_softmax_of_interpolated_scores(
    sizes: tuple[int, int], classes: int, *, aligned: bool
) -> None:
    scores, weights = random_scores(*sizes, classes)
    kept = scores.copy()
    wanted = torch.softmax(fine_scores(scores, sizes[1], aligned=aligned) / 1.5, dim=1).numpy() * plane(weights)
    found = softmax(scores, weights, aligned=aligned, temperature=1.5)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    np.testing.assert_array_equal(scores, kept)


@pytest.mark.parametrize(("sizes", "aligned"), CASES)
def test_strips_together_are_the_window(sizes: tuple[int, int], *, aligned: bool) -> None:
    scores, _ = random_scores(*sizes)
    found = np.full((5, sizes[1], sizes[1]), np.nan)
    for rows, strip in fine_strips(scores[0], sizes[1], aligned=aligned):
        found[:, rows] = strip
    wanted = fine_scores(scores[:1], sizes[1], aligned=aligned)[0].numpy()
    np.testing.assert_allclose(found, wanted, atol=2e-5)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("coarse_px", [4, 16])
@pytest.mark.parametrize("place", [0, 3])
def test_a_score_that_is_no_number_is_not_hidden(value: float, coarse_px: int, place: int) -> None:
    scores, weights = random_scores(coarse_px, 16)
    scores[1, place, 2, 1] = value
    found = softmax(scores, weights)
    assert np.isfinite(found[0]).all()
    assert np.isnan(found[1]).any()


def test_a_class_that_a_network_rules_out_has_no_probability() -> None:
    scores, weights = random_scores(16, 16)
    scores[1, 3] = -np.inf
    wanted = torch.softmax(torch.from_numpy(scores), dim=1).numpy() * plane(weights)
    np.testing.assert_allclose(softmax(scores, weights), wanted, atol=1e-6)


def test_scores_far_apart_give_one_and_nothing() -> None:
    scores = np.full((1, 3, 8, 8), -1e30, np.float32)
    scores[:, 1] = 1e30
    found = softmax(scores, Weights.ones(1, 8))
    np.testing.assert_array_equal(found[0, 1], 1)
    np.testing.assert_array_equal(found[0, [0, 2]], 0)


@pytest.mark.parametrize("lead", [70, 90, 400, 1e6])
def test_between_pixels_of_leads_of_any_size_the_classes_share_a_pixel(lead: float) -> None:
    """Interpolated, each of the two classes is half the lead behind; powers of that are no longer float32."""
    scores = np.zeros((1, 2, 2, 2), np.float32)
    scores[0, 0, :, 0] = scores[0, 1, :, 1] = lead
    found = softmax(scores, Weights.ones(1, 3))
    np.testing.assert_allclose(found[0, :, :, 1], 0.5, atol=1e-6)
    np.testing.assert_allclose(found[0, 0, :, 0], 1, atol=1e-6)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-6)
