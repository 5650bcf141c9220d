"""The arcs of one strip, joined to those still open above it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.vector.arcs import Arcs
from geoseg.vector.lattice import find_nodes, mark_edges
from geoseg.vector.runs import Regions
from geoseg.vector.seam import join_seam, loop_quadrants, match_seam
from geoseg.vector.spill import room
from geoseg.vector.walk import walk_all

_LOOP_EDGES = np.uint8(6)
"""East and south: a ring without a node gets one at its upper left vertex."""


def trace_arcs(
    frame: NDArray[Any], regions: Regions, above: Arcs, first_row: int, *, bottom: bool, budget: int
) -> Arcs:
    """Return the arcs of a framed strip and those carried from above, joined where the seam had cut them.

    `first_row` is the raster's row of the frame's row 1; `bottom` says that the frame ends below the raster. Vertices
    beyond `budget` bytes lie on the disk.
    """
    bits, node_offsets, turns = mark_edges(frame, top=first_row == 0, bottom=bottom)
    runs = (regions.run_rows, regions.run_cols, regions.run_regions)
    nodes, cols = int(node_offsets[-1]), frame.shape[1] - 1
    node_cols, edges = np.empty(nodes, np.int32), np.empty(nodes, np.uint8)
    quadrants = np.empty(4 * nodes, np.int32)
    find_nodes(bits, node_offsets, *runs, node_cols, edges, quadrants)

    carried, base = len(above.starts), len(above.node_rows)
    most = carried + (int(np.bitwise_count(edges).sum()) + turns) // 2 + 3 * cols
    starts, ends, counts = (np.empty(most, np.int32) for _ in range(3))
    firsts, integrals = np.empty(most, np.int64), np.empty(most, np.int64)
    starts[:carried], ends[:carried], counts[:carried] = above.starts, above.ends, above.counts
    firsts[:carried], integrals[:carried] = above.firsts, above.integrals
    cut = int(above.counts[~above.whole].sum())
    vertices = room((len(above.vertices) + turns + 2 * (cut + turns), 2), np.int32, budget)  # most is never touched
    vertices[: len(above.vertices)] = above.vertices
    loops = np.empty((turns // 4 + cols, 4), np.int32)
    arcs, count, found = walk_all(
        bits, first_row, node_offsets, node_cols, edges.copy(), base, starts, ends, firsts, counts, integrals, carried,
        vertices, len(above.vertices), loops,
    )  # fmt: skip

    gone = np.zeros(most, np.bool_)
    upper, lower = np.full(cols, -1, np.int32), np.full(cols, -1, np.int32)
    match_seam(starts[:arcs], ends[:arcs], carried, upper, lower)
    pieces = arcs
    arcs, joined = join_seam(
        starts, ends, firsts, counts, integrals, vertices, count, carried, upper, lower, gone, arcs,
        base + nodes + found, loops[found:],
    )  # fmt: skip
    loops = loops[: found + joined]
    loop_corners = np.empty(4 * len(loops), np.int32)
    loop_quadrants(*runs, loops, found, first_row, loop_corners)

    kept = np.flatnonzero(~gone[:arcs])
    settled = np.zeros(arcs, np.bool_)
    settled[:carried] = above.settled
    rows = np.repeat(np.arange(first_row, first_row + len(node_offsets) - 1, dtype=np.int32), np.diff(node_offsets))
    renumbered = np.append(regions.carried, np.int32(-1))[above.quadrants]
    return Arcs(
        np.concatenate([above.node_rows, rows, loops[:, 0]]),
        np.concatenate([above.node_cols, node_cols, loops[:, 1]]),
        np.concatenate([above.edges, edges, np.full(len(loops), _LOOP_EDGES)]),
        np.concatenate([renumbered, quadrants, loop_corners]),
        *(
            (starts[kept], ends[kept], firsts[kept], counts[kept], integrals[kept])
            if arcs > pieces
            else (starts[:arcs], ends[:arcs], firsts[:arcs], counts[:arcs], integrals[:arcs])
        ),
        vertices,
        settled[kept],
    )
