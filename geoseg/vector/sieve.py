"""The minimum mapping unit: regions too small to be mapped are merged into their neighbors."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from geoseg.compiled import njit
from geoseg.vector.trace import Regions, find_regions, framed

Strips = Callable[[], Iterator[NDArray[Any]]]
"""Yields the strips (row, col) of a raster in order, the same at each call."""


def sieve(
    strips: Strips,
    background: int,
    cols: int,
    threshold: int,
    *,
    row_weights: NDArray[np.int64] | None = None,
    side_weights: tuple[int, int] = (1, 1),
    connectivity: int = 4,
) -> Strips:
    """Return the raster's strips without the regions lighter than the threshold; the raster is read once immediately.

    The lightest region takes the class of the neighbor with the longest shared border, and merges with all regions of
    that class that it touches. Ties go to the region with the first pixel. This repeats until each region weighs enough
    or has no neighbor: neither background nor the outside is one. Pixels may change to another class, never to or from
    the background. The result does not depend on the heights of the strips.

    `row_weights` is (row,), the weight of a pixel in each row, at least 1; None for 1. `side_weights` are the lengths
    of a pixel's sides along a row and along a column. With connectivity 8 regions are also joined at corners; neighbors
    still must share a side.

    Memory: 28 bytes per region and 12 per border of a light region while the raster is read, at most twice that while
    regions are merged, then only the class of each region; nothing grows with the pixels.
    """
    neighbors = find_neighbors(strips(), background, cols, threshold, row_weights, side_weights, connectivity)
    return partial(_rewrite, strips, background, cols, neighbors.rows, _merge_light_regions(neighbors, threshold))


def _rewrite(strips: Strips, background: int, cols: int, rows: int, codes: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Yield the strips with the final class of each region; `codes` is (region,) by number."""
    for strip in number_regions(strips(), background):
        region_codes = np.append(codes[strip.numbers], codes.dtype.type(background))  # the last entry is for -1
        runs = region_codes[strip.regions.run_regions[strip.regions.run_rows[1] :]]
        pixels = np.repeat(runs, run_lengths(strip.regions, cols)).reshape(-1, cols + 2)
        yield pixels[: rows - strip.first_row, 1:-1]


def _merge_light_regions(neighbors: Neighbors, threshold: int) -> NDArray[Any]:
    """Return (region,) the final class of each number.

    A region that is merged at least doubles in weight, since its neighbor is no lighter. So each region that weighs
    less than twice the lightest is merged either at its current weight or not in this round: sorting once replaces a
    heap. For the same reason a border is visited no more often than a weight can double.
    """
    parents, weights = neighbors.parents, neighbors.weights
    members = np.arange(len(parents), dtype=np.int32)
    places = np.full(len(parents), -1, np.int32)
    around, shared = np.empty(len(parents), np.int32), np.empty(len(parents), np.int64)
    if len(neighbors.corners):
        _join_corners(neighbors.corners, threshold, parents, weights, members)
    while (lightest := int(np.min(weights, where=weights > 0, initial=threshold))) < threshold:
        limit = min(2 * lightest, threshold)
        queue = np.flatnonzero((weights > 0) & (weights < limit)).astype(np.int32)
        queue = queue[np.argsort(weights[queue], kind="stable")]
        _give_away(
            queue, limit, threshold, neighbors.codes, parents, weights, members, neighbors.first_borders,
            neighbors.border_counts, neighbors.others, neighbors.lengths, places, around, shared,
        )  # fmt: skip
    while np.any((further := parents[parents]) != parents):
        parents = further
    return neighbors.codes[parents].astype(neighbors.dtype)


@njit(cache=True, nogil=True)
def _find(parents: Any, region: int) -> int:
    while parents[region] != region:
        parents[region] = parents[parents[region]]
        region = parents[region]
    return region


@njit(cache=True, nogil=True)
def _join(region: int, other: int, threshold: int, parents: Any, weights: Any, members: Any) -> int:
    """Merge two regions; `members` links each region's numbers in a circle, so two circles become one."""
    first = min(region, other)
    second = max(region, other)
    parents[second] = first
    weights[first] = min(abs(weights[first]) + abs(weights[second]), threshold)
    weights[second] = threshold  # a merged number is never light
    members[first], members[second] = members[second], members[first]
    return first


@njit(cache=True, nogil=True)
def _join_corners(corners: Any, threshold: int, parents: Any, weights: Any, members: Any) -> None:
    for pair in range(len(corners)):
        region = _find(parents, corners[pair, 0])
        other = _find(parents, corners[pair, 1])
        if region != other:
            _join(region, other, threshold, parents, weights, members)


