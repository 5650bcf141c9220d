"""Overviews of a map: halved level by level, by the most frequent class of four pixels for labels, else their mean.

A pixel depends only on its four pixels of the level below, so the overviews of tiles, side by side, are the overviews
of the map for any tiling.
"""

from __future__ import annotations

import functools
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.compiled import njit
from geoseg.legend import NODATA

SMALLEST_PX = 512
_COMPILED_LEVELS = 6
"""With at least this many levels, kernels may be compiled: loading costs 0.55 s of CPU, saves 0.4 ms per megapixel."""
_ROWS_AT_ONCE = 64

_FEW = 0.2
"""Share of fours up to which selecting them takes less time than computing all."""
_NODATA_PAIR = np.uint16(NODATA * 257)

_THIRD, _THIRD_BITS = 21846, 16
"""A multiplication that divides the sum of three bytes by three: divisions are not vectorized."""

Pixels = NDArray[np.uint8]
Pairs = NDArray[np.uint16]


def overview_levels(height_px: int, width_px: int) -> int:
    """Return how many times a raster is halved until its long side is at most 512 pixels.

    A tile whose first row and column are multiples of 2**levels has overviews that match those of its neighbors.
    """
    levels = 0
    while max(halved_px(height_px, levels), halved_px(width_px, levels)) > SMALLEST_PX:
        levels += 1
    return levels


def halved_px(length_px: int, times: int) -> int:
    """Return a length halved repeatedly, rounded up, as GDAL sizes its overviews."""
    return -(-length_px >> times)


def use_compiled(levels: int) -> bool:
    """Return whether compiled kernels are worthwhile for a map with this many levels.

    numba takes 100 MB. It is used only in a process that has already loaded it or torch; others stay small.
    """
    return levels >= _COMPILED_LEVELS and ("numba" in sys.modules or "torch" in sys.modules)


def halved(pixels: Pixels, *, classes: bool, compiled: bool) -> Pixels:
    """Halve `pixels` (band, row, col), rounding up; compiled kernels give the same result ten times as fast."""
    bands, height, width = pixels.shape
    small = np.empty((bands, halved_px(height, 1), halved_px(width, 1)), np.uint8)
    if compiled:
        _halve(pixels, small, classes)
        return small
    for row in range(0, small.shape[1], _ROWS_AT_ONCE):  # strips stay in the CPU cache
        upper, lower = _pairs(pixels[:, 2 * row : 2 * (row + _ROWS_AT_ONCE)])
        half = _half_of_classes(upper, lower) if classes else _mean(*_fours(upper, lower))
        small[:, row : row + _ROWS_AT_ONCE] = half
    return small


def _pairs(strip: Pixels) -> tuple[Pairs, Pairs]:
    """Return the upper and the lower two of each four pixels, two bytes in one number; nodata beyond the edge."""
    odd = strip.shape[1] % 2, strip.shape[2] % 2
    if any(odd):
        strip = np.pad(strip, ((0, 0), (0, odd[0]), (0, odd[1])), constant_values=NODATA)
    upper, lower = (np.ascontiguousarray(strip[:, start::2]).view("<u2") for start in (0, 1))
    return upper, lower


def _half_of_classes(upper: Pairs, lower: Pairs) -> Pixels:
    """Return the most frequent class of each four.

    If the upper pair equals the lower, as nearly everywhere in a map, it is the upper left one, unless that is nodata.
    """
    small = upper.astype(np.uint8)
    is_open = upper != lower
    if small.max() == NODATA:
        is_open |= (small == NODATA) & (upper != _NODATA_PAIR)
    if np.count_nonzero(is_open) > _FEW * small.size:
        return _winners(*_fours(upper, lower))
    places = np.flatnonzero(is_open)
    if places.size:
        small.reshape(-1)[places] = _winners(*_fours(upper.reshape(-1)[places], lower.reshape(-1)[places]))
    return small


def _winners(*four: Pixels) -> Pixels:
    if any(part.max() == NODATA for part in four):
        return _most_frequent(*four)
    return _most_frequent_of_valid(*four)


def _fours(upper: Pairs, lower: Pairs) -> tuple[Pixels, Pixels, Pixels, Pixels]:
    """Return the upper left, upper right, lower left and lower right pixels, each contiguous.

    NumPy processes contiguous bytes several times as fast as every other byte.
    """
    right = np.uint16(8)
    return (
        upper.astype(np.uint8),
        (upper >> right).astype(np.uint8),
        lower.astype(np.uint8),
        (lower >> right).astype(np.uint8),
    )


