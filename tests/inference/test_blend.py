from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from geoseg.errors import UsageError
from geoseg.inference import Blend
from geoseg.inference.blend import axis_weights, check_blend, most_probable, window_profile
from geoseg.raster import axis_starts
from tests.inference.position_engine import PositionEngine, TorchPositionEngine

blends = st.sampled_from(get_args(Blend))


@given(blends, st.integers(1, 900), st.integers(1, 130), st.data())
def test_the_weights_of_every_pixel_sum_to_one_on_the_rim_too(
    blend: Blend, length: int, window: int, data: st.DataObject
) -> None:
    starts = axis_starts(length, window, data.draw(st.integers(1, window)))
    weights = axis_weights(starts, length, window, blend)
    total = np.zeros(max(length, starts[-1] + window), np.float64)
    for start, row in zip(starts, weights, strict=True):
        total[start : start + window] += row
    np.testing.assert_allclose(total[:length], 1, atol=1e-6)
    assert not total[length:].any()
    assert (weights >= 0).all()


@given(blends, st.integers(1, 900), st.integers(1, 90), st.data())
def test_the_weights_of_some_windows_are_theirs_among_all(
    blend: Blend, length: int, window: int, data: st.DataObject
) -> None:
    starts = axis_starts(length, window, data.draw(st.integers(1, window)))
    first = data.draw(st.integers(0, len(starts) - 1))
    wanted = range(first, data.draw(st.integers(first, len(starts) - 1)) + 1)
    some = axis_weights(starts, length, window, blend, wanted)
    np.testing.assert_array_equal(some, axis_weights(starts, length, window, blend)[first : wanted.stop])


@given(st.sampled_from(["hann", "linear", "gaussian", "mean"]), st.integers(1, 512))
def test_a_profile_is_positive_and_symmetric(blend: Blend, window: int) -> None:
    profile = window_profile(blend, window)
    assert (profile > 0).all()
    np.testing.assert_allclose(profile, profile[::-1], atol=1e-12)


@pytest.mark.parametrize("blend", ["hann", "linear"])
def test_weights_change_smoothly_where_a_window_ends(blend: Blend) -> None:
    weights = axis_weights(axis_starts(2000, 512, 384), 2000, 512, blend)
    inner = weights[2]
    assert inner[0] < 0.02
    assert inner[-1] < 0.02
    assert np.abs(np.diff(inner)).max() < 0.03


@pytest.mark.parametrize(("window", "stride"), [(64, 32), (40, 39), (48, 5), (97, 30)])
def test_crop_gives_each_pixel_to_the_window_whose_centre_is_nearest(window: int, stride: int) -> None:
    starts = axis_starts(110, window, stride)
    weights = axis_weights(starts, 110, window, "crop")
    for pixel in range(110):
        near = [number for number, start in enumerate(starts) if 0 <= pixel - start < window]
        shares = [float(weights[number][pixel - starts[number]]) for number in near]
        distances = [abs(pixel - (starts[number] + (window - 1) / 2)) for number in near]  # the first of equals
        assert shares[int(np.argmin(distances))] == 1
        assert sum(shares) == 1


def test_an_unknown_blend_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match="hann, linear, gaussian, mean, crop, got 'box'"):
        check_blend("box")


@pytest.mark.parametrize("kind", ["numpy", "torch"])
@settings(max_examples=40, deadline=None)
@given(classes=st.integers(2, 9), rows=st.integers(1, 300), cols=st.integers(1, 40), seed=st.integers(0, 99))
def test_the_most_probable_class_is_the_first_of_those_that_tie(
    kind: str, classes: int, rows: int, cols: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    values = random.integers(0, 4, (classes, rows, cols + 3)).astype(np.float32)
    values[random.integers(classes), random.integers(rows), 0] = np.nan
    engine = PositionEngine() if kind == "numpy" else TorchPositionEngine()
    engine.classes = classes
    given_values = values[:, :, :cols] if kind == "numpy" else torch.from_numpy(values)[:, :, :cols]
    channel, best = map(np.asarray, most_probable(engine, given_values))
    finite = np.isfinite(values[:, :, :cols]).all(axis=0)
    assert channel.dtype == np.uint8
    np.testing.assert_array_equal(channel[finite], values[:, :, :cols].argmax(axis=0)[finite])
    np.testing.assert_array_equal(best, values[:, :, :cols].max(axis=0))
