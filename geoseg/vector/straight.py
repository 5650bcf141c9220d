"""Which shared borders may become the straight line between their nodes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from geoseg.vector.arcs import Arcs


def may_be_straight(arcs: Arcs, todo: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return (arc,) whether each of `todo`, whole and not yet generalized, may lose its last vertex.

    A region that only two arcs surround would vanish if both became straight; so of two between the same nodes with a
    region in between, only the one that reaches less far down may. Strips do not matter: an arc that is not whole yet
    reaches further than any that is, and none is forgotten while the region between is open. Arcs that border the
    background may not, for there a twin might be forgotten.
    """
    depths = np.full(len(arcs.starts), -1, np.int32)  # those generalized before are whole since an earlier strip
    straight = np.zeros(len(arcs.starts), np.bool_)
    _fill_depths(todo, arcs.starts, arcs.ends, arcs.firsts, arcs.counts, arcs.node_rows, arcs.vertices, depths)
    _mark_straight(todo, arcs.starts, arcs.ends, arcs.counts, arcs.edges, arcs.quadrants, arcs.halves, depths, straight)
    return straight


@njit(cache=True, nogil=True)
def _fill_depths(
    todo: Any, starts: Any, ends: Any, firsts: Any, counts: Any, node_rows: Any, vertices: Any, depths: Any
) -> None:
    for arc in todo:
        depth = max(node_rows[starts[arc] >> 2], node_rows[ends[arc] >> 2])
        for i in range(firsts[arc], firsts[arc] + counts[arc]):
            depth = max(depth, vertices[i, 0])
        depths[arc] = depth


@njit(cache=True, nogil=True)
def _mark_straight(
    todo: Any,
    starts: Any,
    ends: Any,
    counts: Any,
    edges: Any,
    quadrants: Any,
    halves: Any,
    depths: Any,
    straight: Any,
) -> None:
    for arc in todo:
        a, b, edge = starts[arc] >> 2, ends[arc] >> 2, starts[arc] & 3
        may = quadrants[4 * a + edge] >= 0 and quadrants[4 * a + ((edge + 1) & 3)] >= 0
        for other_edge in range(4):
            half = halves[4 * a + other_edge]
            if half < 0 or other_edge == edge or ((edges[a] & 15) == 15 and other_edge == edge ^ 2):
                continue  # nothing, the arc itself, or not its neighbour
            other = half >> 1
            if (starts[other] if half & 1 else ends[other]) >> 2 == b and (
                counts[other] == 0
                or depths[other] < depths[arc]
                or (depths[other] == depths[arc] and other_edge < edge)
            ):
                may = False
        straight[arc] = may
