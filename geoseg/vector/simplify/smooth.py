"""Corners of shared borders rounded: what stays between the midpoints of two edges becomes a curve."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from geoseg.vector.simplify.obstacles import is_free, put, take

UNIT = 128
"""Smoothed vertices are in 1 / UNIT of a pixel: integers still, so the same on every machine."""
LONGEST_PX = (2**31 - 1) // UNIT
"""Rows and columns of a raster in which such vertices fit 32 bits."""


@njit(cache=True, nogil=True)
def smooth(
    todo: Any,
    starts: Any,
    ends: Any,
    firsts: Any,
    counts: Any,
    node_rows: Any,
    node_cols: Any,
    vertices: Any,
    edges: Any,
    traced: Any,
    traced_firsts: Any,
    obstacles: Any,
    base: int,
    rows: Any,
    cols: Any,
    curves: Any,
    free: int,
) -> None:
    """Write each arc of `todo` anew to `curves` from number `free` on, in UNIT.

    A corner v between edges p v and v q becomes the quadratic curve from one edge's middle to the other's, what
    Chaikin's corner cutting tends to (G. Chaikin 1974, https://doi.org/10.1016/0146-664X(74)90028-8). `firsts` and
    `counts` become those in `curves`. Where another border's vertex lies in the triangle cut off, less is cut, or
    nothing. The arcs' own vertices as they were traced, in [traced_firsts[i], traced_firsts[i + 1]) of `traced`, are
    no obstacles. Nodes stay, but a ring without nodes is rounded all around, and 16 in `edges` says that its node is
    no vertex.
    """
    for k in range(len(todo)):
        arc = todo[k]
        count = counts[arc]
        a, b = starts[arc] >> 2, ends[arc] >> 2
        for i in range(traced_firsts[k], traced_firsts[k + 1]):
            take(obstacles, traced[i, 0] - base, np.int64(traced[i, 1]))
        rows[0], cols[0] = node_rows[a] - base, node_cols[a]
        for i in range(1, count + 1):
            rows[i] = vertices[firsts[arc] + i - 1, 0] - base
            cols[i] = vertices[firsts[arc] + i - 1, 1]
            put(obstacles, rows[i], cols[i])
        rows[count + 1], cols[count + 1] = node_rows[b] - base, node_cols[b]
        last = count
        if a == b and edges[a] == 6:
            edges[a] = 22
            rows[count + 2], cols[count + 2] = rows[1], cols[1]
            last = count + 1
        first = free
        for i in range(1, last + 1):
            free = _round(obstacles, rows, cols, i, curves, first, free)
        for i in range(first, free):
            curves[i, 0] += UNIT * base
        for i in range(traced_firsts[k], traced_firsts[k + 1]):
            put(obstacles, traced[i, 0] - base, np.int64(traced[i, 1]))
        firsts[arc] = first
        counts[arc] = free - first


@njit(cache=True, nogil=True)
def _round(obstacles: Any, rows: Any, cols: Any, i: int, curves: Any, first: int, free: int) -> int:
    """Write the curve that stands for vertex i behind those from `first` on; return where it stops."""
    row, col = rows[i], cols[i]
    up, left = rows[i - 1] - row, cols[i - 1] - col
    down, right = rows[i + 1] - row, cols[i + 1] - col
    cut = 4  # eighths of an edge
    if up * right == left * down:
        cut = 0
    take(obstacles, row, col)
    while cut > 0 and not is_free(
        obstacles,
        np.int64(8),
        8 * row,
        8 * col,
        8 * row + cut * up,
        8 * col + cut * left,
        8 * row + cut * down,
        8 * col + cut * right,
    ):
        cut //= 2
    put(obstacles, row, col)
    if cut == 0:
        return _append(curves, first, free, UNIT * row, UNIT * col)
    steps = 4 if cut * max(abs(up), abs(left), abs(down), abs(right)) > 4 else 1
    for step in range(0, 5, 4 // steps):
        before, after = (4 - step) ** 2 * cut, step**2 * cut  # Bernstein's weights of the ends, in sixteenths
        free = _append(
            curves, first, free, UNIT * row + before * up + after * down, UNIT * col + before * left + after * right
        )
    return free


@njit(cache=True, nogil=True)
def _append(curves: Any, first: int, free: int, row: int, col: int) -> int:
    """Append a point, in place of the last one where that lies on the way to it."""
    if free > first and curves[free - 1, 0] == row and curves[free - 1, 1] == col:
        return free
    if free > first + 1:
        down, right = curves[free - 1, 0] - curves[free - 2, 0], curves[free - 1, 1] - curves[free - 2, 1]
        on, over = row - curves[free - 1, 0], col - curves[free - 1, 1]
        if down * over == right * on and down * on + right * over > 0:
            free -= 1
    curves[free, 0] = row
    curves[free, 1] = col
    return free + 1
