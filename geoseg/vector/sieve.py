"""The minimum mapping unit: regions too small to be mapped are given to their neighbors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from geoseg.vector.neighbors import Neighbors, find_neighbors, number_regions, run_lengths

Strips = Callable[[], Iterator[NDArray[Any]]]
"""Yields the strips (row, col) of a raster in order, the same ones at each call."""


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
    """Return the strips of the raster without the regions lighter than the threshold; its own are read at once.

    The lightest region, of equals the one with the first pixel, takes the class of the neighbor with which it shares
    the longest border, of equals the one with the first pixel; with all regions of that class that it touches it is one
    region from then on. So until each weighs enough, or has no neighbor: background is none, nor is the outside.
    Pixels may be given to another class, never to or from the background. The strips' heights change nothing.

    `row_weights` is (row,), what a pixel of each row weighs, at least 1; None for 1. `side_weights` are the lengths of
    a pixel's side along a row and along a column. With connectivity 8 regions are joined at corners too; a neighbor is
    still who shares a side.

    Memory: 28 bytes a region and 12 a border of a light one while the raster is read, at most twice that while it is
    settled who goes where, then only the class of each region; nothing that grows with the pixels.
    """
    neighbors = find_neighbors(strips(), background, cols, threshold, row_weights, side_weights, connectivity)
    return partial(_rewrite, strips, background, cols, neighbors.rows, _settle(neighbors, threshold))


def _rewrite(strips: Strips, background: int, cols: int, rows: int, codes: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Yield the strips with the class of each region; `codes` is (region,) by number."""
    for strip in number_regions(strips(), background):
        here = np.append(codes[strip.numbers], codes.dtype.type(background))  # the last entry is for -1
        runs = here[strip.regions.run_regions[strip.regions.run_rows[1] :]]
        pixels = np.repeat(runs, run_lengths(strip.regions, cols)).reshape(-1, cols + 2)
        yield pixels[: rows - strip.first_row, 1:-1]


def _settle(neighbors: Neighbors, threshold: int) -> NDArray[Any]:
    """Return (region,) the class of each number in the end.

    A region that is given away at least doubles in weight, its neighbor being no lighter. So of the regions that weigh
    less than twice the lightest, each is given away at the weight it has now or not in this round: sorted once, they
    need no heap. For the same reason a border is looked at no more often than a weight can be doubled.
    """
    parents, weights = neighbors.parents, neighbors.weights
    members = np.arange(len(parents), dtype=np.int32)
    places = np.full(len(parents), -1, np.int32)
    around, shared = np.empty(len(parents), np.int32), np.empty(len(parents), np.int64)
    if len(neighbors.corners):
        _join_corners(neighbors.corners, threshold, parents, weights, members)
    while (lightest := int(np.min(weights, where=weights > 0, initial=threshold))) < threshold:
        limit = min(2 * lightest, threshold)
        turns = np.flatnonzero((weights > 0) & (weights < limit)).astype(np.int32)
        turns = turns[np.argsort(weights[turns], kind="stable")]
        _give_away(
            turns, limit, threshold, neighbors.codes, parents, weights, members, neighbors.first_borders,
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
    """Make one region of two; `members` leads around each region's numbers, so two circles become one."""
    first = min(region, other)
    second = max(region, other)
    parents[second] = first
    weights[first] = min(abs(weights[first]) + abs(weights[second]), threshold)
    weights[second] = threshold  # a number given up is never light
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
    """Give each region, when its turn comes, to a neighbor, unless it has become as heavy as the limit by then.

    `around` and `shared` are room for the neighbors of one region and the borders with them; `places` is (region,)
    the place of each there, -1 before and afterwards.
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
        code = codes[chosen]  # any where none is chosen
        for place in range(count):
            other = around[place]
            places[other] = -1
            if chosen >= 0 and codes[other] == code:
                region = _join(region, other, threshold, parents, weights, members)
        if chosen >= 0:
            codes[region] = code
        else:
            weights[region] = -weights[region]  # set aside, unless it is joined at a corner
