"""Means of fine pixels and what is interpolated between them, compiled; `coarse_engine` has both in numpy, too."""

from __future__ import annotations

from typing import Any

import numpy as np

from geoseg.compiled import njit


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
    """Write `coarse` (n, class, row, col), interpolated and times the weights (n, row), (n, col), to `fine`.

    Each coarse row is widened once; between two of them all columns are done in parallel.
    """
    count, classes, window_px, _ = fine.shape
    wide, held = np.empty((2, window_px), np.float32), np.empty(2, np.int64)
    for n in range(count):
        columns = col_weights[n]
        for k in range(classes):
            held[:] = -1
            for row in range(window_px):
                for at in (below[row], above[row]):
                    if held[at % 2] != at:
                        held[at % 2] = at
                        _widen(coarse[n, k, at], below, above, share, wide[at % 2])
                low, high = wide[below[row] % 2], wide[above[row] % 2]
                _between(low, high, share[row], row_weights[n, row], columns, fine[n, k, row])


@njit(inline="always")
def _between(low: Any, high: Any, upper: Any, weight: Any, columns: Any, line: Any) -> None:
    for col in range(line.size):
        line[col] = (low[col] + (high[col] - low[col]) * upper) * weight * columns[col]


@njit(inline="always")
def _widen(line: Any, below: Any, above: Any, share: Any, wide: Any) -> None:
    for col in range(wide.size):
        first = line[below[col]]
        wide[col] = first + (line[above[col]] - first) * share[col]
