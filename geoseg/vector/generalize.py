"""Simplification of shared borders: each arc is simplified once, so that neighbors still meet."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.compiled import njit, run_parallel, shares
from geoseg.errors import UsageError
from geoseg.vector.options import METHODS
from geoseg.vector.simplification import Obstacles, douglas_peucker, is_free, put, queue_of, take, visvalingam
from geoseg.vector.trace import Arcs


def may_be_straight(arcs: Arcs, todo: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return (arc,) whether each of `todo`, whole and not yet generalized, may lose its last vertex.

    A region between only two arcs would vanish if both became straight. So of two arcs that share nodes and a region
    between them, only the one that reaches less far down may become straight. This does not depend on strips: an arc
    that is not yet whole reaches further than any whole one, and none is dropped while the region between is open. Arcs
    that border the background may not become straight, since their twin may already be dropped.
    """
    depths = np.full(len(arcs.starts), -1, np.int32)  # arcs generalized before became whole in an earlier strip
    straight = np.zeros(len(arcs.starts), np.bool_)
    _fill_depths(todo, arcs.starts, arcs.ends, arcs.firsts, arcs.counts, arcs.node_rows, arcs.vertices, depths)
    _mark_straight(todo, arcs.starts, arcs.ends, arcs.counts, arcs.edges, arcs.quadrants, arcs.halves, depths, straight)
    return straight


@njit(cache=True, nogil=True)
def _fill_depths(
    todo: Any, starts: Any, ends: Any, firsts: Any, counts: Any, node_rows: Any, vertices: Any, depths: Any
) -> None:
    for arc in todo:
        depth = max(node_rows[starts[arc] >> 2], node_rows[ends[arc] >> 2])
        for i in range(firsts[arc], firsts[arc] + counts[arc]):
            depth = max(depth, vertices[i, 0])
        depths[arc] = depth


@njit(cache=True, nogil=True)
def _mark_straight(
    todo: Any, starts: Any, ends: Any, counts: Any, edges: Any, quadrants: Any, halves: Any, depths: Any,
    straight: Any,
) -> None:  # fmt: skip
    for arc in todo:
        a, b, edge = starts[arc] >> 2, ends[arc] >> 2, starts[arc] & 3
        may = quadrants[4 * a + edge] >= 0 and quadrants[4 * a + ((edge + 1) & 3)] >= 0
        for other_edge in range(4):
            half = halves[4 * a + other_edge]
            if half < 0 or other_edge == edge or ((edges[a] & 15) == 15 and other_edge == edge ^ 2):
                continue  # nothing, the arc itself, or not its neighbor
            other = half >> 1
            if (starts[other] if half & 1 else ends[other]) >> 2 == b and (
                counts[other] == 0
                or depths[other] < depths[arc]
                or (depths[other] == depths[arc] and other_edge < edge)
            ):
                may = False
        straight[arc] = may


UNIT = 128
"""Smoothed vertices are in 1 / UNIT of a pixel: still integers, so equal on every machine."""
LONGEST_PX = (2**31 - 1) // UNIT
"""Largest number of rows or columns for which such vertices fit 32 bits."""
_ROUNDING = 1e-9
_MIN_DEVIATION_PX = 0.2**0.5
"""Distance of the vertices of a two-step staircase, the flattest, from the line between its ends."""


@dataclass(frozen=True, slots=True)
class Generalization:
    """How borders are simplified."""

    method: str = METHODS[0]
    distance: float = 0.0
    """Visvalingam: the root of the least area that a vertex must span. Douglas-Peucker: the greatest distance."""
    matrix: tuple[float, float, float, float] = (1.0, 0.0, 0.0, 1.0)
    """Takes (col, row) in pixels to the plane in which `distance` is measured; row by row."""
    smooth: bool = False

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise UsageError(f"`method` must be one of {', '.join(METHODS)}, got {self.method!r}", "method")

    @property
    def doubled_area_px(self) -> int:
        """Twice the area, in pixels, of the largest triangle that Visvalingam's method removes."""
        a, b, c, d = self.matrix
        return int(2 * self.distance**2 / abs(a * d - b * c) + _ROUNDING)

    @property
    def is_idle(self) -> bool:
        """Whether the distance is too small for the pixel lattice, so that no vertex can be removed."""
        if self.method == METHODS[0]:
            return self.doubled_area_px < 1
        a, b, c, d = self.matrix
        least = min(math.hypot(a, c), math.hypot(b, d), math.sqrt(abs(a * d - b * c)))
        return self.distance < _MIN_DEVIATION_PX * least

    @property
    def unit(self) -> int:
        """Vertices of generalized arcs are in 1 / unit of a pixel."""
        return UNIT if self.smooth else 1


def generalize(arcs: Arcs, generalization: Generalization, obstacles: Obstacles, budget: int) -> None:
    """Generalize the arcs that have become whole. Vertices beyond `budget` bytes are kept on disk."""
    todo = np.flatnonzero(arcs.whole & ~arcs.settled)
    traced = arcs.copy_vertices(todo, budget) if generalization.smooth else None
    if generalization.distance > 0 and len(todo):
        _simplify(arcs, generalization, todo, obstacles)
    if traced is not None:
        _smooth(arcs, todo, *traced, obstacles, budget)
    arcs.settled[todo] = True


