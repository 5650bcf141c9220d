"""Arcs cut at the seam between two strips, made whole again: nothing is cut in the end."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def _region_at(run_rows: Any, run_cols: Any, run_regions: Any, row: int, col: int) -> int:
    """Return the region of a pixel of the frame."""
    low, high = run_rows[row], run_rows[row + 1] - 1
    while low < high:
        middle = (low + high + 1) // 2
        if run_cols[middle] <= col:
            low = middle
        else:
            high = middle - 1
    return int(run_regions[low])


@njit(cache=True, nogil=True)
def match_seam(starts: Any, ends: Any, carried: int, above: Any, below: Any) -> None:
    """Note which end meets the seam at each lattice column, from `above` and from `below`; -1 stays where none does.

    The ends of an arc are 2 * arc and 2 * arc + 1. The first `carried` arcs lie above.
    """
    for end in range(2 * len(starts)):
        code = ends[end >> 1] if end & 1 else starts[end >> 1]
        if (end >> 1) < carried:
            if code < 0:
                above[(-1 - code) >> 1] = end
        elif code < 0 and (-1 - code) & 1:
            below[(-2 - code) >> 1] = end


@njit(cache=True, nogil=True)
def _mate(starts: Any, ends: Any, carried: int, above: Any, below: Any, end: int) -> int:
    """Return the end on the other side of the seam, -1 where an end is not at it."""
    code = ends[end >> 1] if end & 1 else starts[end >> 1]
    if code >= 0:
        return -1
    if (end >> 1) < carried:
        return int(below[(-1 - code) >> 1])
    return int(above[(-2 - code) >> 1]) if (-1 - code) & 1 else -1


@njit(cache=True, nogil=True)
def join_seam(
    starts: Any,
    ends: Any,
    firsts: Any,
    counts: Any,
    integrals: Any,
    vertices: Any,
    free: int,
    carried: int,
    above: Any,
    below: Any,
    gone: Any,
    arcs: int,
    node: int,
    loops: Any,
) -> tuple[int, int]:
    """Append to the arcs, from number `arcs` on, those joined of pieces; mark the pieces as gone.

    `vertices` have room from `free` on. A ring without nodes gets one, from number `node` on, at its upper left vertex,
    as `walk_all` does it; `loops` takes (row, col, column at the seam, 1 if the region inside is to the right there).
    Returns the counts of all arcs and of such rings.
    """
    found = 0
    pieces = arcs
    for piece in range(pieces):
        if gone[piece]:
            continue
        begin, closed = _first_end(starts, ends, carried, above, below, 2 * piece)
        if not closed and _mate(starts, ends, carried, above, below, begin ^ 1) < 0:
            continue  # it touches no seam, or only the next
        if not closed:
            last, _ = _first_end(starts, ends, carried, above, below, begin ^ 1)
            code = ends[begin >> 1] if begin & 1 else starts[begin >> 1]
            if 0 <= (ends[last >> 1] if last & 1 else starts[last >> 1]) < code:
                begin = last
        count = free
        integral = 0
        end = begin
        while True:
            arc = end >> 1
            gone[arc] = True
            step = -1 if end & 1 else 1
            at = firsts[arc] + (counts[arc] - 1 if end & 1 else 0)
            for _ in range(counts[arc]):
                vertices[count, 0] = vertices[at, 0]
                vertices[count, 1] = vertices[at, 1]
                count += 1
                at += step
            integral += step * integrals[arc]
            mate = _mate(starts, ends, carried, above, below, end ^ 1)
            if mate < 0 or mate == begin:
                break
            end = mate
        if closed:
            code = ends[begin >> 1] if begin & 1 else starts[begin >> 1]
            up = (begin >> 1) < carried  # it begins by leaving the seam upwards
            count = _turn(vertices, free, count)
            loops[found, 0] = vertices[free, 0]
            loops[found, 1] = vertices[free, 1]
            loops[found, 2] = (-1 - code) >> 1
            loops[found, 3] = up != (integral < 0)
            starts[arcs] = 4 * (node + found) + 1
            ends[arcs] = 4 * (node + found) + 2
            integrals[arcs] = abs(integral)
            firsts[arcs] = free + 1
            found += 1
        else:
            starts[arcs] = ends[begin >> 1] if begin & 1 else starts[begin >> 1]
            ends[arcs] = starts[end >> 1] if end & 1 else ends[end >> 1]
            integrals[arcs] = integral
            firsts[arcs] = free
        counts[arcs] = count - firsts[arcs]
        arcs += 1
        free = count
    return arcs, found


@njit(cache=True, nogil=True)
def _first_end(starts: Any, ends: Any, carried: int, above: Any, below: Any, end: int) -> tuple[int, bool]:
    """Follow joined pieces from one end as far as they go; return the last end, and whether they close to a ring."""
    here = end
    while True:
        mate = _mate(starts, ends, carried, above, below, here)
        if mate < 0:
            return here, False
        here = mate ^ 1
        if here == end:
            return here, True


@njit(cache=True, nogil=True)
def _turn(vertices: Any, first: int, stop: int) -> int:
    """Turn a ring so that it begins at its upper left vertex and goes east; return where it stops.

    The memory behind `stop` is used. A ring of pixels' edges has as many turns in rows as in columns.
    """
    least = first
    for at in range(first, stop):
        if vertices[at, 0] < vertices[least, 0] or (
            vertices[at, 0] == vertices[least, 0] and vertices[at, 1] < vertices[least, 1]
        ):
            least = at
    count = stop - first
    after = first + (least - first + 1) % count
    step = 1 if vertices[after, 0] == vertices[least, 0] else count - 1
    for place in range(count):
        at = first + (least - first + place * step) % count
        vertices[stop + place, 0] = vertices[at, 0]
        vertices[stop + place, 1] = vertices[at, 1]
    for place in range(count):
        vertices[first + place, 0] = vertices[stop + place, 0]
        vertices[first + place, 1] = vertices[stop + place, 1]
    return stop


@njit(cache=True, nogil=True)
def loop_quadrants(run_rows: Any, run_cols: Any, run_regions: Any, loops: Any, walked: int, first_row: int) -> Any:
    """Return (4 * loop,) the regions around the nodes of rings: of those `walked` first, then of those joined."""
    quadrants = np.empty(4 * len(loops), np.int32)
    for loop in range(len(loops)):
        if loop < walked:
            row, col = np.int64(loops[loop, 0] - first_row), np.int64(loops[loop, 1])
            outside = _region_at(run_rows, run_cols, run_regions, row, col)
            inside = _region_at(run_rows, run_cols, run_regions, row + 1, col + 1)
        else:
            row, col, right = np.int64(0), np.int64(loops[loop, 2]), np.int64(loops[loop, 3])
            outside = _region_at(run_rows, run_cols, run_regions, row, col + 1 - right)
            inside = _region_at(run_rows, run_cols, run_regions, row, col + right)
        for quadrant in range(4):
            quadrants[4 * loop + quadrant] = inside if quadrant == 2 else outside
    return quadrants