@njit(cache=True, nogil=True)
def _give_away(
    turns: Any, limit: int, threshold: int, codes: Any, parents: Any, weights: Any, members: Any,
    first_borders: Any, border_counts: Any, others: Any, lengths: Any, places: Any, around: Any, shared: Any,
) -> None:  # fmt: skip
    """Merge each region, in turn, into a neighbor, unless it has reached the limit by then.

    `around` and `shared` are scratch space for the neighbors of a region and its borders with them; `places` is
    (region,) the place of each in them, -1 before and afterwards.
    """
    for turn in range(len(turns)):
        region = turns[turn]
        if weights[region] >= limit:
            continue
        count = 0
        number = region
        while True:
            first = first_borders[number]
            for border in range(first, first + border_counts[number]):
                other = _find(parents, others[border])
                others[border] = other
                if other == region:
                    continue
                if places[other] < 0:
                    places[other] = count
                    around[count] = other
                    shared[count] = 0
                    count += 1
                shared[places[other]] += lengths[border]
            number = members[number]
            if number == region:
                break
        chosen = -1
        longest = 0
        for place in range(count):
            if shared[place] > longest or (shared[place] == longest and around[place] < chosen):
                chosen = around[place]
                longest = shared[place]
        code = codes[chosen]  # arbitrary if none is chosen
        for place in range(count):
            other = around[place]
            places[other] = -1
            if chosen >= 0 and codes[other] == code:
                region = _join(region, other, threshold, parents, weights, members)
        if chosen >= 0:
            codes[region] = code
        else:
            weights[region] = -weights[region]  # set aside, unless it is joined at a corner


@dataclass(frozen=True, slots=True)
class NumberedRegions:
    """The regions of a framed strip, and their numbers in the whole raster."""

    first_row: int
    """The raster's row at the frame's row 1."""
    regions: Regions
    numbers: NDArray[np.int32]
    """(region,) ascending."""
    numbers_above: NDArray[np.int32]
    """(region of the previous strip,) their numbers in it."""
    begun: int
    """Count of numbers assigned so far."""
    dtype: np.dtype[Any]
    """Of the strip."""

    @property
    def last_row(self) -> int:
        """The raster's row at the frame's last: in the last strip the row of background below the raster."""
        return self.first_row + len(self.regions.run_rows) - 3


def number_regions(strips: Iterable[NDArray[Any]], background: int) -> Iterator[NumberedRegions]:
    """Yield the regions of each strip (row, col); below the last strip is a row of background."""
    above = Regions.none()
    numbers_above = np.empty(0, np.int32)
    begun = 0
    for first_row, frame in framed(strips, background):
        regions = find_regions(frame, background, above, first_row)
        carried_count = int(regions.carried.max(initial=-1)) + 1
        numbers = np.arange(begun - carried_count, begun - carried_count + len(regions), dtype=np.int32)
        numbers[:carried_count] = begun
        np.minimum.at(numbers, regions.carried, numbers_above)
        begun += len(regions) - carried_count
        yield NumberedRegions(first_row, regions, numbers, numbers_above, begun, frame.dtype)
        still_open = regions.open
        above = regions.carry(still_open)
        numbers_above = numbers[still_open]


def run_lengths(regions: Regions, cols: int) -> NDArray[np.int32]:
    """Return (run,) the number of columns of each run below row 0 of a frame, including its background columns."""
    first_cols = regions.run_cols[regions.run_rows[1] :]
    stops = np.append(first_cols[1:], np.int32(0))
    stops[regions.run_rows[2:] - regions.run_rows[1] - 1] = cols + 2
    return stops - first_cols


@dataclass(frozen=True, slots=True)
class Borders:
    """Pixel sides shared by two regions, one entry per direction, sorted by `regions` and `others`."""

    regions: NDArray[np.int32]
    """(border,) by numbers in the strip."""
    others: NDArray[np.int32]
    """(border,) by numbers in the raster."""
    lengths: NDArray[np.int64]
    """(border,) 0 if they touch only at a corner."""

    @classmethod
    def none(cls) -> Self:
        """Return the borders above the raster."""
        return cls(np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0, np.int64))

    def carry(self, light: NDArray[np.bool_], still_open: NDArray[np.bool_]) -> Self:
        """Return the borders of the light regions still open, numbered by their places among the open ones.

        `light` and `still_open` are (region,).
        """
        kept = (light & still_open)[self.regions]
        places = np.cumsum(still_open, dtype=np.int32) - np.int32(1)
        return type(self)(places[self.regions[kept]], self.others[kept], self.lengths[kept])


def find_borders(
    strip: NumberedRegions,
    cols: int,
    light: NDArray[np.bool_],
    side_weights: tuple[int, int],
    connectivity: int,
    above: Borders,
) -> Borders:
    """Return the borders of the light regions in a strip, including those found in the strips above.

    `light` is (region,). With connectivity 8 there are also borders of length 0, where regions touch at a corner:
    between a light region and any other, and between any two of the same class.
    """
    regions = strip.regions
    corner = int(connectivity == 8)
    border_count = 0
    for _ in range(2):  # count, then write
        sources, targets = np.empty(border_count, np.int32), np.empty(border_count, np.int32)
        lengths = np.empty(border_count, np.int64)
        border_count = _meet(
            regions.run_rows, regions.run_cols, regions.run_regions, cols + 2, regions.codes, light, corner,
            *side_weights, sources, targets, lengths,
        )  # fmt: skip
    return _summed(
        np.append(regions.carried[above.regions], sources),
        np.append(above.others, strip.numbers[targets]),
        np.append(above.lengths, lengths),
    )


