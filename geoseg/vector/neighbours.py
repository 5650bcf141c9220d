"""Which regions of a raster lie side by side, and how long the border is: for those lighter than a threshold."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.vector.borders import Borders, find_borders
from geoseg.vector.numbered import Numbered, number_regions, run_lengths


@dataclass(frozen=True, slots=True)
class Neighbours:
    """The regions of a raster, and the borders of the light ones: arrays that whoever sieves them writes to."""

    codes: NDArray[np.int32]
    """(region,) class."""
    parents: NDArray[np.int32]
    """(region,) its own number, or a lower one of the same region."""
    weights: NDArray[np.int64]
    """(region,) the threshold for those that reach it, and for numbers given up."""
    first_borders: NDArray[np.int64]
    """(region,) where the borders of a light one start."""
    border_counts: NDArray[np.int32]
    """(region,) how many they are; 0 for others."""
    others: NDArray[np.int32]
    """(border,) the region behind it; one region may stand behind several."""
    lengths: NDArray[np.int64]
    """(border,) 0 where they touch at a corner only."""
    corners: NDArray[np.int32]
    """(pair, 2) regions of one class that touch at a corner; empty with 4-connectivity."""
    rows: int
    """Rows of the raster."""
    dtype: np.dtype[Any]
    """Of the raster."""


def find_neighbours(
    strips: Iterable[NDArray[Any]],
    background: int,
    cols: int,
    threshold: int,
    row_weights: NDArray[np.int64] | None,
    side_weights: tuple[int, int],
    connectivity: int,
) -> Neighbours:
    """Find the regions of a raster and the borders of those lighter than the threshold, strip by strip.

    `row_weights` is (row,), what a pixel weighs; `side_weights` are the lengths of a pixel's side along a row and along
    a column. In memory stay 28 bytes a region, 12 a border of a light one, and the borders of the strip in hand.
    """
    graph = _Graph(threshold)
    weights_above = np.empty(0, np.int64)
    above = Borders.none()
    rows, dtype = 0, np.dtype(np.uint8)
    for strip in number_regions(strips, background):
        rows, dtype = strip.last_row, strip.dtype
        weights = np.minimum(_weigh(strip, cols, row_weights, weights_above), threshold)
        borders = find_borders(strip, cols, weights < threshold, side_weights, connectivity, above)
        still_open = strip.regions.open
        graph.add(strip, weights, borders, still_open)
        above = borders.carry(weights < threshold, still_open)
        weights_above = weights[still_open]
    return graph.whole(rows, dtype)


class _Graph:
    """Neighbours as they grow: arrays that lengthen in place, so that nothing is held twice."""

    def __init__(self, threshold: int) -> None:
        self.threshold = threshold
        self.codes, self.parents, self.border_counts, self.others, self.corners = (array("i") for _ in range(5))
        self.weights, self.first_borders, self.lengths = (array("q") for _ in range(3))

    def add(self, strip: Numbered, weights: NDArray[np.int64], borders: Borders, still_open: NDArray[np.bool_]) -> None:
        """Add the numbers begun in a strip, and the borders of the light regions that end in it."""
        self._begin(strip)
        ended = ~still_open & (weights < self.threshold)
        same = strip.regions.codes[borders.regions] == _view(self.codes)[borders.others]
        kept = ~same & ended[borders.regions]
        counts = np.bincount(borders.regions[kept], minlength=len(weights))[ended]
        numbers = strip.numbers[ended]
        _view(self.weights)[numbers] = weights[ended]
        _view(self.border_counts)[numbers] = counts
        _view(self.first_borders)[numbers] = len(self.others) + np.cumsum(counts) - counts
        self.others.frombytes(borders.others[kept].tobytes())
        self.lengths.frombytes(borders.lengths[kept].tobytes())
        corners = np.stack([strip.numbers[borders.regions[same]], borders.others[same]], axis=1)
        self.corners.frombytes(corners.tobytes())

    def _begin(self, strip: Numbered) -> None:
        first = len(self.codes)
        count = strip.begun - first
        self.codes.frombytes(strip.regions.codes[len(strip.numbers) - count :].tobytes())
        self.parents.frombytes(np.arange(first, strip.begun, dtype=np.int32).tobytes())
        self.border_counts.frombytes(np.zeros(count, np.int32).tobytes())
        self.weights.frombytes(np.full(count, self.threshold, np.int64).tobytes())
        self.first_borders.frombytes(np.zeros(count, np.int64).tobytes())
        _view(self.parents)[strip.numbers_above] = strip.numbers[strip.regions.carried]

    def whole(self, rows: int, dtype: np.dtype[Any]) -> Neighbours:
        return Neighbours(
            _view(self.codes),
            _view(self.parents),
            _view(self.weights),
            _view(self.first_borders),
            _view(self.border_counts),
            _view(self.others),
            _view(self.lengths),
            _view(self.corners).reshape(-1, 2),
            rows,
            dtype,
        )


def _view(growing: array[int]) -> NDArray[Any]:
    return np.frombuffer(growing, growing.typecode)


def _weigh(
    strip: Numbered, cols: int, row_weights: NDArray[np.int64] | None, above: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return (region,) what each weighs so far; `above` is (region of the strip before,)."""
    regions = strip.regions
    rows = len(regions.run_rows) - 2
    pixels = np.ones(rows, np.int64) if row_weights is None else row_weights[strip.first_row : strip.first_row + rows]
    pixels = np.append(pixels, np.zeros(rows - len(pixels), np.int64))  # the row below the raster
    runs = np.repeat(pixels, np.diff(regions.run_rows[1:])) * run_lengths(regions, cols)
    weights = np.zeros(len(regions) + 1, np.int64)  # the last entry takes the background's -1
    np.add.at(weights, regions.run_regions[regions.run_rows[1] :], runs)
    np.add.at(weights, regions.carried, above)
    return weights[:-1]
