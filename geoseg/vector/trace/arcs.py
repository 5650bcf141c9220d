"""Arcs, the borders shared by two regions, from node to node: found on the lattice of pixel corners, each stored once.

A border edge lies between two pixels of different class. The edges of a lattice point are numbered clockwise: N 0,
E 1, S 2, W 3. The quadrant (pixel) to the left of a walk that leaves through an edge has the edge's number: NW 0, NE 1,
SE 2, SW 3. An edge of a node is a slot, 4 * node + edge.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray

from geoseg.compiled import njit
from geoseg.errors import OutputError


def disk_array(shape: tuple[int, ...], dtype: DTypeLike, budget: int) -> NDArray[Any]:
    """Return an uninitialized array: in memory up to `budget` bytes, beyond that in an unnamed temporary file.

    The file is removed with the array. Raises OutputError if the disk for temporary files is full.
    """
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    if size <= budget:
        return np.empty(shape, dtype)
    try:
        with tempfile.TemporaryFile(prefix="geoseg-") as file:
            if hasattr(os, "posix_fallocate"):  # else a full disk would later kill the process
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                file.truncate(size)
            mapped = np.memmap(file, dtype, "r+", shape=shape)
    except OSError as error:
        raise OutputError(
            f"cannot store {size / 1e9:.1f} GB of open borders in a temporary file: {error.strerror}; set TMPDIR to a "
            "folder with more space"
        ) from error
    return np.asarray(mapped)


_NO_ROW = np.iinfo(np.int32).max
_ALL_IN_MEMORY = 1 << 62


@dataclass(slots=True)
class Arcs:
    """Nodes, arcs and their vertices, with slots and quadrants as above; rows and columns are the raster's."""

    node_rows: NDArray[np.int32]
    node_cols: NDArray[np.int32]
    edges: NDArray[np.uint8]
    """(node,) bit mask of the edges that meet; with 16 it is no longer a vertex, since its ring has been smoothed."""
    quadrants: NDArray[np.int32]
    """(4 * node,) regions of the surrounding pixels; -1 for background and for finished regions."""
    starts: NDArray[np.int32]
    """(arc,) the slot where each starts; if a strip cuts it, -1 - 2 col at the bottom, -2 - 2 col at the top."""
    ends: NDArray[np.int32]
    firsts: NDArray[np.int64]
    """(arc,) index of its first vertex; nodes are not among the vertices."""
    counts: NDArray[np.int32]
    integrals: NDArray[np.int64]
    """(arc,) the integral of col * d(row) along it as traced."""
    vertices: NDArray[np.int32]
    """(vertex, 2) row, col."""
    settled: NDArray[np.bool_]
    """(arc,) whether it is whole and generalized."""

    @classmethod
    def none(cls) -> Self:
        """Return no arcs, as above a raster."""
        small = np.empty(0, np.int32)
        long = np.empty(0, np.int64)
        return cls(
            small, small, np.empty(0, np.uint8), small, small, small, long, small, long, np.empty((0, 2), np.int32),
            np.empty(0, np.bool_),
        )  # fmt: skip

    @property
    def whole(self) -> NDArray[np.bool_]:
        """(arc,) whether both ends are known."""
        return (self.starts >= 0) & (self.ends >= 0)

    @property
    def halves(self) -> NDArray[np.int32]:
        """(slot,) 2 * arc where a whole arc starts, 2 * arc + 1 where it ends, -1 elsewhere."""
        halves = np.full(len(self.quadrants), -1, np.int32)
        whole = np.flatnonzero(self.whole).astype(np.int32)
        halves[self.starts[whole]] = 2 * whole
        halves[self.ends[whole]] = 2 * whole + 1
        return halves

    @property
    def cut_nodes(self) -> NDArray[np.int32]:
        """The nodes of arcs that are not yet whole, possibly repeated."""
        cut = ~self.whole
        ends = np.concatenate([self.starts[cut], self.ends[cut]])
        return ends[ends >= 0] >> 2

    @property
    def first_open_row(self) -> int:
        """The first lattice row touched by an arc that is not yet whole; a large number if all are whole."""
        cut = np.flatnonzero(~self.whole)
        rows = [self.node_rows[self.cut_nodes], self.copy_vertices(cut, _ALL_IN_MEMORY)[0][:, 0]]
        return int(min(column.min(initial=_NO_ROW) for column in rows))

    def copy_vertices(
        self, arcs: NDArray[np.int64], budget: int, more: int = 0
    ) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Return the concatenated vertices of some arcs, with space for `more`, and their (arc + 1,) offsets."""
        counts = self.counts[arcs]
        offsets = np.append(0, np.cumsum(counts, dtype=np.int64))
        vertices = disk_array((int(offsets[-1]) + more, 2), np.int32, budget)
        _copy(self.vertices, self.firsts[arcs], counts, vertices)
        return vertices, offsets

    def carry(self, keep: NDArray[np.bool_], away: NDArray[np.bool_], budget: int) -> Self:
        """Return the arcs that the next strip needs: those of the regions to `keep`, (region,), and those at the seam.

        Arcs that were put `away`, (arc,), are left out. Regions are renumbered without gaps. Vertices beyond `budget`
        bytes are kept on disk.
        """
        numbers = np.full(len(keep) + 1, -1, np.int32)  # the last entry is for -1
        numbers[:-1][keep] = np.arange(np.count_nonzero(keep), dtype=np.int32)
        quadrants = numbers[self.quadrants]
        kept = ~self.whole
        if len(quadrants):  # else all arcs are cut
            kept |= quadrants.take(self.starts, mode="clip") >= 0
            kept |= quadrants.take(self.ends, mode="clip") >= 0
        return replace(self, quadrants=quadrants).chosen(np.flatnonzero(kept & ~away), budget)

    def chosen(self, arcs: NDArray[np.int64], budget: int) -> Self:
        """Return some of the arcs with only their nodes. Vertices beyond `budget` bytes are kept on disk."""
        starts, ends = self.starts[arcs], self.ends[arcs]
        used = np.zeros(len(self.node_rows), np.bool_)
        used[starts[starts >= 0] >> 2] = True
        used[ends[ends >= 0] >> 2] = True
        nodes = np.cumsum(used, dtype=np.int32) - np.int32(1)
        vertices, firsts = self.copy_vertices(arcs, budget)
        return type(self)(
            self.node_rows[used], self.node_cols[used], self.edges[used],
            self.quadrants.reshape(-1, 4)[used].ravel(), _renumbered(starts, nodes), _renumbered(ends, nodes),
            firsts[:-1], self.counts[arcs], self.integrals[arcs], vertices, self.settled[arcs],
        )  # fmt: skip


def stacked(parts: Sequence[NDArray[np.int32]], more: int, budget: int) -> NDArray[np.int32]:
    """Return (vertex, 2) the concatenated parts, with space for `more`; beyond `budget` bytes on disk."""
    whole = disk_array((sum(map(len, parts)) + more, 2), np.int32, budget)
    at = 0
    for part in parts:
        whole[at : at + len(part)] = part
        at += len(part)
    return whole


def united(parts: Sequence[Arcs], budget: int) -> Arcs:
    """Return the arcs of all parts; nodes at the same place become one, in the order of their places."""
    keys = np.concatenate([part.node_rows.astype(np.int64) << 32 | part.node_cols for part in parts])
    _, firsts, nodes = np.unique(keys, return_index=True, return_inverse=True)
    quadrants = np.full((len(firsts), 4), -1, np.int32)
    np.maximum.at(quadrants, nodes, np.concatenate([part.quadrants for part in parts]).reshape(-1, 4))
    numbers = np.split(nodes.astype(np.int32), np.cumsum([len(part.node_rows) for part in parts])[:-1])
    first_vertices = np.cumsum([0, *(len(part.vertices) for part in parts)])
    return Arcs(
        np.concatenate([part.node_rows for part in parts])[firsts],
        np.concatenate([part.node_cols for part in parts])[firsts],
        np.concatenate([part.edges for part in parts])[firsts],
        quadrants.ravel(),
        np.concatenate([*map(_renumbered, [part.starts for part in parts], numbers)]),
        np.concatenate([*map(_renumbered, [part.ends for part in parts], numbers)]),
        np.concatenate([part.firsts + begin for part, begin in zip(parts, first_vertices[:-1], strict=True)]),
        np.concatenate([part.counts for part in parts]),
        np.concatenate([part.integrals for part in parts]),
        stacked([part.vertices for part in parts], 0, budget),
        np.concatenate([part.settled for part in parts]),
    )


def _renumbered(slots: NDArray[np.int32], nodes: NDArray[np.int32]) -> NDArray[np.int32]:
    """Renumber the nodes of slots; the codes of a seam stay unchanged."""
    if not len(nodes):
        return slots
    return np.where(slots < 0, slots, 4 * nodes.take(slots >> 2, mode="clip") + (slots & 3)).astype(np.int32)


@njit(cache=True, nogil=True)
def _copy(vertices: Any, firsts: Any, counts: Any, copy: Any) -> None:
    to = 0
    for arc in range(len(firsts)):
        for at in range(firsts[arc], firsts[arc] + counts[arc]):
            copy[to, 0] = vertices[at, 0]
            copy[to, 1] = vertices[at, 1]
            to += 1


@dataclass(frozen=True, slots=True)
class Lattice:
    """The lattice points of a strip: a row above each frame row and a column left of each, except the first ones."""

    bits: NDArray[np.uint8]
    """(row * col,) edges; plus 16 where an arc ends: three or four meet, or a border turns on the raster's outline."""
    words: NDArray[np.int64]
    """The same bytes, eight points per word."""
    node_offsets: NDArray[np.int32]
    """(row + 1,) offsets of the nodes."""
    turns: int
    """Number of points where a border turns, other than nodes."""

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
        for col in range(cols):  # without branches: eight to sixteen points at once
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
    """Fill in lattice columns and edge bits, (node,)."""
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
    """Fill in the regions of the four surrounding pixels, (4 * node,)."""
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


