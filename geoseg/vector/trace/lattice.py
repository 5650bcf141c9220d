"""The lattice of pixel corners: where borders run, where three or more meet, and the arcs between such nodes.

A border edge lies between two pixels of different class. Edges of a lattice point are numbered clockwise: N 0, E 1,
S 2, W 3; the quadrant (pixel) to the left of a walk that leaves through an edge has its number: NW 0, NE 1, SE 2,
SW 3. An edge of a node is a slot, 4 * node + edge.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from geoseg.compiled import njit

NODE = 16
"""The bit of a lattice point where an arc ends: three or four edges meet, or a border turns on the raster's outline."""


@dataclass(frozen=True, slots=True)
class Lattice:
    """The lattice points of a strip: a row above each row of its frame, a column left of each, but for the first."""

    bits: NDArray[np.uint8]
    """(row * col,) edges, and NODE."""
    words: NDArray[np.int64]
    """The same, eight points at once."""
    node_offsets: NDArray[np.int32]
    """(row + 1,) of the nodes."""
    turns: int
    """The points that are no nodes, but where a border turns."""

    @classmethod
    def of(cls, frame: NDArray[Any], *, top: bool, bottom: bool) -> Self:
        """Mark edges and nodes; `top` and `bottom` say whether the first and last rows are the raster's outline."""
        rows, cols = frame.shape[0] - 1, frame.shape[1] - 1
        words = np.empty(-(-rows * cols // 8), np.int64)
        words[-1] = 0
        bits = words.view(np.uint8)[: rows * cols]
        node_offsets = np.zeros(rows + 1, np.int32)
        turns = _mark_edges(frame, bits, node_offsets, top, bottom)
        return cls(bits, words, node_offsets, turns)


@njit(cache=True, nogil=True)
def _mark_edges(frame: Any, bits: Any, node_rows: Any, top: bool, bottom: bool) -> int:
    rows, cols = frame.shape[0] - 1, frame.shape[1] - 1
    turns = 0
    for row in range(rows):
        line = row * cols
        for col in range(cols):  # without a branch: eight to sixteen points at once
            north = np.uint8(frame[row, col] != frame[row, col + 1])
            east = np.uint8(frame[row, col + 1] != frame[row + 1, col + 1])
            south = np.uint8(frame[row + 1, col] != frame[row + 1, col + 1])
            west = np.uint8(frame[row, col] != frame[row + 1, col])
            node = (north & south & (east | west)) | (east & west & (north | south))
            bits[line + col] = north | (east << 1) | (south << 2) | (west << 3) | (node << 4)
        step = 1 if (top and row == 0) or (bottom and row == rows - 1) else max(cols - 1, 1)
        for col in range(0, cols, step):  # the raster's outline keeps its corners
            bit = bits[line + col]
            if bit < 16 and (bit ^ (bit >> 2)) & 3:
                bits[line + col] = bit | 16
        nodes = np.int32(0)
        corners = np.int32(0)
        for col in range(cols):
            bit = bits[line + col]
            across = bit ^ (bit >> 2)
            nodes += np.int32(bit >> 4)
            corners += np.int32((across | (across >> 1)) & ((bit >> 4) ^ 1) & 1)
        node_rows[row + 1] = node_rows[row] + nodes
        turns += int(corners)
    return turns


@njit(cache=True, nogil=True)
def list_nodes(bits: Any, words: Any, width: int, cols: Any, edges: Any) -> None:
    """Fill (node,) lattice columns and edge bits."""
    node = 0
    for word in range(len(words)):
        if words[word] & 0x1010101010101010 == 0:
            continue
        for place in range(8 * word, min(8 * word + 8, len(bits))):
            if bits[place] >= 16:
                cols[node] = place % width
                edges[node] = bits[place] & 15
                node += 1


@njit(cache=True, nogil=True)
def node_quadrants(
    node_offsets: Any, cols: Any, run_rows: Any, run_cols: Any, run_regions: Any, quadrants: Any
) -> None:
    """Fill (4 * node,) the regions of the four pixels around."""
    for row in range(len(node_offsets) - 1):
        for side in range(2):  # the pixels above, then those below
            run = run_rows[row + side]
            stop = run_rows[row + side + 1]
            for node in range(node_offsets[row], node_offsets[row + 1]):
                while run + 1 < stop and run_cols[run + 1] <= cols[node]:
                    run += 1
                right = run + (run + 1 < stop and run_cols[run + 1] == cols[node] + 1)
                quadrants[4 * node + 3 * side] = run_regions[run]
                quadrants[4 * node + 1 + side] = run_regions[right]


# A kernel is compiled once more for each literal number it is called with, and for each type of integer.
_NORTH, _EAST, _SOUTH = np.int64(0), np.int64(1), np.int64(2)
_ABOVE = np.int64(-1)


@njit(cache=True, nogil=True)
def walk_all(
    bits: Any, words: Any, first_row: int, node_rows: Any, node_cols: Any, node_edges: Any, starts: Any, ends: Any,
    firsts: Any, counts: Any, integrals: Any, vertices: Any, loops: Any,
) -> tuple[int, int]:  # fmt: skip
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


def mark_obstacles(lattice: Lattice) -> NDArray[np.int64]:
    """Return (row, word) the lattice points that are turns or nodes, 64 columns a word."""
    rows = len(lattice.node_offsets) - 1
    cols = len(lattice.bits) // rows
    marks = np.zeros((rows, cols // 64 + 1), np.int64)
    _mark_obstacles(lattice.bits, lattice.words, cols, marks)
    return marks


@njit(cache=True, nogil=True)
def _mark_obstacles(bits: Any, words: Any, cols: int, obstacles: Any) -> None:
    row = 0
    for word in range(len(words)):
        if words[word] == 0:  # eight points without a border
            continue
        for place in range(8 * word, min(8 * word + 8, len(bits))):
            bit = bits[place]
            if bit >= 16 or (bit ^ (bit >> 2)) & 3:
                while place >= (row + 1) * cols:
                    row += 1
                col = place - row * cols
                obstacles[row, col >> 6] |= 1 << (col & 63)