def _most_frequent(first: Pixels, second: Pixels, third: Pixels, fourth: Pixels) -> Pixels:
    """Return the most frequent class of four, the first on a tie; nodata is not counted."""
    winner = fourth
    for candidate in (third, second, first):
        winner = _where(candidate != NODATA, candidate, winner)
    # From here each winner overrides the last: a pair among the later ones, then a pair with an earlier one.
    winner = _where((third == fourth) & (third != NODATA), third, winner)
    winner = _where(((second == third) | (second == fourth)) & (second != NODATA), second, winner)
    return _where(((first == second) | (first == third) | (first == fourth)) & (first != NODATA), first, winner)


def _most_frequent_of_valid(first: Pixels, second: Pixels, third: Pixels, fourth: Pixels) -> Pixels:
    """Return the same as `_most_frequent`, in half the time, if none of the four is nodata."""
    with_second = (second == third) | (second == fourth)
    pair = _where(with_second, second, third)
    is_first = (first == second) | (first == third) | (first == fourth)
    return _where((with_second | (third == fourth)) & ~is_first, pair, first)


def _where(condition: NDArray[np.bool_], yes: Pixels, no: Pixels) -> Pixels:
    """Do the same as np.where with bits: five times as fast if the condition changes from pixel to pixel."""
    chosen = yes ^ no
    chosen &= np.negative(condition.view(np.uint8))
    chosen ^= no
    return chosen


def _mean(*four: Pixels) -> Pixels:
    """Return the mean of the valid pixels of four, halves rounded up."""
    key = np.zeros(four[0].shape, np.uint16)
    for pixels in four:
        key += pixels
        key += (pixels == NODATA) * np.uint16(_SUMS)
    return _means()[key]


_SUMS = 4 * NODATA + 1
"""Number of different sums of four bytes."""


@functools.cache
def _means() -> Pixels:
    """Return the mean by the number of nodata among four and the sum of all four, flat."""
    nodata, total = np.arange(5)[:, None], np.arange(_SUMS)
    count = np.maximum(4 - nodata, 1)
    mean = (total - NODATA * nodata + count // 2) // count
    return np.where(nodata == 4, NODATA, np.clip(mean, 0, NODATA)).astype(np.uint8).ravel()


@njit(cache=True, nogil=True)
def _halve(pixels: Any, small: Any, classes: Any) -> None:
    """Write the half of `pixels` (band, row, col) to `small`.

    At an odd edge the last row or column counts twice, which changes no most frequent class and no mean.
    """
    bands, height, _ = pixels.shape
    for band in range(bands):
        for row in range(small.shape[1]):
            upper, lower, line = pixels[band, 2 * row], pixels[band, min(2 * row + 1, height - 1)], small[band, row]
            if classes:
                _halve_line_of_classes(upper, lower, line)
            else:
                _halve_line_of_percents(upper, lower, line)


@njit(nogil=True)
def _halve_line_of_classes(upper: Any, lower: Any, line: Any) -> None:
    for col in range(upper.size // 2):
        line[col] = _winner(upper[2 * col], upper[2 * col + 1], lower[2 * col], lower[2 * col + 1])
    if upper.size % 2:
        line[-1] = _winner(upper[-1], upper[-1], lower[-1], lower[-1])


@njit(nogil=True)
def _halve_line_of_percents(upper: Any, lower: Any, line: Any) -> None:
    for col in range(upper.size // 2):
        line[col] = _mean_of_four(upper[2 * col], upper[2 * col + 1], lower[2 * col], lower[2 * col + 1])
    if upper.size % 2:
        line[-1] = _mean_of_four(upper[-1], upper[-1], lower[-1], lower[-1])


@njit(inline="always")
def _winner(first: Any, second: Any, third: Any, fourth: Any) -> Any:
    """Return the most frequent of four; `&` and `|` instead of `and` and `or`, so that the loop is vectorized."""
    found = third if third != NODATA else fourth
    found = second if second != NODATA else found
    found = first if first != NODATA else found
    found = third if (third == fourth) & (third != NODATA) else found
    found = second if ((second == third) | (second == fourth)) & (second != NODATA) else found
    return first if ((first == second) | (first == third) | (first == fourth)) & (first != NODATA) else found


@njit(inline="always")
def _mean_of_four(first: Any, second: Any, third: Any, fourth: Any) -> Any:
    count = np.int32(first != NODATA) + (second != NODATA) + (third != NODATA) + (fourth != NODATA)
    total = np.int32(first) + second + third + fourth - np.int32(NODATA) * (4 - count)
    halves = (total + 1) >> 1
    thirds = (total + 1) * _THIRD >> _THIRD_BITS
    quarters = (total + 2) >> 2
    found = total if count == 1 else halves
    found = thirds if count == 3 else found
    found = quarters if count == 4 else found
    return found if count > 0 else NODATA
