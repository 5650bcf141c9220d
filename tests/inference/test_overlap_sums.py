from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from geoseg.inference.blend import Overlaps, most_probable, percent
from tests.inference.position_engine import PositionEngine, TorchPositionEngine

ROWS, COLS, WINDOW = (0, 4, 8, 11), (0, 5, 6, 10), 7  # some pixels lie in nine windows, the last are pushed inward


def finished_by(engine: PositionEngine, scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the sums of windows (row of windows, column, class, row, col), assembled from the finished parts."""
    overlaps = Overlaps(engine, COLS[-1] + WINDOW, WINDOW)
    whole = np.full((4, ROWS[-1] + WINDOW, COLS[-1] + WINDOW), np.nan, np.float32)
    for i, row in enumerate(ROWS):
        overlaps.start_row(row + WINDOW - ROWS[i + 1] if i + 1 < len(ROWS) else 0)
        for j, col in enumerate(COLS):
            shared = col + WINDOW - COLS[j + 1] if j + 1 < len(COLS) else 0
            part = engine.download(overlaps.finish(engine.xp.asarray(scores[i, j].copy()), col, shared))
            place = whole[:, row : row + part.shape[1], col : col + part.shape[2]]
            assert np.isnan(place).all(), "a pixel was finished twice"
            place[...] = part
    return whole


@pytest.mark.parametrize("engine", [PositionEngine(), TorchPositionEngine()], ids=["numpy", "torch"])
def test_sums_are_those_of_all_windows_in_their_order_bit_for_bit(engine: PositionEngine) -> None:
    scores = np.random.default_rng(3).random((len(ROWS), len(COLS), 4, WINDOW, WINDOW), dtype=np.float32)
    expected = np.zeros((4, ROWS[-1] + WINDOW, COLS[-1] + WINDOW), np.float32)
    for i, row in enumerate(ROWS):
        for j, col in enumerate(COLS):
            expected[:, row : row + WINDOW, col : col + WINDOW] += scores[i, j]
    np.testing.assert_array_equal(finished_by(engine, scores), expected)


@pytest.mark.parametrize("engine", [PositionEngine(), TorchPositionEngine()], ids=["numpy", "torch"])
def test_most_probable_is_argmax_and_max(engine: PositionEngine) -> None:
    probabilities = np.random.default_rng(1).dirichlet(np.ones(4), (20, 30)).transpose(2, 0, 1).astype(np.float32)
    probabilities[:, 0, 0] = 0.25  # a tie goes to the first
    array = engine.zeros(probabilities.shape)
    array[...] = engine.xp.asarray(probabilities)
    channel, best = (engine.download(found) for found in most_probable(engine, array))
    np.testing.assert_array_equal(channel, probabilities.argmax(axis=0))
    np.testing.assert_array_equal(best, probabilities.max(axis=0))
    assert channel.dtype == np.uint8
    np.testing.assert_array_equal(engine.download(percent(engine, array)), np.floor(probabilities * 100 + 0.5))
