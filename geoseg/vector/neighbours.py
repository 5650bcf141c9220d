"""Which regions of a raster lie side by side, and how long their shared border is: for those lighter than a threshold.

A region's number is the place it was begun in, counted over the raster: a lower number has the earlier first pixel.
Regions that turn out to be one keep the lowest of their numbers.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from geoseg.vector.frame import framed
from geoseg.vector.runs import Regions, find_regions


@dataclass(frozen=True, slots=True)
class Numbered:
    """The regions of a framed strip, and what they are called in the whole raster."""

    first_row: int
    """The raster's row that is the frame's row 1."""
    regions: Regions
    numbers: NDArray[np.int32]
    """(region,) ascending."""
    numbers_above: NDArray[np.int32]
    """(region of the strip before,) as they were called there."""
    begun: int
    """Numbers given so far."""
    dtype: np.dtype[Any]
    """Of the strip."""

    @property
    def last_row(self) -> int:
        """The raster's row that is the frame's last: in the last strip the row of background below the raster."""
        return self.first_row + len(self.regions.run_rows) - 3


@dataclass(frozen=True, slots=True)
class Borders:
    """Sides of pixels shared by two regions, one entry for each direction, in the order of `regions` and `others`."""

    regions: NDArray[np.int32]
    """(border,) in the numbers of a strip."""
    others: NDArray[np.int32]
    """(border,) in the numbers of the raster."""
    lengths: NDArray[np.int64]
    """(border,) 0 where they touch at a corner only."""


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


def number_regions(strips: Iterable[NDArray[Any]], background: int, cols: int) -> Iterator[Numbered]:
    """Yield the regions of each strip (row, col); below the last one is a row of background."""
    above = Regions.none(cols)
    numbers_above = np.empty(0, np.int32)
    begun = 0
    for first_row, frame in framed(strips, background):
        regions = find_regions(frame, background, above, first_row)
        known = int(regions.carried.max(initial=-1)) + 1
        numbers = np.arange(begun - known, begun - known + len(regions), dtype=np.int32)
        numbers[:known] = begun
        np.minimum.at(numbers, regions.carried, numbers_above)
        begun += len(regions) - known
        yield Numbered(first_row, regions, numbers, numbers_above, begun, frame.dtype)
        still_open = regions.open
        above = regions.carry(still_open)
        numbers_above = numbers[still_open]


def find_neighbours(  # noqa: PLR0913 - the raster, what weighs, what counts
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
    a column. In memory stay 32 bytes a region, 12 a border of a light region, and the borders of the strip in hand.
    """
    graph = _Graph(threshold)
    weights_above = np.empty(0, np.int64)
    pending = Borders(np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0, np.int64))
    rows, dtype = 0, np.dtype(np.uint8)
    for strip in number_regions(strips, background, cols):
        rows, dtype = strip.last_row, strip.dtype
        weights = np.minimum(_weigh(strip, cols, row_weights, weights_above), threshold)
        borders = _find_borders(strip, cols, weights < threshold, side_weights, connectivity, pending)
        still_open = strip.regions.open
        graph.add(strip, weights, borders, still_open)
        pending = _of_open(borders, still_open, weights < threshold)
        weights_above = weights[still_open]
    return graph.finished(rows, dtype)


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

    def finished(self, rows: int, dtype: np.dtype[Any]) -> Neighbours:
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
    each = np.ones(rows, np.int64) if row_weights is None else row_weights[strip.first_row : strip.first_row + rows]
    each = np.append(each, np.zeros(rows - len(each), np.int64))  # for the row below the raster
    runs_per_row = np.diff(regions.run_rows[1:])
    weights = np.zeros(len(regions) + 1, np.int64)  # the last entry takes the background's -1
    np.add.at(
        weights, regions.run_regions[regions.run_rows[1] :], np.repeat(each, runs_per_row) * run_lengths(regions, cols)
    )
    np.add.at(weights, regions.carried, above)
    return weights[:-1]


