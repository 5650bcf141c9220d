"""Removal of vertices from shared borders, by Visvalingam-Whyatt or Douglas-Peucker, and the obstacles to it.

Every vertex of every border is a bit in the obstacles. An arc may only move across ground that contains no vertex of
another arc as traced. So arcs can be simplified independently, in any order and for any strips, and no two arcs can
cross: to cross a straight piece of border, an arc would have to pass one of its ends.

M. Visvalingam, J. D. Whyatt (1993), Line generalisation by repeated elimination of points,
https://doi.org/10.1179/000870493786962263: the vertex with the smallest triangle with its two neighbors goes first.

D. H. Douglas, T. K. Peucker (1973), Algorithms for the reduction of the number of points required to represent
a digitized line or its caricature, https://doi.org/10.3138/FM57-6770-U75U-7727: a stretch becomes its chord if none of
its vertices is farther from the chord than the tolerance; else it is split at the farthest.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.compiled import njit
from geoseg.vector.trace import disk_array


class Obstacles:
    """The rows of obstacles that open arcs may still need: a buffer that grows at the bottom and shrinks at the top."""

    def __init__(self, budget: int) -> None:
        self.first_row = 0
        """The raster's row of `marks[0]`."""
        self.marks: NDArray[np.int64] = np.empty((0, 0), np.int64)
        """(row, word) the lattice points that are turns or nodes, 64 columns per word."""
        self._budget = budget

    def add(self, marks: NDArray[np.int64]) -> None:
        """Add the rows of a strip, as returned by `mark_obstacles`."""
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
    """Return whether a closed triangle, its corners in 1 / `unit` of a pixel and not collinear, holds no obstacle."""
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
    """Return the first and last lattice columns of a row inside a triangle: a wide triangle may be thin."""
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


@njit(cache=True, nogil=True)
def visvalingam(
    todo: Any, starts: Any, ends: Any, firsts: Any, counts: Any, node_rows: Any, node_cols: Any, vertices: Any,
    obstacles: Any, base: int, straight: Any, limit: int, rows: Any, cols: Any, links: Any, entries: Any,
    queues: Any,
) -> None:  # fmt: skip
    """Simplify the arcs in `todo` in place; `limit` is twice the least area that a vertex must span.

    Among equal areas the vertex queued first goes first, so that a staircase loses every other corner. An arc that may
    not be `straight`, (arc,), keeps a vertex. `obstacles` start at the raster's row `base` and are restored at the end.
    The last five arrays are scratch space for the longest arc: `rows`, `cols` (vertices + 2,); `links` (vertices + 2,
    3) to the vertices before and after and to the last entry; `entries` (3 * vertices + 6, 2), each a vertex and the
    next entry; `queues` (queue_of(limit) + 1, 2) are empty: -1.
    """
    for arc in todo:
        if counts[arc] == 0:
            continue
        first, last, a, b = firsts[arc], firsts[arc] + counts[arc], starts[arc] >> 2, ends[arc] >> 2
        rows[0], cols[0] = node_rows[a] - base, node_cols[a]
        count = _without_steps(vertices, first, last, node_rows[b], node_cols[b], obstacles, base, limit, rows, cols)
        rows[count + 1], cols[count + 1] = node_rows[b] - base, node_cols[b]
        known = np.int64(0)  # not a literal, which would compile the kernel twice
        lowest = len(queues)
        for i in range(1, count + 1):
            links[i, 0] = i - 1
            links[i, 1] = i + 1
            known, lowest = _enter(rows, cols, links, entries, queues, limit, i, known, lowest)
        left = count
        least = 3 if a == b else 0 if straight[arc] else 1  # a ring has four corners: a pixel stays a square
        while lowest < len(queues):
            entry = queues[lowest, 0]
            if entry < 0:
                lowest += 1
                continue
            queues[lowest, 0] = entries[entry, 1]
            i = entries[entry, 0]
            if links[i, 2] != entry or left == least:
                continue
            p, q = links[i, 0], links[i, 1]
            if lowest > 1 and not _passes(obstacles, lowest, rows, cols, p, i, q):
                continue
            take(obstacles, rows[i], cols[i])
            left -= 1
            links[i, 0] = -1
            links[p, 1] = q
            links[q, 0] = p
            if p > 0:
                known, lowest = _enter(rows, cols, links, entries, queues, limit, p, known, lowest)
            if q <= count:
                known, lowest = _enter(rows, cols, links, entries, queues, limit, q, known, lowest)
        for at in range(first, last):
            put(obstacles, vertices[at, 0] - base, np.int64(vertices[at, 1]))
        at = first
        for i in range(1, count + 1):
            if links[i, 0] >= 0:
                vertices[at, 0] = rows[i] + base
                vertices[at, 1] = cols[i]
                at += 1
        counts[arc] = left


