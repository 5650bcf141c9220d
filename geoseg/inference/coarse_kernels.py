"""Means of fine pixels and what is interpolated between them, compiled; `derived_engines.py` has both in numpy, too."""

from __future__ import annotations

from typing import Any

import numpy as np

from geoseg.compiled import njit


@njit(cache=True, nogil=True)
def average(data: Any, valid: Any, means: Any, any_valid: Any) -> None:
    """Write the means of the valid pixels of `data` (band, row, col) to `means` (band, row, col), which is coarser.

    Each of its pixels covers a rectangle of the fine ones, whose parts count by their area. `any_valid` (row, col)
    becomes True where one of them is valid; elsewhere the mean is 0. Each inner loop does one thing to a row, so that
    columns are done in parallel.
    """
    bands, height, width = data.shape
    rows, cols = any_valid.shape
    fine_cols, col_shares = _covered(width, cols)
    sums, areas, shares = np.empty((bands, width), np.float32), np.empty(width, np.float32), np.empty(width, np.float32)
    amount, area = np.empty(cols, np.float64), np.empty(cols, np.float64)
    for row in range(rows):
        top, bottom = row * height / rows, (row + 1) * height / rows
        sums[:] = 0.0
        areas[:] = 0.0
        for fine in range(int(top), min(int(np.ceil(bottom)), height)):
            _share(valid[fine], np.float32(min(fine + 1.0, bottom) - max(float(fine), top)), shares, areas)
            for band in range(bands):
                _add(data[band, fine], shares, sums[band])
        _gather(areas, fine_cols, col_shares, area)
        _mark(area, any_valid[row])
        for band in range(bands):
            _gather(sums[band], fine_cols, col_shares, amount)
            _divide(amount, area, means[band, row])


@njit(inline="always")
def _share(valid: Any, share: Any, shares: Any, areas: Any) -> None:
    """Find how much of each fine pixel of a row counts, nothing of one that is not valid."""
    for col in range(shares.size):
        shares[col] = share if valid[col] else np.float32(0.0)
    for col in range(shares.size):
        areas[col] += shares[col]


@njit(inline="always")
def _add(line: Any, shares: Any, total: Any) -> None:
    for col in range(shares.size):  # invalid pixels are numbers too, and count nothing
        total[col] += shares[col] * np.float32(line[col])


@njit(inline="always")
def _gather(line: Any, fine_cols: Any, col_shares: Any, total: Any) -> None:
    total[:] = 0.0
    for number in range(len(fine_cols)):
        places, shares = fine_cols[number], col_shares[number]
        for col in range(total.size):
            total[col] += shares[col] * line[places[col]]


@njit(inline="always")
def _mark(area: Any, any_valid: Any) -> None:
    for col in range(area.size):
        any_valid[col] = area[col] > 0.0


@njit(inline="always")
def _divide(amount: Any, area: Any, mean: Any) -> None:
    for col in range(area.size):  # numpy's division asks for no fault, and is done in parallel
        mean[col] = np.divide(amount[col], area[col]) if area[col] > 0.0 else 0.0


@njit(inline="always")
def _covered(length: Any, parts: Any) -> Any:
    """Return the fine pixels that each part of an axis covers, (number, part), and how much of each; 0 of the rest."""
    most = 0
    for part in range(parts):
        most = max(most, min(int(np.ceil((part + 1) * length / parts)), length) - int(part * length / parts))
    places, shares = np.zeros((most, parts), np.uint32), np.zeros((most, parts), np.float64)
    for part in range(parts):
        start, stop = part * length / parts, (part + 1) * length / parts
        first = int(start)
        for number in range(most):
            fine = first + number
            is_covered = fine < min(int(np.ceil(stop)), length)
            places[number, part] = fine if is_covered else first
            shares[number, part] = min(fine + 1.0, stop) - max(float(fine), start) if is_covered else 0.0
    return places, shares


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