def run_lengths(regions: Regions, cols: int) -> NDArray[np.int32]:
    """Return (run,) the columns of each run below row 0 of a frame, its columns of background included."""
    first_cols = regions.run_cols[regions.run_rows[1] :]
    stops = np.append(first_cols[1:], np.int32(0))
    stops[regions.run_rows[2:] - regions.run_rows[1] - 1] = cols + 2
    return stops - first_cols


def _find_borders(  # noqa: PLR0913, PLR0917 - the strip, what to find, how long it is
    strip: Numbered,
    cols: int,
    light: NDArray[np.bool_],
    side_weights: tuple[int, int],
    connectivity: int,
    pending: Borders,
) -> Borders:
    """Return the borders of the light regions, those found in the strips above among them, and their equals' corners."""
    regions = strip.regions
    corner = int(connectivity == 8)
    found = 0
    for _ in range(2):  # count, then write
        sources, targets = np.empty(found, np.int32), np.empty(found, np.int32)
        lengths = np.empty(found, np.int64)
        found = _meet(
            regions.run_rows,
            regions.run_cols,
            regions.run_regions,
            cols + 2,
            regions.codes,
            light,
            corner,
            *side_weights,
            sources,
            targets,
            lengths,
        )
    return _added_up(
        np.append(regions.carried[pending.regions], sources),
        np.append(pending.others, strip.numbers[targets]),
        np.append(pending.lengths, lengths),
    )


def _added_up(regions: NDArray[np.int32], others: NDArray[np.int32], lengths: NDArray[np.int64]) -> Borders:
    """Return one entry for each pair."""
    if not len(regions):
        return Borders(regions, others, lengths)
    pairs = regions.astype(np.int64) << 32 | others
    order = np.argsort(pairs, kind="stable")
    pairs = pairs[order]
    first = np.flatnonzero(np.diff(pairs, prepend=-1))
    return Borders(regions[order[first]], others[order[first]], np.add.reduceat(lengths[order], first))


def _of_open(borders: Borders, still_open: NDArray[np.bool_], light: NDArray[np.bool_]) -> Borders:
    """Return the borders of the light regions that may go on, called by their places among the open ones."""
    kept = (still_open & light)[borders.regions]
    places = np.cumsum(still_open, dtype=np.int32) - np.int32(1)
    return Borders(places[borders.regions[kept]], borders.others[kept], borders.lengths[kept])


@njit(cache=True, nogil=True)
def _meet(
    run_rows: Any,
    run_cols: Any,
    run_regions: Any,
    width: int,
    codes: Any,
    light: Any,
    corner: int,
    along_a_row: int,
    along_a_column: int,
    sources: Any,
    targets: Any,
    lengths: Any,
) -> int:
    """Write where runs meet, once for each light region of the two, as far as there is room; return how often they do.

    With `corner` 1 runs that touch at a corner meet too, and so do regions of one class.
    """
    found = 0
    for row in range(1, len(run_rows) - 1):
        above = run_rows[row - 1]
        row_start = run_rows[row]
        row_stop = run_rows[row + 1]
        for run in range(row_start, row_stop):
            region = run_regions[run]
            if region < 0:
                continue
            start = run_cols[run]
            stop = run_cols[run + 1]  # there is one: the frame's right column is background
            while above + 1 < row_start and run_cols[above + 1] <= start - corner:
                above += 1
            over = above
            beside = True  # first the next run of the row, then those above
            while beside or (over < row_start and run_cols[over] < stop + corner):
                if beside:
                    other = run_regions[run + 1]
                    length = along_a_column
                    beside = False
                else:
                    other = run_regions[over]
                    over_stop = run_cols[over + 1] if over + 1 < row_start else width
                    length = along_a_row * max(0, min(stop, over_stop) - max(start, run_cols[over]))
                    over += 1
                if other < 0 or other == region:
                    continue
                for source, target in ((region, other), (other, region)):
                    if light[source] or codes[source] == codes[target]:
                        if found < len(sources):
                            sources[found] = source
                            targets[found] = target
                            lengths[found] = length
                        found += 1
    return found
