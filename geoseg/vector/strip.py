"""The borders of one strip, and how they are joined to those still open above it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from geoseg.vector.arcs import Arcs, stacked
from geoseg.vector.lattice import Lattice, list_nodes, node_quadrants
from geoseg.vector.obstacles import mark_obstacles
from geoseg.vector.runs import Regions
from geoseg.vector.seam import join_seam, loop_quadrants, match_seam
from geoseg.vector.walk import walk_all

_Runs: TypeAlias = tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]
_LOOP_EDGES = np.uint8(6)
"""East and south: a ring without a node gets one at its upper left vertex."""


@dataclass(frozen=True, slots=True)
class Strip:
    """The borders of a strip by themselves, cut where they leave it; they are known before its regions are."""

    first_row: int
    """The raster's row of the lattice's first."""
    width: int
    """Of the lattice."""
    node_offsets: NDArray[np.int32]
    """(row + 1,)"""
    loops: NDArray[np.int32]
    """(loop, 4) row and column of the nodes given to rings that have none; two more that `join_seam` needs."""
    arcs: Arcs
    """Without quadrants."""
    obstacles: NDArray[np.int64] | None
    """As `mark_obstacles` returns them, where they are needed."""


def walk_strip(frame: NDArray[Any], first_row: int, *, top: bool, bottom: bool, obstacles: bool) -> Strip:
    """Walk all borders of a framed strip, whose row 1 is the raster's `first_row`.

    `top` and `bottom` say whether the raster begins or ends here.
    """
    lattice = Lattice.of(frame, top=top, bottom=bottom)
    marks = mark_obstacles(lattice) if obstacles else None
    width = frame.shape[1] - 1
    offsets, turns = lattice.node_offsets, lattice.turns
    cols, edges = np.empty(offsets[-1], np.int32), np.empty(offsets[-1], np.uint8)
    list_nodes(lattice.bits, lattice.words, width, cols, edges)
    most = (int(np.bitwise_count(edges).sum()) + turns // 2) // 2 + width + 1
    starts, ends, counts = (np.empty(most, np.int32) for _ in range(3))
    firsts, integrals = np.empty(most, np.int64), np.empty(most, np.int64)
    vertices, loops = np.empty((turns, 2), np.int32), np.empty((turns // 4, 4), np.int32)
    arcs, found = walk_all(
        lattice.bits, lattice.words, first_row, offsets, cols, edges.copy(), starts, ends, firsts, counts, integrals,
        vertices, loops,
    )  # fmt: skip
    loops = loops[:found]
    rows = np.repeat(np.arange(first_row, first_row + len(offsets) - 1, dtype=np.int32), np.diff(offsets))
    walked = Arcs(
        np.concatenate([rows, loops[:, 0]]),
        np.concatenate([cols, loops[:, 1]]),
        np.concatenate([edges, np.full(found, _LOOP_EDGES)]),
        np.empty(0, np.int32),
        starts[:arcs],
        ends[:arcs],
        firsts[:arcs],
        counts[:arcs],
        integrals[:arcs],
        vertices,
        np.zeros(arcs, np.bool_),
    )
    return Strip(first_row, width, offsets, loops, walked, marks)


def join_strip(strip: Strip, regions: Regions, above: Arcs, budget: int) -> Arcs:
    """Return the arcs of a strip and those carried from above, joined where the seam had cut them.

    Vertices beyond `budget` bytes lie on the disk.
    """
    runs = (regions.run_rows, regions.run_cols, regions.run_regions)
    nodes = int(strip.node_offsets[-1])
    quadrants = np.empty(4 * nodes, np.int32)
    node_quadrants(strip.node_offsets, strip.arcs.node_cols, *runs, quadrants)
    loops = loop_quadrants(*runs, strip.loops, len(strip.loops), strip.first_row)
    walked = replace(strip.arcs, quadrants=np.concatenate([quadrants, loops]))
    if not len(above.starts):
        return walked
    above = replace(above, quadrants=np.append(regions.carried, np.int32(-1))[above.quadrants])
    return _joined(above, walked, strip.width, runs, budget)


def _joined(above: Arcs, walked: Arcs, width: int, runs: _Runs, budget: int) -> Arcs:
    """Put the walked arcs behind those from above, and join what the seam has cut."""
    carried, nodes = len(above.starts), len(above.node_rows) + len(walked.node_rows)
    pieces = carried + len(walked.starts)
    cut = int(above.counts[~above.whole].sum()) + int(walked.counts[~walked.whole].sum())
    vertices = stacked([above.vertices, walked.vertices], 2 * cut, budget)  # twice: a ring is turned as well
    free = len(vertices) - 2 * cut
    room_for_joined = np.empty(width if cut or not above.whole.all() else 0, np.int32)
    slots = 4 * len(above.node_rows)
    starts, ends, firsts, counts, integrals = (
        np.concatenate([upper, lower, room_for_joined.astype(upper.dtype)])
        for upper, lower in (
            (above.starts, np.where(walked.starts < 0, walked.starts, walked.starts + slots).astype(np.int32)),
            (above.ends, np.where(walked.ends < 0, walked.ends, walked.ends + slots).astype(np.int32)),
            (above.firsts, walked.firsts + len(above.vertices)),
            (above.counts, walked.counts),
            (above.integrals, walked.integrals),
        )
    )
    from_above, from_below = np.full(width, -1, np.int32), np.full(width, -1, np.int32)
    match_seam(starts[:pieces], ends[:pieces], carried, from_above, from_below)
    gone, loops = np.zeros(len(starts), np.bool_), np.empty((width, 4), np.int32)
    arcs, found = join_seam(
        starts, ends, firsts, counts, integrals, vertices, free, carried, from_above, from_below, gone, pieces, nodes,
        loops,
    )  # fmt: skip
    loops = loops[:found]
    kept = np.flatnonzero(~gone[:arcs])
    return Arcs(
        np.concatenate([above.node_rows, walked.node_rows, loops[:, 0]]),
        np.concatenate([above.node_cols, walked.node_cols, loops[:, 1]]),
        np.concatenate([above.edges, walked.edges, np.full(found, _LOOP_EDGES)]),
        np.concatenate([above.quadrants, walked.quadrants, loop_quadrants(*runs, loops, 0, 0)]),
        starts[kept],
        ends[kept],
        firsts[kept],
        counts[kept],
        integrals[kept],
        vertices,
        np.concatenate([above.settled, np.zeros(arcs - carried, np.bool_)])[kept],
    )
