"""The arcs of one strip, joined to those still open above it."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from geoseg.vector.arcs import Arcs
from geoseg.vector.lattice import Lattice, find_nodes
from geoseg.vector.runs import Regions
from geoseg.vector.seam import join_seam, loop_quadrants, match_seam
from geoseg.vector.spill import room
from geoseg.vector.walk import walk_all

_LOOP_EDGES = np.uint8(6)
"""East and south: a ring without a node gets one at its upper left vertex."""

_Table: TypeAlias = tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]
"""starts, ends, firsts, counts, integrals of arcs."""
_Runs: TypeAlias = tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]


def trace_arcs(lattice: Lattice, regions: Regions, above: Arcs, first_row: int, *, budget: int) -> Arcs:
    """Return the arcs of a strip and those carried from above, joined where the seam had cut them.

    `first_row` is the raster's row of the lattice's first. Vertices beyond `budget` bytes lie on the disk. The lattice
    is used up.
    """
    bits, words, offsets, turns = lattice.bits, lattice.words, lattice.node_offsets, lattice.turns
    runs = (regions.run_rows, regions.run_cols, regions.run_regions)
    cols, edges, quadrants = _nodes(bits, words, offsets, runs)
    width = len(bits) // (len(offsets) - 1)
    ends_in_strip = int(np.bitwise_count(edges).sum()) + turns // 2 + 2 * width
    table = _grown(above, ends_in_strip // 2 + 1, width)
    vertices = _grown_vertices(above, turns, budget)
    loops = np.empty((turns // 4 + width, 4), np.int32)
    base = len(above.node_rows)
    walked, count, found = walk_all(
        bits, words, first_row, offsets, cols, edges.copy(), base, *table, len(above.starts), vertices,
        len(above.vertices), loops,
    )  # fmt: skip
    table, settled, found_too = _joined(
        above, table, walked, vertices, count, width, base + len(cols) + found, loops[found:]
    )
    loops = loops[: found + found_too]
    rows = np.repeat(np.arange(first_row, first_row + len(offsets) - 1, dtype=np.int32), np.diff(offsets))
    return Arcs(
        np.concatenate([above.node_rows, rows, loops[:, 0]]),
        np.concatenate([above.node_cols, cols, loops[:, 1]]),
        np.concatenate([above.edges, edges, np.full(len(loops), _LOOP_EDGES)]),
        np.concatenate([
            np.append(regions.carried, np.int32(-1))[above.quadrants],
            quadrants,
            loop_quadrants(*runs, loops, found, first_row),
        ]),
        *table,
        vertices,
        settled,
    )  # fmt: skip


def _nodes(
    bits: NDArray[np.uint8], words: NDArray[np.int64], offsets: NDArray[np.int32], runs: _Runs
) -> tuple[NDArray[np.int32], NDArray[np.uint8], NDArray[np.int32]]:
    count = int(offsets[-1])
    cols, edges, quadrants = np.empty(count, np.int32), np.empty(count, np.uint8), np.empty(4 * count, np.int32)
    find_nodes(bits, words, offsets, *runs, cols, edges, quadrants)
    return cols, edges, quadrants


def _grown(above: Arcs, walked: int, joined: int) -> _Table:
    """Return the arcs from above with room for those to be walked, and for those to be joined."""
    carried = above.starts, above.ends, above.firsts, above.counts, above.integrals
    starts, ends, firsts, counts, integrals = (
        np.concatenate([column, np.empty(walked + joined, column.dtype)]) for column in carried
    )
    return starts, ends, firsts, counts, integrals


def _grown_vertices(above: Arcs, turns: int, budget: int) -> NDArray[np.int32]:
    """Return the vertices from above with room for the strip's and, twice over, for those of joined arcs.

    Most of it is never touched, so it costs no memory.
    """
    carried = len(above.vertices)
    cut = int(above.counts[~above.whole].sum())
    vertices = room((carried + turns + 2 * (cut + turns), 2), np.int32, budget)
    vertices[:carried] = above.vertices
    return vertices


def _joined(
    above: Arcs,
    table: _Table,
    walked: int,
    vertices: NDArray[np.int32],
    count: int,
    width: int,
    node: int,
    loops: NDArray[np.int32],
) -> tuple[_Table, NDArray[np.bool_], int]:
    """Join what the seam has cut; return all arcs, which of them are settled, and the count of `loops`."""
    starts, ends = table[:2]
    carried = len(above.starts)
    if above.whole.all():  # the seam has cut nothing
        starts, ends, firsts, counts, integrals = (column[:walked] for column in table)
        settled = np.zeros(walked, np.bool_)
        settled[:carried] = True
        return (starts, ends, firsts, counts, integrals), settled, 0
    upper, lower = np.full(width, -1, np.int32), np.full(width, -1, np.int32)
    match_seam(starts[:walked], ends[:walked], carried, upper, lower)
    gone = np.zeros(len(starts), np.bool_)
    arcs, found = join_seam(*table, vertices, count, carried, upper, lower, gone, walked, node, loops)
    settled = np.zeros(arcs, np.bool_)
    settled[:carried] = above.settled
    kept = np.flatnonzero(~gone[:arcs]) if arcs > walked else slice(arcs)
    starts, ends, firsts, counts, integrals = (column[kept] for column in table)
    return (starts, ends, firsts, counts, integrals), settled[kept], found