def _simplify(arcs: Arcs, generalization: Generalization, todo: NDArray[np.int64], obstacles: Obstacles) -> None:
    straight = may_be_straight(arcs, todo)
    shared = shares(arcs.counts[todo])
    # An arc's own obstacles are removed while it is simplified, so each thread needs its own copy.
    marks = [obstacles.marks, *(obstacles.marks.copy() for _ in shared[1:])]
    run_parallel(
        *(
            partial(_simplify_some, arcs, generalization, todo[share], straight, own_marks, obstacles.first_row)
            for share, own_marks in zip(shared, marks, strict=True)
        )
    )


def _simplify_some(
    arcs: Arcs,
    generalization: Generalization,
    todo: NDArray[np.int64],
    straight: NDArray[np.bool_],
    marks: NDArray[np.int64],
    first_row: int,
) -> None:
    borders = (todo, arcs.starts, arcs.ends, arcs.firsts, arcs.counts, arcs.node_rows, arcs.node_cols, arcs.vertices)
    constraints = (marks, first_row, straight)
    longest = int(arcs.counts[todo].max(initial=0)) + 2
    rows, cols = np.empty(longest, np.int64), np.empty(longest, np.int64)
    if generalization.method == "douglas-peucker":
        stops = np.empty(longest + 2, np.int64)
        douglas_peucker(
            *borders, *constraints, generalization.distance, np.array(generalization.matrix), rows, cols, stops
        )
        return
    links, entries = np.empty((longest, 3), np.int64), np.empty((3 * longest, 2), np.int64)
    limit = generalization.doubled_area_px
    queues = np.full((queue_of(limit) + 1, 2), -1, np.int64)
    visvalingam(*borders, *constraints, limit, rows, cols, links, entries, queues)


def _smooth(
    arcs: Arcs,
    todo: NDArray[np.int64],
    traced: NDArray[np.int32],
    traced_firsts: NDArray[np.int64],
    obstacles: Obstacles,
    budget: int,
) -> None:
    others = np.setdiff1d(np.arange(len(arcs.starts)), todo, assume_unique=True)
    longest = int(arcs.counts[todo].max(initial=0)) + 3
    rows, cols = np.empty(longest, np.int64), np.empty(longest, np.int64)
    max_vertices = 5 * (int(arcs.counts[todo].sum()) + len(todo))
    vertices = arcs.vertices
    arcs.vertices, firsts = arcs.copy_vertices(others, budget, more=max_vertices)
    arcs.firsts[others] = firsts[:-1]
    _round_arcs(
        todo, arcs.starts, arcs.ends, arcs.firsts, arcs.counts, arcs.node_rows, arcs.node_cols, vertices, arcs.edges,
        traced, traced_firsts, obstacles.marks, obstacles.first_row, rows, cols, arcs.vertices, firsts[-1],
    )  # fmt: skip


@njit(cache=True, nogil=True)
def _round_arcs(
    todo: Any, starts: Any, ends: Any, firsts: Any, counts: Any, node_rows: Any, node_cols: Any, vertices: Any,
    edges: Any, traced: Any, traced_firsts: Any, obstacles: Any, base: int, rows: Any, cols: Any, curves: Any,
    free: int,
) -> None:  # fmt: skip
    """Write each arc of `todo` to `curves` from number `free` on, in UNIT.

    A corner v between edges p v and v q becomes the quadratic curve from the middle of one edge to the middle of the
    other, the limit of Chaikin's corner cutting (G. Chaikin 1974, https://doi.org/10.1016/0146-664X(74)90028-8).
    `firsts` and `counts` become those in `curves`. If another border's vertex lies in the triangle cut off, less is
    cut, or nothing. The arcs' own vertices as traced, in [traced_firsts[i], traced_firsts[i + 1]) of `traced`, are not
    obstacles. Nodes stay, except that a ring without nodes is rounded all around: 16 in `edges` marks its node as no
    vertex.
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
            free = _round_corner(obstacles, rows, cols, i, curves, first, free)
        for i in range(first, free):
            curves[i, 0] += UNIT * base
        for i in range(traced_firsts[k], traced_firsts[k + 1]):
            put(obstacles, traced[i, 0] - base, np.int64(traced[i, 1]))
        firsts[arc] = first
        counts[arc] = free - first


@njit(cache=True, nogil=True)
def _round_corner(obstacles: Any, rows: Any, cols: Any, i: int, curves: Any, first: int, free: int) -> int:
    """Append the curve that replaces vertex i to those that start at `first`; return where it stops."""
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
        before, after = (4 - step) ** 2 * cut, step**2 * cut  # Bernstein weights of the ends, in sixteenths
        free = _append(
            curves, first, free, UNIT * row + before * up + after * down, UNIT * col + before * left + after * right
        )
    return free


@njit(cache=True, nogil=True)
def _append(curves: Any, first: int, free: int, row: int, col: int) -> int:
    """Append a point; it replaces the last one if that lies on the line to it."""
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
