"""Which pixels of a grid lie in an area of interest: those whose center does."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from geoseg.raster.windows import Window

_STRIP_PX = 1 << 20
"""Pixels that are looked at together where somebody asks whether there is one inside."""
_POINTS_A_CELL, _MOST_POINTS = 8, 4096
"""A side."""


@dataclass(frozen=True, slots=True)
class AreaOfInterest:
    """Polygons on a grid of pixels, as a value: it travels with a plan, and two of one digest are equal.

    A pixel is inside where a line from its center to the left crosses an odd number of edges. Every crossing is
    computed from the ends of its edge, so the answer is the same whatever window asks.
    """

    edges: NDArray[np.float64] = field(compare=False, repr=False)
    """(edge, 4): column and row of its upper end, column and row of its lower end. Level edges are left out."""
    digest: str
    """Of the polygons as they were given."""

    @classmethod
    def of(cls, rings: list[NDArray[np.float64]], digest: str) -> Self:
        """Return the area inside rings (point, 2) of columns and rows, closed; a hole is a ring in another."""
        ends = [np.hstack([ring[:-1], ring[1:]]) for ring in rings]
        edges = np.concatenate(ends) if ends else np.empty((0, 4))
        edges = edges[edges[:, 1] != edges[:, 3]]
        downwards = edges[:, 1] < edges[:, 3]
        return cls(np.where(downwards[:, None], edges, edges[:, [2, 3, 0, 1]]), digest)

    def __getitem__(self, window: Window) -> AreaOfInterest:
        """Return the same area on the grid that begins at a window."""
        return replace(self, edges=self.edges - np.array([window.col, window.row] * 2, np.float64))

    def scaled(self, shape: tuple[int, int], to: tuple[int, int]) -> AreaOfInterest:
        """Return the same area on a grid of the same extent in another number of (rows, cols)."""
        factor = np.array([to[1] / shape[1], to[0] / shape[0]] * 2)
        return self if shape == to else replace(self, edges=self.edges * factor)

    def within(self, shape: tuple[int, int]) -> Window | None:
        """Return the rectangle of a grid's pixels around the area; None where no pixel's center is inside."""
        if not len(self.edges):
            return None
        low, high = self.edges.min(axis=0), self.edges.max(axis=0)
        row, col = math.floor(low[1] + 0.5), math.floor(min(low[0], low[2]) + 0.5)
        height, width = math.ceil(high[3] - 0.5) - row, math.ceil(max(high[0], high[2]) - 0.5) - col
        if height < 1 or width < 1:
            return None
        box = Window(row, col, height, width).intersection(Window(0, 0, *shape))
        return box if box is not None and self.touches(box) else None

    def touches(self, box: Window) -> bool:
        """Say whether a pixel of a window is inside."""
        rows = max(1, _STRIP_PX // box.width)
        starts = range(box.row, box.row_stop, rows)
        strips = (Window(row, box.col, min(rows, box.row_stop - row), box.width) for row in starts)
        return any(self.mask(strip).any() for strip in strips)

    def may_touch(self, box: Window) -> bool:
        """Say whether a pixel of a window may be inside, at once: False is sure, True is not."""
        near = self.edges[(self.edges[:, 3] >= box.row) & (self.edges[:, 1] <= box.row_stop)]
        beside = (near[:, [0, 2]].max(axis=1) < box.col) | (near[:, [0, 2]].min(axis=1) > box.col_stop)
        left, top, right, bottom = near[~beside].T[:, :, None]
        cols, rows = np.array([box.col, box.col_stop] * 2), np.array([box.row, box.row, box.row_stop, box.row_stop])
        sides = np.sign((right - left) * (rows - top) - (bottom - top) * (cols - left))  # of an edge, for each corner
        crosses = np.abs(sides.sum(axis=1)) < len(cols)
        return bool(crosses.any() or self.mask(Window(box.row, box.col, 1, 1)).any())

    def mask(self, window: Window) -> NDArray[np.bool_]:
        """Return which pixels (row, col) of a window are inside; the window may stick out of the grid."""
        first = window.row + 0.5  # the center of the first row
        near = self.edges[(self.edges[:, 1] <= window.row_stop - 0.5) & (self.edges[:, 3] > first)]
        begin = np.maximum(np.ceil(near[:, 1] - first), 0).astype(np.int64)
        stop = np.minimum(np.ceil(near[:, 3] - first), window.height).astype(np.int64)
        counts = np.maximum(stop - begin, 0)
        each = np.repeat(np.arange(len(near)), counts)
        rows = np.arange(len(each)) - np.repeat(np.cumsum(counts) - counts, counts) + begin[each]
        left, top, right, bottom = near[each].T
        crossing = left + (rows + first - top) * ((right - left) / (bottom - top))
        cols = np.clip(np.floor(crossing + 0.5) - window.col, 0, window.width).astype(np.int64)
        crossed = np.zeros((window.height, window.width + 1), np.uint8)
        np.bitwise_xor.at(crossed, (rows, cols), 1)
        inside: NDArray[np.bool_] = np.bitwise_xor.accumulate(crossed, axis=1, out=crossed)[:, :-1].view(np.bool_)
        return inside

    def share_touched(self, shape: tuple[int, int], cells: tuple[int, int]) -> float:
        """Return in which share of a grid's cells the area lies, by a sample of up to 8 x 8 points each."""
        down, across = (max(1, min(_POINTS_A_CELL, _MOST_POINTS // count)) for count in cells)
        points = self.decimated(shape, (cells[0] * down, cells[1] * across))
        return float(points.reshape(cells[0], down, cells[1], across).any(axis=(1, 3)).mean())

    def decimated(self, shape: tuple[int, int], to: tuple[int, int]) -> NDArray[np.bool_]:
        """Return which pixels are inside of a grid of the same extent in another number of (rows, cols)."""
        return self.scaled(shape, to).mask(Window(0, 0, *to))