@njit(cache=True, nogil=True)
def _without_steps(
    vertices: Any, first: int, last: int, end_row: int, end_col: int, obstacles: Any, base: int, limit: int,
    rows: Any, cols: Any,
) -> int:  # fmt: skip
    """Copy and count an arc's vertices, without every other corner of staircases with one-pixel steps.

    Vertices that are then in the middle of a line are left out too. These go first, and need no queue: their triangles
    hold no lattice point but their corners.
    """
    count = 0
    left = last - first
    before_row, before_col = rows[0], cols[0]
    stepped = limit < 1
    for at in range(first, last):
        row, col = vertices[at, 0] - base, np.int64(vertices[at, 1])
        after_row = (vertices[at + 1, 0] if at + 1 < last else end_row) - base
        after_col = vertices[at + 1, 1] if at + 1 < last else end_col
        steps = abs(row - before_row) + abs(col - before_col) + abs(after_row - row) + abs(after_col - col)
        before_row, before_col = row, col
        if steps == 2 and not stepped and left > 3:
            stepped = True
            left -= 1
            take(obstacles, row, col)
            continue
        stepped = limit < 1
        while (
            count > 0
            and left > 3
            and (rows[count] - rows[count - 1]) * (col - cols[count])
            == (cols[count] - cols[count - 1]) * (row - rows[count])
        ):
            take(obstacles, rows[count], cols[count])
            count -= 1
            left -= 1
        count += 1
        rows[count] = row
        cols[count] = col
    return count


@njit(cache=True, nogil=True)
def _enter(
    rows: Any, cols: Any, links: Any, entries: Any, queues: Any, limit: int, i: int, known: int, lowest: int
) -> tuple[int, int]:
    """Queue a vertex by its area, replacing any earlier entry; return the count of entries and the lowest queue."""
    p, q = links[i, 0], links[i, 1]
    area = abs((rows[i] - rows[p]) * (cols[q] - cols[p]) - (rows[q] - rows[p]) * (cols[i] - cols[p]))
    if area > limit:
        links[i, 2] = -1
        return known, lowest
    queue = queue_of(area)
    entries[known, 0] = i
    entries[known, 1] = -1
    links[i, 2] = known
    if queues[queue, 0] < 0:
        queues[queue, 0] = known
    else:
        entries[queues[queue, 1], 1] = known
    queues[queue, 1] = known
    return known + 1, min(lowest, queue)


@njit(cache=True, nogil=True)
def queue_of(area: int) -> int:
    """Return the queue of a doubled area: one per value up to 64, then 32 per doubling."""
    coarse = 0
    while area >> coarse >= 64:
        coarse += 1
    return 32 * coarse + (area >> coarse)


@njit(cache=True, nogil=True)
def _passes(obstacles: Any, twice_area: int, rows: Any, cols: Any, p: int, i: int, q: int) -> bool:
    """Return whether vertex i may go: its triangle, except for its corners, holds no obstacle.

    The two sides that are border now are known to hold none. By Pick's theorem a triangle of area 1/2 holds no lattice
    point but its corners, and one of area 1 exactly one more, on a side: then only the middle of p q is tested.
    """
    if twice_area == 2:
        row, col = rows[p] + rows[q], cols[p] + cols[q]
        return (row | col) & 1 != 0 or not (obstacles[row >> 1, col >> 7] >> ((col >> 1) & 63)) & 1
    for j in (p, i, q):
        take(obstacles, rows[j], cols[j])
    free = is_free(obstacles, np.int64(1), rows[p], cols[p], rows[i], cols[i], rows[q], cols[q])
    for j in (p, i, q):
        put(obstacles, rows[j], cols[j])
    return free