def _summed(regions: NDArray[np.int32], others: NDArray[np.int32], lengths: NDArray[np.int64]) -> Borders:
    """Return one entry per pair, with the sum of its lengths."""
    if not len(regions):
        return Borders(regions, others, lengths)
    pairs = regions.astype(np.int64) << 32 | others
    order = np.argsort(pairs, kind="stable")
    pairs = pairs[order]
    firsts = np.flatnonzero(np.diff(pairs, prepend=-1))
    return Borders(regions[order[firsts]], others[order[firsts]], np.add.reduceat(lengths[order], firsts))


@njit(cache=True, nogil=True)
def _meet(
    run_rows: Any, run_cols: Any, run_regions: Any, width: int, codes: Any, light: Any, corner: int,
    along_a_row: int, along_a_column: int, sources: Any, targets: Any, lengths: Any,
) -> int:  # fmt: skip
    """Write where runs meet, once per light region of the two, as far as there is space; return the total count.

    With `corner` 1 instead of 0, they meet at corners too.
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
            stop = run_cols[run + 1]  # exists: the frame's right column is background
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


@dataclass(frozen=True, slots=True)
class Neighbors:
    """The regions of a raster, and the borders of the light ones; the sieve modifies these arrays."""

    codes: NDArray[np.int32]
    """(region,) class."""
    parents: NDArray[np.int32]
    """(region,) its own number, or a lower one of the same region."""
    weights: NDArray[np.int64]
    """(region,) the threshold for regions that reach it, and for merged numbers."""
    first_borders: NDArray[np.int64]
    """(region,) where the borders of a light region start."""
    border_counts: NDArray[np.int32]
    """(region,) how many borders it has; 0 for others."""
    others: NDArray[np.int32]
    """(border,) the region on the other side; several borders may share it."""
    lengths: NDArray[np.int64]
    """(border,) 0 if they touch only at a corner."""
    corners: NDArray[np.int32]
    """(pair, 2) regions of the same class that touch at a corner; empty with 4-connectivity."""
    rows: int
    """Rows of the raster."""
    dtype: np.dtype[Any]
    """Of the raster."""


def find_neighbors(
    strips: Iterable[NDArray[Any]],
    background: int,
    cols: int,
    threshold: int,
    row_weights: NDArray[np.int64] | None,
    side_weights: tuple[int, int],
    connectivity: int,
) -> Neighbors:
    """Find the regions of a raster and the borders of those lighter than the threshold, strip by strip; see `sieve`."""
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
    """Builder of Neighbors: arrays that grow in place, so that nothing is held twice."""

    def __init__(self, threshold: int) -> None:
        self.threshold = threshold
        self.codes, self.parents, self.border_counts, self.others, self.corners = (array("i") for _ in range(5))
        self.weights, self.first_borders, self.lengths = (array("q") for _ in range(3))

    def add(
        self, strip: NumberedRegions, weights: NDArray[np.int64], borders: Borders, still_open: NDArray[np.bool_]
    ) -> None:
        """Add the numbers assigned in a strip, and the borders of the light regions that end in it."""
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

    def _begin(self, strip: NumberedRegions) -> None:
        first = len(self.codes)
        count = strip.begun - first
        self.codes.frombytes(strip.regions.codes[len(strip.numbers) - count :].tobytes())
        self.parents.frombytes(np.arange(first, strip.begun, dtype=np.int32).tobytes())
        self.border_counts.frombytes(np.zeros(count, np.int32).tobytes())
        self.weights.frombytes(np.full(count, self.threshold, np.int64).tobytes())
        self.first_borders.frombytes(np.zeros(count, np.int64).tobytes())
        _view(self.parents)[strip.numbers_above] = strip.numbers[strip.regions.carried]

    def whole(self, rows: int, dtype: np.dtype[Any]) -> Neighbors:
        return Neighbors(
            _view(self.codes), _view(self.parents), _view(self.weights), _view(self.first_borders),
            _view(self.border_counts), _view(self.others), _view(self.lengths), _view(self.corners).reshape(-1, 2),
            rows, dtype,
        )  # fmt: skip


def _view(growing: array[int]) -> NDArray[Any]:
    return np.frombuffer(growing, growing.typecode)


def _weigh(
    strip: NumberedRegions, cols: int, row_weights: NDArray[np.int64] | None, above: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return (region,) the weight of each region so far; `above` is (region of the previous strip,)."""
    regions = strip.regions
    rows = len(regions.run_rows) - 2
    pixels = np.ones(rows, np.int64) if row_weights is None else row_weights[strip.first_row : strip.first_row + rows]
    pixels = np.append(pixels, np.zeros(rows - len(pixels), np.int64))  # the row below the raster
    runs = np.repeat(pixels, np.diff(regions.run_rows[1:])) * run_lengths(regions, cols)
    weights = np.zeros(len(regions) + 1, np.int64)  # the last entry takes the background's -1
    np.add.at(weights, regions.run_regions[regions.run_rows[1] :], runs)
    np.add.at(weights, regions.carried, above)
    return weights[:-1]
