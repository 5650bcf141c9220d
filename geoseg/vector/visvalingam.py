"""Visvalingam and Whyatt's simplification of shared borders, on the lattice of pixel corners.

M. Visvalingam, J. D. Whyatt (1993), Line generalisation by repeated elimination of points,
https://doi.org/10.1179/000870493786962263: the vertex whose triangle with its two neighbours is least goes first.
"""

from __future__ import annotations

from typing import Any

from numba import njit

from geoseg.vector.obstacles import is_free, put, take


@njit(cache=True, nogil=True)
def visvalingam(
    todo: Any,
    starts: Any,
    ends: Any,
    firsts: Any,
    counts: Any,
    node_rows: Any,
    node_cols: Any,
    vertices: Any,
    obstacles: Any,
    base: int,
    limit: int,
    rows: Any,
    cols: Any,
    links: Any,
    areas: Any,
    heap: Any,
    order: Any,
) -> None:
    """Simplify the arcs numbered in `todo` where they lie; `limit` is twice the least area that a vertex must span.

    Among equal areas those known first go first, so that a staircase loses every other corner. `obstacles` begin at
    the raster's row `base` and are as before in the end. The last six arrays are room for one arc: (vertices + 2,),
    `links` with two columns, `heap` and `order` three times as long.
    """
    for arc in todo:
        count = counts[arc]
        if count == 0:
            continue
        first, a, b = firsts[arc], starts[arc] >> 2, ends[arc] >> 2
        rows[0], cols[0] = node_rows[a] - base, node_cols[a]
        rows[count + 1], cols[count + 1] = node_rows[b] - base, node_cols[b]
        for i in range(count):
            rows[i + 1] = vertices[first + i, 0] - base
            cols[i + 1] = vertices[first + i, 1]
        size = 0
        known = 0
        for i in range(1, count + 1):
            links[i, 0] = i - 1
            links[i, 1] = i + 1
            areas[i] = _twice_area(rows, cols, i - 1, i, i + 1)
            if areas[i] <= limit:
                order[known] = i
                _push(heap, size, areas[i] << 32 | known)
                size += 1
                known += 1
        left = count
        least = 2 if a == b else 0  # a ring has three corners
        while size > 0 and left > least:
            key = heap[0]
            size -= 1
            _pop(heap, size)
            i = order[key & 0xFFFFFFFF]
            if areas[i] != key >> 32:
                continue
            p, q = links[i, 0], links[i, 1]
            if left == 1 and not may_be_straight(rows, cols, count):
                break
            if areas[i] > 1 and not _passes(obstacles, rows, cols, p, i, q):
                continue
            take(obstacles, rows[i], cols[i])
            areas[i] = -1
            left -= 1
            links[p, 1] = q
            links[q, 0] = p
            for j in (p, q):
                if 0 < j <= count:
                    areas[j] = _twice_area(rows, cols, links[j, 0], j, links[j, 1])
                    if areas[j] <= limit:
                        order[known] = j
                        _push(heap, size, areas[j] << 32 | known)
                        size += 1
                        known += 1
        at = first
        for i in range(1, count + 1):
            put(obstacles, rows[i], cols[i])
            if areas[i] >= 0:
                vertices[at, 0] = rows[i] + base
                vertices[at, 1] = cols[i]
                at += 1
        counts[arc] = left


@njit(cache=True, nogil=True)
def may_be_straight(rows: Any, cols: Any, count: int) -> bool:
    """Say whether an arc may become the straight line between its nodes.

    Two arcs between the same two nodes must not both do so, nor one where the other is straight already. Without
    a look at the other: only those that lie on the left, and only where no border can be straight by nature.
    """
    row, col = rows[count + 1] - rows[0], cols[count + 1] - cols[0]
    if row == 0 or col == 0:
        return False
    for i in range(1, count + 1):
        if row * (cols[i] - cols[0]) < col * (rows[i] - rows[0]):
            return False
    return True


@njit(cache=True, nogil=True)
def _passes(obstacles: Any, rows: Any, cols: Any, p: int, i: int, q: int) -> bool:
    """Say whether vertex i may go: its triangle, but for its corners, holds no obstacle.

    A triangle of area 1/2 or 0 is not asked: it holds no lattice point but its corners, or no ground.
    """
    for j in (p, i, q):
        take(obstacles, rows[j], cols[j])
    free = is_free(obstacles, 1, rows[p], cols[p], rows[i], cols[i], rows[q], cols[q])
    for j in (p, i, q):
        put(obstacles, rows[j], cols[j])
    return free


@njit(cache=True, nogil=True)
def _twice_area(rows: Any, cols: Any, p: int, i: int, q: int) -> int:
    return abs((rows[i] - rows[p]) * (cols[q] - cols[p]) - (rows[q] - rows[p]) * (cols[i] - cols[p]))


@njit(cache=True, nogil=True)
def _push(heap: Any, size: int, key: int) -> None:
    place = size
    while place > 0 and heap[(place - 1) >> 1] > key:
        heap[place] = heap[(place - 1) >> 1]
        place = (place - 1) >> 1
    heap[place] = key


@njit(cache=True, nogil=True)
def _pop(heap: Any, size: int) -> None:
    """Take the least away; `size` is what is left. The last key fills the gap from the top down."""
    key = heap[size]
    place = 0
    child = 1
    while child < size:
        if child + 1 < size and heap[child + 1] < heap[child]:
            child += 1
        if heap[child] >= key:
            break
        heap[place] = heap[child]
        place = child
        child = 2 * place + 1
    heap[place] = key
