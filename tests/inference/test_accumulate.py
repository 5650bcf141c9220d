from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from geoseg.inference.accumulate import RowBand, most_probable, percent
from geoseg.raster.windows import Window
from tests.inference.position_engine import PositionEngine

torch = pytest.importorskip("torch")


class TorchEngine(PositionEngine):
    """The same arithmetic on torch arrays, as on a GPU."""

    xp = torch

    def zeros(self, shape: tuple[int, ...]) -> Any:
        return torch.zeros(shape, dtype=torch.float32)

    def download(self, array: Any) -> NDArray[Any]:
        return np.asarray(array)


def summed(engine: PositionEngine, window_px: int = 6) -> list[tuple[Window, NDArray[np.float32]]]:
    rng = np.random.default_rng(3)
    tile = Window(4, 3, 13, 9)
    band = RowBand(engine, tile, window_px)
    taken = []
    starts = [0, 4, 8, 11, 14]
    for row, following in zip(starts, [*starts[1:], tile.row_stop], strict=True):
        band.start_row(row)
        for col in (0, 4, 8):
            weighted = engine.xp.asarray(rng.random((4, window_px, window_px), dtype=np.float32))
            band.add(weighted, Window(row, col, window_px, window_px))
        finished = band.finished(following)
        if finished is not None:
            taken.append((finished[0], np.array(engine.download(finished[1]))))
    return taken


def test_numpy_and_torch_arrays_sum_to_the_same_bits() -> None:
    ours, theirs = summed(PositionEngine()), summed(TorchEngine())
    assert [place for place, _ in ours] == [place for place, _ in theirs]
    for (_, mine), (_, other) in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(mine, other)


def test_every_pixel_of_the_tile_is_finished_once() -> None:
    seen = np.zeros((13, 9), int)
    for place, _ in summed(PositionEngine()):
        inside = place.relative_to(Window(4, 3, 13, 9))
        seen[inside.rows, inside.cols] += 1
    assert (seen == 1).all()


@pytest.mark.parametrize("engine", [PositionEngine(), TorchEngine()], ids=["numpy", "torch"])
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
