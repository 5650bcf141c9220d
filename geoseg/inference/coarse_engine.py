"""A network sees the pixel size it knows: finer windows are averaged for it, its probabilities interpolated back.

The windows are the scene's: their grid, their weights and the order of their sums stay as they are, so every law of the
map holds with this engine around another one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from geoseg.model import UPRIGHT, Engine, Turn, Weights
from geoseg.raster import Window


@dataclass(frozen=True, slots=True)
class _Footprint:
    """Pixels as they were read; each window of them is averaged when it is asked for."""

    data: NDArray[Any]
    """(band, row, col), stored dtype."""
    valid: NDArray[np.bool_]
    """(row, col)."""


class CoarseEngine:
    """An engine whose windows have `window_px` pixels a side, of which another one sees means, `network_px` a side.

    An averaged pixel is the mean of the valid part of the ground that it covers, invalid where there is none.
    Probabilities are interpolated between the middles of the averaged pixels (bilinear), so they still add up to one.
    """

    def __init__(self, engine: Engine, window_px: int, network_px: int) -> None:
        self._engine = engine
        self._window_px = window_px
        self._network_px = network_px
        self.name, self.device, self.precision = engine.name, engine.device, engine.precision
        self.classes = engine.classes
        self.xp: ModuleType = engine.xp

    def upload(self, data: NDArray[Any], valid: NDArray[np.bool_]) -> _Footprint:
        """Keep pixels (band, row, col) and valid (row, col) where they are: their means are all that is sent."""
        return _Footprint(data, valid)

    def probabilities(
        self, footprint: _Footprint, windows: Sequence[Window], weights: Weights, turn: Turn = UPRIGHT
    ) -> Any:
        """Return float32 (n, class, row, col) of the windows, times their weights; see Engine."""
        side = self._network_px
        means = np.empty((len(footprint.data), len(windows) * side, side), np.float32)
        valid = np.empty(means.shape[1:], np.bool_)
        places = [Window(index * side, 0, side, side) for index in range(len(windows))]
        for window, place in zip(windows, places, strict=True):
            average(
                footprint.data[:, window.rows, window.cols],
                footprint.valid[window.rows, window.cols],
                means[:, place.rows],
                valid[place.rows],
            )
        coarse = self._engine.probabilities(
            self._engine.upload(means, valid), places, Weights.ones(len(windows), side), turn
        )
        return self._interpolated(coarse, weights)

    def zeros(self, shape: tuple[int, ...]) -> Any:
        """Return zeros where the engine computes."""
        return self._engine.zeros(shape)

    def download(self, array: Any) -> NDArray[Any]:
        """Return an array as numpy's."""
        return self._engine.download(array)

    def _interpolated(self, coarse: Any, weights: Weights) -> Any:
        below, above, share = middles(self._window_px, self._network_px)
        if self.xp is np:
            fine = np.empty((*coarse.shape[:2], self._window_px, self._window_px), np.float32)
            interpolate(coarse, below, above, share, weights.rows, weights.cols, fine)
            return fine

        def there(array: NDArray[Any]) -> Any:
            return self.xp.asarray(array, device=coarse.device)

        low, high, upper = there(below), there(above), there(share)
        rows = coarse[:, :, low] * (1 - upper)[:, None] + coarse[:, :, high] * upper[:, None]
        fine = rows[..., low] * (1 - upper) + rows[..., high] * upper
        return fine * (there(weights.rows)[:, None, :, None] * there(weights.cols)[:, None, None, :])


def middles(window_px: int, network_px: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Return between which two averaged pixels the middle of each pixel of an axis lies, and the share of the second.

    Beyond the first and the last middle there is but one.
    """
    at = np.clip((np.arange(window_px) + 0.5) * network_px / window_px - 0.5, 0, network_px - 1)
    below = np.minimum(at.astype(np.int64), max(network_px - 2, 0))
    return below, np.minimum(below + 1, network_px - 1), (at - below).astype(np.float32)


@njit(cache=True, nogil=True)
def average(data: Any, valid: Any, means: Any, any_valid: Any) -> None:
    """Write the means of the valid pixels of `data` (band, row, col) to `means` (band, row, col), which is coarser.

    Each of its pixels covers a rectangle of the fine ones, whose parts count by their area. `any_valid` (row, col)
    becomes True where one of them is valid; elsewhere the mean is 0.
    """
    bands, height, width = data.shape
    rows, cols = any_valid.shape
    sums = np.empty((bands, width), np.float32)
    areas = np.empty(width, np.float32)
    shares = np.empty(width, np.float32)
    for row in range(rows):
        top, bottom = row * height / rows, (row + 1) * height / rows
        sums[:] = 0.0
        areas[:] = 0.0
        for fine in range(int(top), min(int(np.ceil(bottom)), height)):
            share = np.float32(min(fine + 1.0, bottom) - max(float(fine), top))
            for col in range(width):
                shares[col] = share if valid[fine, col] else np.float32(0.0)
                areas[col] += shares[col]
            for band in range(bands):
                line, total = data[band, fine], sums[band]
                for col in range(width):  # invalid pixels are numbers too, and count nothing
                    total[col] += shares[col] * np.float32(line[col])
        for col in range(cols):
            left, right = col * width / cols, (col + 1) * width / cols
            area = 0.0
            for fine in range(int(left), min(int(np.ceil(right)), width)):
                area += (min(fine + 1.0, right) - max(float(fine), left)) * areas[fine]
            any_valid[row, col] = area > 0.0
            for band in range(bands):
                amount = 0.0
                for fine in range(int(left), min(int(np.ceil(right)), width)):
                    amount += (min(fine + 1.0, right) - max(float(fine), left)) * sums[band, fine]
                means[band, row, col] = amount / area if area > 0.0 else 0.0


@njit(cache=True, nogil=True)
def interpolate(
    coarse: Any,
    below: Any,
    above: Any,
    share: Any,
    row_weights: Any,
    col_weights: Any,
    fine: Any,
) -> None:
    """Write `coarse` (n, class, row, col), interpolated and times the weights (n, row), (n, col), to `fine`."""
    count, classes, window_px, _ = fine.shape
    between = np.empty(coarse.shape[3], np.float32)
    for n in range(count):
        for k in range(classes):
            for row in range(window_px):
                upper = share[row]
                low, high, weight = coarse[n, k, below[row]], coarse[n, k, above[row]], row_weights[n, row]
                for col in range(between.size):
                    between[col] = low[col] + (high[col] - low[col]) * upper
                line = fine[n, k, row]
                for col in range(window_px):
                    first = between[below[col]]
                    value = first + (between[above[col]] - first) * share[col]
                    line[col] = value * weight * col_weights[n, col]
