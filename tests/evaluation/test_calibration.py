"""The calibration error against its definition, written as a loop."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from geoseg.errors import SceneError, UsageError
from geoseg.evaluation import Calibration


def test_the_error_is_guos() -> None:
    rng = np.random.default_rng(0)
    confidence = rng.random(3000) ** 0.5
    right = rng.random(3000) < confidence**1.5
    found = Calibration.from_arrays(confidence, right, bins=15)
    wanted = 0.0
    for place in range(15):
        inside = (confidence > place / 15) & (confidence <= (place + 1) / 15)
        if inside.any():
            wanted += inside.sum() / 3000 * abs(right[inside].mean() - confidence[inside].mean())
    assert found.error == pytest.approx(wanted, rel=1e-9)


def test_the_table_is_scikit_learns() -> None:
    rng = np.random.default_rng(1)
    confidence = rng.random(2000)
    right = rng.random(2000) < confidence
    found = Calibration.from_arrays(confidence, right)
    accuracy, mean = calibration_curve(right, confidence, n_bins=10)
    np.testing.assert_allclose(found.accuracy, accuracy)
    np.testing.assert_allclose(found.confidence, mean)


@pytest.mark.parametrize("bins", [1, 7, 10, 15])
def test_percent_and_fractions_agree(bins: int) -> None:
    rng = np.random.default_rng(2)
    percent = np.concatenate([np.arange(101), rng.integers(0, 101, 500)]).astype(np.uint8)
    right = rng.random(len(percent)) < 0.7
    stored = Calibration.of_stored(percent, right, "c.tif")
    assert np.array_equal(stored.count_px, Calibration.from_arrays(percent / 100, right).count_px)
    counts = np.bincount(percent, minlength=101), np.bincount(percent[right], minlength=101)
    ours, theirs = Calibration.from_percent(*counts, bins), Calibration.from_arrays(percent / 100, right, bins)
    assert np.array_equal(ours.count_px, theirs.count_px)
    assert np.array_equal(ours.right_px, theirs.right_px)
    assert ours.error == pytest.approx(theirs.error)
    as_float32 = Calibration.from_arrays((percent / np.float32(100)).astype(np.float32), right, bins)
    assert np.array_equal(as_float32.count_px, theirs.count_px)


def test_a_map_as_sure_as_it_is_right_has_no_error() -> None:
    confidence = np.repeat([0.5, 0.75], 4)
    right = np.array([1, 0, 1, 0, 1, 1, 1, 0], bool)
    assert Calibration.from_arrays(confidence, right).error == 0


def test_parts_add_up() -> None:
    rng = np.random.default_rng(3)
    confidence, right = rng.random(100), rng.random(100) < 0.5
    whole = Calibration.from_arrays(confidence, right)
    parts = Calibration.from_arrays(confidence[:30], right[:30]).merge(
        Calibration.from_arrays(confidence[30:], right[30:])
    )
    assert parts.error == pytest.approx(whole.error)
    assert parts.pixels == 100
    assert math.isnan(Calibration.empty().error)


def test_what_is_no_confidence_is_refused() -> None:
    yes = np.ones(2, bool)
    with pytest.raises(SceneError, match=r"c.tif holds values from 0 to 255; confidence as integers must be percent"):
        Calibration.of_stored(np.array([0, 255], np.uint8), yes, "c.tif")
    with pytest.raises(SceneError, match="floating point must be 0 to 1"):
        Calibration.of_stored(np.array([0, 99.0]), yes, "c.tif")
    with pytest.raises(UsageError, match="confidence must be 0 to 1"):
        Calibration.from_arrays(np.array([0, np.nan]), yes)