@njit(cache=True, nogil=True)
def douglas_peucker(
    todo: Any, starts: Any, ends: Any, firsts: Any, counts: Any, node_rows: Any, node_cols: Any, vertices: Any,
    obstacles: Any, base: int, straight: Any, tolerance: float, matrix: Any, rows: Any, cols: Any, stops: Any,
) -> None:  # fmt: skip
    """Simplify the arcs in `todo` in place; `tolerance` is the greatest distance from a chord.

    Distances are in the plane to which `matrix`, (4,) row by row, takes (col, row). A stretch is also split if its
    chord would pass other borders, and, at any distance, if the arc may not be `straight`, (arc,). `obstacles` start at
    the raster's row `base` and are restored at the end. The last three arrays are scratch space for the longest arc,
    (vertices + 2,).
    """
    for arc in todo:
        count = counts[arc]
        if count == 0:
            continue
        first, a, b = firsts[arc], starts[arc] >> 2, ends[arc] >> 2
        rows[0], cols[0] = node_rows[a] - base, node_cols[a]
        rows[count + 1], cols[count + 1] = node_rows[b] - base, node_cols[b]
        for i in range(1, count + 1):
            rows[i] = vertices[first + i - 1, 0] - base
            cols[i] = vertices[first + i - 1, 1]
        size = 1  # of the stack of stops: the ends of the remaining stretches, each starting where the previous ends
        stops[0] = count + 1
        begin = 0
        if a == b:  # a ring keeps four corners if it can: a pixel stays a square
            far, _ = _farthest(matrix, rows, cols, 0, count + 1)
            before, _ = _farthest(matrix, rows, cols, 0, far)
            after, _ = _farthest(matrix, rows, cols, far, count + 1)
            for corner in (after, far, before):
                if corner > 0:
                    stops[size] = corner
                    size += 1
        at = first
        while size > 0:
            end = stops[size - 1]
            far, off = _farthest(matrix, rows, cols, begin, end)
            bent = a != b and count > 0 and begin == 0 and end == count + 1 and not straight[arc]
            if bent or off > tolerance * tolerance or not _may_go(obstacles, rows, cols, begin, end):
                stops[size] = far
                size += 1
                continue
            if end <= count:
                vertices[at, 0] = rows[end] + base
                vertices[at, 1] = cols[end]
                at += 1
            begin = end
            size -= 1
        for i in range(1, count + 1):
            put(obstacles, rows[i], cols[i])
        counts[arc] = at - first


@njit(cache=True, nogil=True)
def _farthest(matrix: Any, rows: Any, cols: Any, begin: int, end: int) -> tuple[int, float]:
    """Return the vertex between two that is farthest from their chord (-1 if none), and its squared distance."""
    x, y = _plane(matrix, rows[end] - rows[begin], cols[end] - cols[begin])
    long = x * x + y * y
    far, most = -1, -1.0
    for i in range(begin + 1, end):
        right, up = _plane(matrix, rows[i] - rows[begin], cols[i] - cols[begin])
        along = min(max((right * x + up * y) / long, 0.0), 1.0) if long > 0 else 0.0
        off = (right - along * x) ** 2 + (up - along * y) ** 2
        if off > most:
            far, most = i, off
    return far, most


@njit(cache=True, nogil=True)
def _plane(matrix: Any, down: int, right: int) -> tuple[float, float]:
    """Convert a step on the lattice to the plane of the tolerance."""
    return matrix[0] * right + matrix[1] * down, matrix[2] * right + matrix[3] * down


@njit(cache=True, nogil=True)
def _may_go(obstacles: Any, rows: Any, cols: Any, begin: int, end: int) -> bool:
    """Return whether all vertices between two may go; if so, remove their obstacles.

    The triangles of the first vertex with each edge of the stretch cover all the ground that the border sweeps.
    """
    if end == begin + 1:
        return True
    for i in range(begin, end + 1):
        take(obstacles, rows[i], cols[i])
    free = True
    for i in range(begin + 1, end):
        twice_area = (rows[i] - rows[begin]) * (cols[i + 1] - cols[begin]) - (rows[i + 1] - rows[begin]) * (
            cols[i] - cols[begin]
        )
        if free and abs(twice_area) > 1:
            free = is_free(obstacles, np.int64(1), rows[begin], cols[begin], rows[i], cols[i], rows[i + 1], cols[i + 1])
    put(obstacles, rows[begin], cols[begin])
    put(obstacles, rows[end], cols[end])
    if not free:
        for i in range(begin + 1, end):
            put(obstacles, rows[i], cols[i])
    return free
