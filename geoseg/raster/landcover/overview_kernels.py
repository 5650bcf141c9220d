"""The halving of overviews, compiled: bit for bit what numpy gives in `overviews.py`, for large maps."""

from __future__ import annotations

from typing import Any

import numpy as np

from geoseg.compiled import njit

_NODATA = 255
_THIRD, _THIRD_BITS = 21846, 16
"""A multiplication that divides what three bytes can sum up to by three; divisions are not done in parallel."""


@njit(cache=True, nogil=True)
def most_frequent(pixels: Any, small: Any) -> None:
    """Write the most frequent class of each four of `pixels` (band, row, col) to `small`, the first on a tie."""
    bands, height, width = pixels.shape
    for band in range(bands):
        for row in range(height // 2):
            upper, lower, line = pixels[band, 2 * row], pixels[band, 2 * row + 1], small[band, row]
            for col in range(width // 2):
                line[col] = _winner(upper[2 * col], upper[2 * col + 1], lower[2 * col], lower[2 * col + 1])
            if width % 2:
                line[width // 2] = _winner(upper[width - 1], _NODATA, lower[width - 1], _NODATA)
        if height % 2:
            upper, line = pixels[band, height - 1], small[band, height // 2]
            for col in range(width // 2):
                line[col] = _winner(upper[2 * col], upper[2 * col + 1], _NODATA, _NODATA)
            if width % 2:
                line[width // 2] = upper[width - 1]


@njit(inline="always")
def _winner(first: Any, second: Any, third: Any, fourth: Any) -> Any:
    """Return the most frequent of four; `&` and `|` rather than `and` and `or`, so that pixels are done in parallel."""
    found = third if third != _NODATA else fourth
    found = second if second != _NODATA else found
    found = first if first != _NODATA else found
    found = third if (third == fourth) & (third != _NODATA) else found
    found = second if ((second == third) | (second == fourth)) & (second != _NODATA) else found
    return first if ((first == second) | (first == third) | (first == fourth)) & (first != _NODATA) else found


@njit(cache=True, nogil=True)
def mean(pixels: Any, small: Any) -> None:
    """Write the mean of the valid ones of each four of `pixels` (band, row, col) to `small`, halves rounded up."""
    bands, height, width = pixels.shape
    for band in range(bands):
        for row in range(height // 2):
            upper, lower, line = pixels[band, 2 * row], pixels[band, 2 * row + 1], small[band, row]
            for col in range(width // 2):
                line[col] = _mean(upper[2 * col], upper[2 * col + 1], lower[2 * col], lower[2 * col + 1])
            if width % 2:
                line[width // 2] = _mean(upper[width - 1], _NODATA, lower[width - 1], _NODATA)
        if height % 2:
            upper, line = pixels[band, height - 1], small[band, height // 2]
            for col in range(width // 2):
                line[col] = _mean(upper[2 * col], upper[2 * col + 1], _NODATA, _NODATA)
            if width % 2:
                line[width // 2] = upper[width - 1]


@njit(inline="always")
def _mean(first: Any, second: Any, third: Any, fourth: Any) -> Any:
    count = np.int32(first != _NODATA) + (second != _NODATA) + (third != _NODATA) + (fourth != _NODATA)
    total = np.int32(first) + second + third + fourth - np.int32(_NODATA) * (4 - count)
    halves = (total + 1) >> 1
    thirds = (total + 1) * _THIRD >> _THIRD_BITS
    quarters = (total + 2) >> 2
    found = total if count == 1 else halves
    found = thirds if count == 3 else found
    found = quarters if count == 4 else found
    return found if count > 0 else _NODATA
