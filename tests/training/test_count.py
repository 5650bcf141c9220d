"""Counting in one pass, against numpy and scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

from geoseg.evaluation import Calibration
from geoseg.training.validation import count


@pytest.mark.parametrize("channels", [2, 6, 19])
def test_one_pass_counts_what_three_would(channels: int) -> None:
    draw = np.random.default_rng(channels)
    probabilities = draw.dirichlet(np.full(channels, 0.3), (57, 83)).transpose(2, 0, 1).astype(np.float32)
    truth = draw.integers(0, channels, (57, 83)).astype(np.uint8)
    truth[draw.random(truth.shape) < 0.2] = 255
    found = count(probabilities, truth)
    assert (found.channel == probabilities.argmax(0)).all()
    counted = truth != 255
    of_counted, wanted = probabilities[:, counted].T, truth[counted]
    labels = list(range(channels))
    assert (found.pixels == confusion_matrix(wanted, of_counted.argmax(1), labels=labels)).all()
    of_truth = of_counted[np.arange(len(wanted)), wanted].astype(np.float64)
    assert found.loss_sum == pytest.approx(-np.log(np.maximum(of_truth, 1e-7)).sum())
    table = Calibration.from_arrays(np.minimum(of_counted.max(1), 1), of_counted.argmax(1) == wanted)
    assert (found.calibration.count_px == table.count_px).all()
    assert (found.calibration.right_px == table.right_px).all()
    assert found.calibration.confidence_sum == pytest.approx(table.confidence_sum)


def test_a_tie_goes_to_the_first_channel() -> None:
    found = count(np.full((3, 2, 2), 1 / 3, np.float32), np.zeros((2, 2), np.uint8))
    assert (found.channel == 0).all()
    assert found.pixels[0, 0] == 4


def test_the_loss_of_the_wholly_sure_and_wrong_is_finite() -> None:
    probabilities = np.zeros((2, 40, 40), np.float32)
    probabilities[1] = 1.0000001
    found = count(probabilities, np.zeros((40, 40), np.uint8))
    assert found.loss_sum == pytest.approx(1600 * -math.log(1e-7))
    assert found.calibration.count_px[-1] == 1600


def test_no_number_is_no_count_unless_it_is_ignored() -> None:
    probabilities = np.full((2, 3, 3), 0.5, np.float32)
    probabilities[:, 1, 1] = np.nan
    truth = np.zeros((3, 3), np.uint8)
    assert math.isnan(count(probabilities, truth).loss_sum)
    truth[1, 1] = 255
    assert count(probabilities, truth).loss_sum == pytest.approx(8 * math.log(2))


def test_a_part_of_a_larger_array_is_counted_as_a_copy_is() -> None:
    whole = np.random.default_rng(0).random((4, 20, 30), dtype=np.float32)
    part, truth = whole[:, 3:11, 5:28], np.ones((8, 23), np.uint8)
    assert count(part, truth).loss_sum == count(part.copy(), truth).loss_sum