# A kernel is compiled again for each literal number it is called with, and for each integer type.
_NORTH, _EAST, _SOUTH = np.int64(0), np.int64(1), np.int64(2)
_ABOVE = np.int64(-1)


@njit(cache=True, nogil=True)
def walk_all(
    bits: Any, words: Any, first_row: int, node_rows: Any, node_cols: Any, node_edges: Any, starts: Any, ends: Any,
    firsts: Any, counts: Any, integrals: Any, vertices: Any, loops: Any,
) -> tuple[int, int]:  # fmt: skip
    """Walk every border of a strip; erase `bits` and `node_edges`. Return the counts of arcs and of loops.

    `node_rows` are (row + 1,) offsets of the nodes. An arc that leaves the strip at lattice column c has -1 - 2 c at
    the bottom, -2 - 2 c at the top instead of a slot. A ring without a node gets one, numbered after the others, at its
    upper left vertex; the ring goes east from there. `loops` receives its (row, col).
    """
    rows = len(node_rows) - 1
    cols = len(bits) // rows
    arcs = 0
    count = np.int64(0)
    for col in range(cols):  # borders that enter from above
        if bits[col] & 1:
            starts[arcs] = -2 - 2 * col
            firsts[arcs] = count
            row, out, edge, count, integral = _walk(bits, cols, first_row, _ABOVE, col, _SOUTH, vertices, count)
            ends[arcs] = _end(node_rows, node_cols, node_edges, row, out, edge)
            counts[arcs] = count - firsts[arcs]
            integrals[arcs] = integral - col + (out if row < 0 else 0)  # an edge at the seam counts in the strip above
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
    """Leave lattice point (row, col) through an edge; write the turns as (row, col); erase the path.

    Returns (row, col) of the node where the walk ends or of the point outside the strip, the edge by which it left the
    last point, the new count of vertices, and the integral of col * d(row) along the path.
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
    """Return the slot where a walk arrived, and mark it as used; or the code of its column at the seam."""
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
    """Return (row, word) the lattice points that are turns or nodes, 64 columns per word."""
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
