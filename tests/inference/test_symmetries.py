"""The mean over the symmetries of a square, against turning the pixels by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from geoseg.inference.derived_engines import SymmetricEngine
from geoseg.model import Weights, choose_engine
from geoseg.raster import Window
from tests.networks import tiny_bundle

PX = 64


@pytest.mark.parametrize("device", ["onnx", "torch-cpu"])
@pytest.mark.parametrize("count", [1, 4, 8])
def test_it_is_the_mean_of_pixels_turned_by_hand(tmp_path: Path, device: str, count: int) -> None:
    rng = np.random.default_rng(3)
    engine = choose_engine(tiny_bundle(tmp_path, window_px=PX), device, window_px=PX).open()
    pixels, valid = rng.integers(0, 256, (3, 90, 150), dtype=np.uint8), rng.random((90, 150)) < 0.9
    windows = [Window(3, 5, PX, PX), Window(20, 80, PX, PX)]
    weights = Weights(rng.random((2, PX), np.float32), rng.random((2, PX), np.float32))
    symmetric = SymmetricEngine(engine, count)
    found = engine.download(symmetric.probabilities(symmetric.upload(pixels, valid), windows, weights))

    turns = [(flip, quarter) for quarter in ((0, 2, 1, 3) if count > 2 else (0,)) for flip in (False, True)]
    chosen = {1: turns[:1], 4: turns[:4], 8: turns}[count]
    for place, window in enumerate(windows):
        cut, there = pixels[:, window.rows, window.cols], valid[window.rows, window.cols]
        total = np.zeros((engine.classes, PX, PX))
        for flip, quarter in chosen:
            data, mask = (np.rot90(each[..., ::-1] if flip else each, quarter, (-2, -1)) for each in (cut, there))
            footprint = engine.upload(np.ascontiguousarray(data), np.ascontiguousarray(mask))
            scored = engine.probabilities(footprint, [Window(0, 0, PX, PX)], Weights.ones(1, PX))
            back = np.rot90(engine.download(scored)[0], -quarter, (-2, -1))
            total += back[..., ::-1] if flip else back
        wanted = total / len(chosen) * weights.rows[place][:, None] * weights.cols[place]
        np.testing.assert_allclose(found[place], wanted, atol=2e-5)
