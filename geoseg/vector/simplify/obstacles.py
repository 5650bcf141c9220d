"""Every vertex of every border, a bit each: what a simplified border must not pass.

An arc may be moved only over ground that holds no vertex of another arc as it was traced. So each arc is simplified by
itself, in any order and whatever strips it was traced in, and no two arcs can cross: to get across a straight piece
of border one has to get past one of its ends.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.compiled import njit
from geoseg.vector.trace import disk_array


class Obstacles:
    """The rows of obstacles that open arcs may still need: a buffer that grows at the bottom and is cut at the top."""

    def __init__(self, budget: int) -> None:
        self.first_row = 0
        """The raster's row of `marks[0]`."""
        self.marks: NDArray[np.int64] = np.empty((0, 0), np.int64)
        """(row, word) the lattice points that are turns or nodes, 64 columns a word."""
        self._budget = budget

    def add(self, marks: NDArray[np.int64]) -> None:
        """Add the rows of a strip, as `mark_obstacles` returns them."""
        kept = len(self.marks)
        if not kept:
            self.marks = marks
            return
        joined = disk_array((kept + len(marks), marks.shape[1]), np.int64, self._budget)
        joined[:kept] = self.marks
        joined[kept:] = marks
        self.marks = joined

    def forget(self, before_row: int) -> None:
        """Drop the rows above a row of the raster."""
        self.marks = self.marks[before_row - self.first_row :]
        self.first_row = before_row


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
    """Say whether a closed triangle, its corners in 1 / `unit` of a pixel and not on one line, holds no obstacle."""
    turn = (row_b - row_a) * (col_c - col_a) - (col_b - col_a) * (row_c - row_a)
    if turn < 0:
        row_b, col_b, row_c, col_c = row_c, col_c, row_b, col_b
    left, right = min(col_a, col_b, col_c), max(col_a, col_b, col_c)
    for line in range(-(-min(row_a, row_b, row_c) // unit), max(row_a, row_b, row_c) // unit + 1):
        row = line * unit
        low, high = -(-left // unit), right // unit
        if high - low > 16:
            low, high = _reach(unit, row, row_a, col_a, row_b, col_b, row_c, col_c)
        for word in range(low >> 6, (high >> 6) + 1):
            marks = obstacles[line, word]
            if marks == 0:
                continue
            for place in range(max(low, 64 * word), min(high, 64 * word + 63) + 1):
                col = place * unit
                if (
                    (marks >> (place & 63)) & 1
                    and (row_b - row_a) * (col - col_a) >= (col_b - col_a) * (row - row_a)
                    and (row_c - row_b) * (col - col_b) >= (col_c - col_b) * (row - row_b)
                    and (row_a - row_c) * (col - col_c) >= (col_a - col_c) * (row - row_c)
                ):
                    return False
    return True


@njit(cache=True, nogil=True)
def _reach(
    unit: int, row: int, row_a: int, col_a: int, row_b: int, col_b: int, row_c: int, col_c: int
) -> tuple[int, int]:
    """Return the first and last lattice columns that a row has in a triangle; a wide one may be thin."""
    low, high = 1 << 40, -1
    for _ in range(3):
        row_a, col_a, row_b, col_b, row_c, col_c = row_b, col_b, row_c, col_c, row_a, col_a
        if row_a == row_b:
            if row_a == row:
                low = min(low, -(-min(col_a, col_b) // unit))
                high = max(high, max(col_a, col_b) // unit)
        elif min(row_a, row_b) <= row <= max(row_a, row_b):
            run = abs(row_b - row_a) * unit
            at = (col_a * (row_b - row_a) + (col_b - col_a) * (row - row_a)) * (1 if row_b > row_a else -1)
            low = min(low, -(-at // run))
            high = max(high, at // run)
    return low, high
