"""Every vertex of every border, a bit each: what a simplified border must not pass.

An arc may be moved only over ground that holds no vertex of another arc as it was traced. So each arc is simplified by
itself, in any order and whatever strips it was traced in, and no two arcs can cross: to get across a straight piece
of border one has to get past one of its ends.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from geoseg.vector.spill import room


class Obstacles:
    """The rows of obstacles that open arcs may still need: a buffer that grows at the bottom and is cut at the top."""

    def __init__(self, budget: int) -> None:
        self.first_row = 0
        """The raster's row of `marks[0]`."""
        self.marks: NDArray[np.int64] = np.empty((0, 0), np.int64)
        """(row, word) the lattice points that are turns or nodes, 64 columns a word."""
        self._budget = budget

    def add(self, bits: NDArray[np.uint8], rows: int) -> None:
        """Add the rows of a strip, whose `bits` are as `mark_edges` returns them."""
        cols = len(bits) // rows
        kept = len(self.marks)
        marks = room((kept + rows, cols // 64 + 1), np.int64, self._budget)
        if kept:
            marks[:kept] = self.marks
        _mark(bits, cols, marks[kept:])
        self.marks = marks

    def forget(self, before_row: int) -> None:
        """Drop the rows above a row of the raster."""
        self.marks = self.marks[before_row - self.first_row :]
        self.first_row = before_row


@njit(cache=True, nogil=True)
def _mark(bits: Any, cols: int, obstacles: Any) -> None:
    for row in range(len(obstacles)):
        for word in range(obstacles.shape[1]):
            marks = 0
            for col in range(64 * word, min(64 * word + 64, cols)):
                bit = bits[row * cols + col]
                if bit >= 16 or (bit ^ (bit >> 2)) & 3:
                    marks |= 1 << (col & 63)
            obstacles[row, word] = marks


@njit(cache=True, nogil=True)
def take(obstacles: Any, row: int, col: int) -> None:
    """Remove an obstacle."""
    obstacles[row, col >> 6] &= ~(1 << (col & 63))


@njit(cache=True, nogil=True)
def put(obstacles: Any, row: int, col: int) -> None:
    """Set an obstacle."""
    obstacles[row, col >> 6] |= 1 << (col & 63)


@njit(cache=True, nogil=True)
def is_free(obstacles: Any, unit: int, row_a: int, col_a: int, row_b: int, col_b: int, row_c: int, col_c: int) -> bool:
    """Say whether a closed triangle, its corners in 1 / `unit` of a pixel, holds no obstacle."""
    top, bottom = min(row_a, row_b, row_c), max(row_a, row_b, row_c)
    for row in range(-(-top // unit), bottom // unit + 1):
        low, high = np.int64(1 << 40), np.int64(-1)
        for side in range(3):
            if side == 0:
                from_row, from_col, to_row, to_col = row_a, col_a, row_b, col_b
            elif side == 1:
                from_row, from_col, to_row, to_col = row_b, col_b, row_c, col_c
            else:
                from_row, from_col, to_row, to_col = row_c, col_c, row_a, col_a
            if from_row > to_row:
                from_row, from_col, to_row, to_col = to_row, to_col, from_row, from_col
            if row * unit < from_row or row * unit > to_row:
                continue
            if from_row == to_row:
                left, right = min(from_col, to_col), max(from_col, to_col)
                low = min(low, -(-left // unit))
                high = max(high, right // unit)
                continue
            run = (to_row - from_row) * unit
            at = from_col * (to_row - from_row) + (to_col - from_col) * (row * unit - from_row)
            low = min(low, -(-at // run))
            high = max(high, at // run)
        for word in range(low >> 6, (high >> 6) + 1 if high >= low else low >> 6):
            marks = obstacles[row, word]
            if word == low >> 6:
                marks &= -1 << (low & 63)
            if word == high >> 6 and (high & 63) < 63:
                marks &= (1 << ((high & 63) + 1)) - 1
            if marks != 0:
                return False
    return True
