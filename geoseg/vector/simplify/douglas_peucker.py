"""Douglas and Peucker's simplification of shared borders, on the lattice of pixel corners.

D. H. Douglas, T. K. Peucker (1973), Algorithms for the reduction of the number of points required to represent
a digitized line or its caricature, https://doi.org/10.3138/FM57-6770-U75U-7727: a stretch becomes its chord if no
vertex of it is farther from the chord than the tolerance; else it is split at the farthest.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from geoseg.compiled import njit
from geoseg.vector.simplify.obstacles import is_free, put, take


@njit(cache=True, nogil=True)
def douglas_peucker(
    todo: Any, starts: Any, ends: Any, firsts: Any, counts: Any, node_rows: Any, node_cols: Any, vertices: Any,
    obstacles: Any, base: int, straight: Any, tolerance: float, matrix: Any, rows: Any, cols: Any, stops: Any,
) -> None:  # fmt: skip
    """Simplify the arcs numbered in `todo` where they lie; `tolerance` is the greatest distance from a chord.

    Distances are in the plane to which `matrix`, (4,) row by row, takes (col, row). A stretch over which other borders
    lie is split too, and an arc that may not be `straight`, (arc,), whatever its distance. `obstacles` begin at the
    raster's row `base` and are as before in the end. The last three arrays are room for the longest arc,
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
        size = 1  # of the stack of stops: stretches still to do end there, each begins where the one before it ends
        stops[0] = count + 1
        begin = 0
        if a == b:  # a ring has four corners where it can: a pixel stays a square
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
    """Return the vertex between two that is farthest from their chord, and the square of its distance; -1 if none."""
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
    """Return a step on the lattice in the plane of the tolerance."""
    return matrix[0] * right + matrix[1] * down, matrix[2] * right + matrix[3] * down


@njit(cache=True, nogil=True)
def _may_go(obstacles: Any, rows: Any, cols: Any, begin: int, end: int) -> bool:
    """Say whether all vertices between two may go; if so their obstacles are gone.

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
