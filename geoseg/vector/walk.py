"""Borders walked from node to node: each edge once, whoever its two neighbours are."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

# A kernel is compiled anew for each literal number it is called with, and for each type of integer.
_NORTH, _EAST, _SOUTH = np.int64(0), np.int64(1), np.int64(2)
_ABOVE = np.int64(-1)


@njit(cache=True, nogil=True)
def walk_all(
    bits: Any,
    words: Any,
    first_row: int,
    node_rows: Any,
    node_cols: Any,
    node_edges: Any,
    starts: Any,
    ends: Any,
    firsts: Any,
    counts: Any,
    integrals: Any,
    vertices: Any,
    loops: Any,
) -> tuple[int, int]:
    """Walk every border of a strip; erase `bits` and `node_edges`. Return the counts of arcs and of loops.

    `node_rows` are (row + 1,) offsets of the nodes. An arc that leaves the strip at lattice column c has -1 - 2 c at
    the bottom, -2 - 2 c at the top in place of a slot. A ring without a node gets one, numbered after the others, at
    its upper left vertex; it goes east from there. `loops` takes its (row, col).
    """
    rows = len(node_rows) - 1
    cols = len(bits) // rows
    arcs = 0
    count = np.int64(0)
    for col in range(cols):  # what comes in from above
        if bits[col] & 1:
            starts[arcs] = -2 - 2 * col
            firsts[arcs] = count
            row, out, edge, count, integral = _walk(bits, cols, first_row, _ABOVE, col, _SOUTH, vertices, count)
            ends[arcs] = _end(node_rows, node_cols, node_edges, row, out, edge)
            counts[arcs] = count - firsts[arcs]
            integrals[arcs] = integral - col + (out if row < 0 else 0)  # an edge at the seam is counted above it
            arcs += 1
    for node_row in range(rows):
        for node in range(node_rows[node_row], node_rows[node_row + 1]):
            for edge in range(4):
                if not (node_edges[node] >> edge) & 1:
                    continue
                node_edges[node] &= ~(1 << edge)
                starts[arcs] = 4 * node + edge
                firsts[arcs] = count
                row, out, last, count, integrals[arcs] = _walk(
                    bits, cols, first_row, node_row, np.int64(node_cols[node]), edge, vertices, count
                )
                ends[arcs] = _end(node_rows, node_cols, node_edges, row, out, last)
                counts[arcs] = count - firsts[arcs]
                arcs += 1
    for col in range(cols):  # from the bottom to the bottom
        bit = bits[(rows - 1) * cols + col]
        if bit & 4 and bit < 16:
            starts[arcs] = -1 - 2 * col
            firsts[arcs] = count
            row, out, edge, count, integrals[arcs] = _walk(bits, cols, first_row, rows, col, _NORTH, vertices, count)
            ends[arcs] = -1 - 2 * out
            counts[arcs] = count - firsts[arcs]
            arcs += 1
    found = 0
    for word in range(len(words)):
        if words[word] == 0:
            continue
        for place in range(8 * word, min(8 * word + 8, len(bits))):
            if bits[place] == 0 or bits[place] >= 16:
                continue
            bits[place] = 16
            row, col = place // cols, place % cols
            loops[found, 0] = first_row + row
            loops[found, 1] = col
            node = node_rows[rows] + found
            starts[arcs] = 4 * node + 1
            ends[arcs] = 4 * node + 2
            firsts[arcs] = count
            _, _, _, count, integrals[arcs] = _walk(bits, cols, first_row, row, col, _EAST, vertices, count)
            counts[arcs] = count - firsts[arcs]
            arcs += 1
            found += 1
    return arcs, found


@njit(cache=True, nogil=True)
def _walk(
    bits: Any, cols: int, first_row: int, row: int, col: int, edge: int, vertices: Any, count: int
) -> tuple[int, int, int, int, int]:
    """Leave lattice point (row, col) through an edge; write the turns as (row, col); erase the way.

    Returns (row, col) of the node where the walk ends or of the point outside the strip, the edge by which it leaves
    the last point, the new count of vertices, and the integral of col * d(row) along the way.
    """
    place = row * cols + col
    integral = 0
    while True:
        if edge == 0:
            place -= cols
            row -= 1
            integral -= col
        elif edge == 1:
            place += 1
            col += 1
        elif edge == 2:
            place += cols
            row += 1
            integral += col
        else:
            place -= 1
            col -= 1
        if place < 0 or place >= len(bits):
            return row, col, edge, count, integral
        bit = bits[place]
        if bit >= 16:
            return row, col, edge, count, integral
        bits[place] = 0
        if not (bit >> edge) & 1:
            vertices[count, 0] = first_row + row
            vertices[count, 1] = col
            count += 1
            ahead = bit & ~(1 << (edge ^ 2))
            edge = (ahead >> 1) - (ahead >> 3)


@njit(cache=True, nogil=True)
def _end(node_rows: Any, node_cols: Any, node_edges: Any, row: int, col: int, edge: int) -> int:
    """Return the slot into which a walk came, and mark it as used; or the code of its column at the seam."""
    if row < 0:
        return -2 - 2 * col
    if row >= len(node_rows) - 1:
        return -1 - 2 * col
    low, high = node_rows[row], node_rows[row + 1] - 1
    while low < high:
        middle = (low + high) // 2
        if node_cols[middle] < col:
            low = middle + 1
        else:
            high = middle
    node_edges[low] &= ~(1 << (edge ^ 2))
    return int(4 * low + (edge ^ 2))
