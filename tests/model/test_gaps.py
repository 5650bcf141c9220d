"""The filling of gaps that a network sees, by numba and by torch, against a pixel-by-pixel search."""

from __future__ import annotations

import itertools
import sys
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from geoseg.model.engines import network_input
from geoseg.model.engines.engine import Turn
from geoseg.model.engines.network_input import fill_gaps, filled
from tests.model.mirrored import mirrored

masks = arrays.arrays(np.bool_, arrays.array_shapes(min_dims=2, max_dims=2, max_side=9))


def by_torch(image: NDArray[np.float32], valid: NDArray[np.bool_]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the filling of a window, computed in a batch with a window without gaps."""
    both = torch.from_numpy(np.stack([image, image])), torch.from_numpy(np.stack([valid, np.ones_like(valid)])[:, None])
    made, seen = filled(*both, torch)
    np.testing.assert_array_equal(made[1], both[0][1])
    return made[0].numpy(), seen[0, 0].numpy()


@given(valid=masks, seed=st.integers(0, 9))
def test_a_gap_is_mirrored_at_its_nearest_edge(valid: NDArray[np.bool_], seed: int) -> None:
    image = np.random.default_rng(seed).normal(100, 50, (2, *valid.shape)).astype(np.float32)
    image[:, ~valid] = np.nan
    wanted, there = mirrored(image, valid)
    made = image.copy()
    seen = fill_gaps(made, valid)
    np.testing.assert_array_equal(seen, there)
    np.testing.assert_allclose(made[:, seen], wanted[:, there], rtol=1e-6)
    again, seen_again = by_torch(image, valid)
    np.testing.assert_array_equal(seen_again, there)
    np.testing.assert_array_equal(again[:, seen], made[:, seen])
    few, seen_by_few = filled(image[None], valid[None, None], np)
    np.testing.assert_array_equal(seen_by_few[0, 0], there)
    np.testing.assert_array_equal(few[0][:, seen], made[:, seen])


def test_few_windows_do_not_load_numba(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network_input, "_count", itertools.count())
    monkeypatch.delitem(sys.modules, "numba", raising=False)
    monkeypatch.setattr(network_input, "_fill", None)
    valid = np.arange(6).reshape(2, 3) != 1
    image = np.arange(6, dtype=np.float32).reshape(1, 2, 3)
    for _ in range(8):
        assert fill_gaps(image.copy(), valid).all()
    with pytest.raises(TypeError):
        fill_gaps(image.copy(), valid)


@given(valid=masks)
@pytest.mark.parametrize("turn", [Turn(transpose=True), Turn(flip_rows=True, flip_cols=True)], ids=str)
def test_a_turned_image_has_the_turned_filling(turn: Turn, valid: NDArray[np.bool_]) -> None:
    image = np.random.default_rng(1).normal(size=(1, *valid.shape)).astype(np.float32)
    made, turned = image.copy(), np.ascontiguousarray(turn.of_pixels(image, np))
    seen = fill_gaps(made, valid)
    seen_turned = fill_gaps(turned, turn.of_pixels(valid, np))
    np.testing.assert_array_equal(seen_turned, turn.of_pixels(seen, np))
    np.testing.assert_array_equal(turned, turn.of_pixels(made, np))
