from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geoseg.errors import UsageError
from geoseg.model import Normalization

values = st.floats(-1e4, 1e4)


@given(mean=values, std=st.floats(0.1, 1e3), stored=values)
def test_without_scale_it_is_the_z_score(mean: float, std: float, stored: float) -> None:
    gain, bias = Normalization((mean,), (std,)).gain_bias()
    assert gain.dtype == bias.dtype == np.float32
    assert stored * float(gain[0]) + float(bias[0]) == pytest.approx((stored - mean) / std, rel=1e-4, abs=0.02)


@given(low=values, span=st.floats(1, 1e4), share=st.floats(0, 1))
def test_scale_maps_its_ends_onto_the_value_range(low: float, span: float, share: float) -> None:
    normalization = Normalization((100.0,), (50.0,), (0.0, 255.0))
    gain, bias = normalization.gain_bias((low, low + span))
    stored = low + share * span
    assert stored * float(gain[0]) + float(bias[0]) == pytest.approx((share * 255 - 100) / 50, rel=1e-3, abs=0.02)


@pytest.mark.parametrize(
    ("mean", "std", "value_range", "named"),
    [
        ((), (), (0.0, 1.0), "got 0 means and 0 stds"),
        ((1.0,), (1.0, 2.0), (0.0, 1.0), "got 1 mean and 2 stds"),
        ((1.0,), (0.0,), (0.0, 1.0), r"`std` must .*\(0\.0,\)"),
        ((1.0,), (-1.0,), (0.0, 1.0), r"`std` must .*\(-1\.0,\)"),
        ((float("nan"),), (1.0,), (0.0, 1.0), r"`mean` must be finite, got \(nan,\)"),
        ((1.0,), (float("inf"),), (0.0, 1.0), r"`std` must be finite, got \(inf,\)"),
        ((1.0,), (1.0,), (1.0, 1.0), r"`value_range` must .*\(1\.0, 1\.0\)"),
    ],
)
def test_what_cannot_be_is_refused(
    mean: tuple[float, ...], std: tuple[float, ...], value_range: tuple[float, float], named: str
) -> None:
    with pytest.raises(UsageError, match=named):
        Normalization(mean, std, value_range)


@pytest.mark.parametrize("scale", [(5.0, 5.0), (9.0, 1.0), (0.0, float("nan")), (float("-inf"), 1.0)])
def test_empty_scale_is_refused(scale: tuple[float, float]) -> None:
    with pytest.raises(UsageError, match="low before high"):
        Normalization((1.0,), (1.0,)).gain_bias(scale)
