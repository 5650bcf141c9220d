"""Visvalingam and Whyatt's simplification of shared borders, on the lattice of pixel corners.

M. Visvalingam, J. D. Whyatt (1993), Line generalisation by repeated elimination of points,
https://doi.org/10.1179/000870493786962263: the vertex whose triangle with its two neighbors is least goes first.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from geoseg.compiled import njit
from geoseg.vector.simplify.obstacles import is_free, put, take


@njit(cache=True, nogil=True)
def visvalingam(
    todo: Any, starts: Any, ends: Any, firsts: Any, counts: Any, node_rows: Any, node_cols: Any, vertices: Any,
    obstacles: Any, base: int, straight: Any, limit: int, rows: Any, cols: Any, links: Any, entries: Any,
    queues: Any,
) -> None:  # fmt: skip
    """Simplify the arcs numbered in `todo` where they lie; `limit` is twice the least area that a vertex must span.

    Among equal areas those known first go first, so that a staircase loses every other corner. An arc that may not be
    `straight`, (arc,), keeps a vertex. `obstacles` begin at the raster's row `base` and are as before in the end. The
    last five arrays are room: for the longest arc `rows`, `cols` (vertices + 2,), `links` (vertices + 2, 3) to the
    vertices before and after and to the last entry, `entries` (3 * vertices + 6, 2), each a vertex and the next
    entry; `queues` (queue_of(limit) + 1, 2) are empty: -1.
    """
    for arc in todo:
        if counts[arc] == 0:
            continue
        first, last, a, b = firsts[arc], firsts[arc] + counts[arc], starts[arc] >> 2, ends[arc] >> 2
        rows[0], cols[0] = node_rows[a] - base, node_cols[a]
        count = _without_steps(vertices, first, last, node_rows[b], node_cols[b], obstacles, base, limit, rows, cols)
        rows[count + 1], cols[count + 1] = node_rows[b] - base, node_cols[b]
        known = np.int64(0)  # no literal: it would be compiled twice
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
    """Copy an arc's vertices behind its node, but not every other corner of staircases of one-pixel steps; count them.

    Nor what is then in the middle of a line. These are the first to go, and need no queue: their triangles hold no
    lattice point but their corners.
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
    """Queue a vertex by its area, in place of any earlier entry; return the count of entries and the lowest queue."""
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
    """Return the queue of a doubled area: one for each up to 64, then 32 for each doubling."""
    coarse = 0
    while area >> coarse >= 64:
        coarse += 1
    return 32 * coarse + (area >> coarse)


@njit(cache=True, nogil=True)
def _passes(obstacles: Any, twice_area: int, rows: Any, cols: Any, p: int, i: int, q: int) -> bool:
    """Say whether vertex i may go: its triangle, but for its corners, holds no obstacle.

    The two sides that are border now are known to hold none. By Pick's theorem a triangle of area 1/2 holds no lattice
    point but its corners, and one of area 1 just one more, on a side: then only the middle of p q is asked.
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
