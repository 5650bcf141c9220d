"""The lattice of pixel corners: where borders run, where three or more meet, and the arcs between such nodes.

A border edge lies between two pixels of different class. Edges of a lattice point are numbered clockwise: N 0, E 1,
S 2, W 3; the quadrant (pixel) to the left of whoever leaves through an edge has the edge's number: NW 0, NE 1, SE 2,
SW 3. An edge of a node is a slot, 4 * node + edge.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numba import njit
from numpy.typing import NDArray

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
def _mark_edges(frame: Any, bits: Any, node_rows: Any, top: bool, bottom: bool) -> int:  # noqa: FBT001 - a kernel
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
