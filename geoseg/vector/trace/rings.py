"""Rings of regions, linked from arcs with the region on the left; polygons put together from them."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray

from geoseg.compiled import njit
from geoseg.vector.parallel import run_parallel, shares
from geoseg.vector.polygons import Polygons
from geoseg.vector.trace.arcs import Arcs
from geoseg.vector.trace.regions import Regions


@njit(cache=True, nogil=True)
def leave(edges: Any, quadrants: Any, slot: int) -> int:
    """Return the slot by which the ring that comes in through a slot goes on: the next edge clockwise.

    Where four edges meet and the pixels left and opposite are of one region, the ring turns the other way: else it
    would touch itself there. So a hole that touches the outer ring is a ring of its own.
    """
    node = slot >> 2
    edge = (slot + 1) & 3
    if edges[node] == 15 and quadrants[4 * node + edge] == quadrants[4 * node + (edge ^ 2)]:
        return 4 * node + (edge ^ 2)
    while not (edges[node] >> edge) & 1:
        edge = (edge + 1) & 3
    return 4 * node + edge


@njit(cache=True, nogil=True)
def link_rings(
    edges: Any, quadrants: Any, starts: Any, ends: Any, counts: Any, integrals: Any, halves: Any, features: Any,
    straight: bool, ring_features: Any, ring_slots: Any, ring_counts: Any, ring_outer: Any,
) -> int:  # fmt: skip
    """Link the rings of regions that have a feature number (-1 = not now); return how many there are.

    `halves` is (slot,) 2 * arc where the arc starts, 2 * arc + 1 where it ends, -1 for neither; those used become
    -2 - half. `straight` keeps nodes at which the ring runs straight on. A ring begins at its first node: `ring_slots`.
    """
    rings = 0
    for first in range(len(halves)):
        if halves[first] < 0 or quadrants[first] < 0 or features[quadrants[first]] < 0:
            continue
        slot = first
        count = 1  # the first vertex again, at the end
        integral = 0
        while halves[slot] >= 0:
            half = halves[slot]
            halves[slot] = -2 - half
            arc = half >> 1
            count += counts[arc]
            arrival = starts[arc] if half & 1 else ends[arc]
            integral += -integrals[arc] if half & 1 else integrals[arc]
            slot = leave(edges, quadrants, arrival)
            count += edges[slot >> 2] < 16 and (straight or (slot ^ arrival) != 2)
        ring_features[rings] = features[quadrants[first]]
        ring_slots[rings] = first
        ring_counts[rings] = count
        ring_outer[rings] = integral < 0
        rings += 1
    return rings


@njit(cache=True, nogil=True)
def group_rings(ring_features: Any, ring_outer: Any, feature_rings: Any, order: Any) -> None:
    """Sort rings by feature, the outer ring first, then holes in the order found; `feature_rings` are the offsets."""
    for ring in range(len(ring_features)):
        feature_rings[ring_features[ring] + 1] += 1
    for feature in range(len(feature_rings) - 1):
        feature_rings[feature + 1] += feature_rings[feature]
    free = feature_rings[:-1] + 1
    for ring in range(len(ring_features)):
        feature = ring_features[ring]
        if ring_outer[ring]:
            order[feature_rings[feature]] = ring
        else:
            order[free[feature]] = ring
            free[feature] += 1


@njit(cache=True, nogil=True)
def fill_rings(
    edges: Any, quadrants: Any, node_rows: Any, node_cols: Any, starts: Any, ends: Any, firsts: Any, counts: Any,
    vertices: Any, halves: Any, straight: bool, slots: Any, rings: Any, unit: int, transform: Any, backwards: bool,
    xy: Any,
) -> None:  # fmt: skip
    """Write the vertices of rings that begin at `slots` to [rings[i], rings[i + 1]) of `xy`.

    Vertices of arcs are in 1 / `unit` of a pixel. `transform` is (6,) for such: x = t0 col + t1 row + t2 and
    y = t3 col + t4 row + t5. `backwards` turns the rings round.
    """
    for ring in range(len(slots)):
        place = rings[ring + 1] - 1 if backwards else rings[ring]
        step = -1 if backwards else 1
        begin = place
        slot = slots[ring]
        while True:
            half = -2 - halves[slot]
            arc = half >> 1
            at = firsts[arc]
            to = 1
            if half & 1:
                at += counts[arc] - 1
                to = -1
            for _ in range(counts[arc]):
                row, col = vertices[at, 0], vertices[at, 1]
                xy[place, 0] = transform[0] * col + transform[1] * row + transform[2]
                xy[place, 1] = transform[3] * col + transform[4] * row + transform[5]
                place += step
                at += to
            arrival = starts[arc] if half & 1 else ends[arc]
            slot = leave(edges, quadrants, arrival)
            if edges[slot >> 2] < 16 and (straight or (slot ^ arrival) != 2):
                row, col = unit * node_rows[slot >> 2], unit * node_cols[slot >> 2]
                xy[place, 0] = transform[0] * col + transform[1] * row + transform[2]
                xy[place, 1] = transform[3] * col + transform[4] * row + transform[5]
                place += step
            if slot == slots[ring]:
                break
        xy[place, 0] = xy[begin, 0]
        xy[place, 1] = xy[begin, 1]


def assemble(
    regions: Regions, arcs: Arcs, chosen: NDArray[np.int64], transform: Affine, *, unit: int = 1, nodes: bool = False
) -> Polygons:
    """Return the polygons of the regions chosen, in that order; their arcs are whole.

    The vertices of arcs are in 1 / `unit` of a pixel; `nodes` keeps those at which a side runs straight on.
    """
    features = np.full(len(regions), -1, np.int32)
    features[chosen] = np.arange(len(chosen), dtype=np.int32)
    halves = arcs.halves
    most = 2 * len(arcs.starts)
    of, slots = np.empty(most, np.int32), np.empty(most, np.int32)
    counts, outer = np.empty(most, np.int64), np.empty(most, np.bool_)
    found = link_rings(
        arcs.edges, arcs.quadrants, arcs.starts, arcs.ends, arcs.counts, arcs.integrals, halves, features, nodes,
        of, slots, counts, outer,
    )  # fmt: skip
    by_place = _by_place(arcs, slots[:found])
    polygons, by_feature = np.zeros(len(chosen) + 1, np.int64), np.empty(found, np.int64)
    group_rings(of[by_place], outer[by_place], polygons, by_feature)
    order = by_place[by_feature]
    rings = np.zeros(found + 1, np.int64)
    np.cumsum(counts[order], out=rings[1:])
    xy = np.empty((rings[-1], 2))
    a, b, c, d, e, f = transform[:6]
    steps = np.array([a / unit, b / unit, c, d / unit, e / unit, f])
    borders = (
        arcs.edges, arcs.quadrants, arcs.node_rows, arcs.node_cols, arcs.starts, arcs.ends, arcs.firsts, arcs.counts,
        arcs.vertices, halves, nodes,
    )  # fmt: skip
    backwards = transform.determinant > 0
    shared = shares(counts[order])
    run_parallel(
        *(
            partial(fill_rings, *borders, slots[order[some]], rings[some.start :], unit, steps, backwards, xy)
            for some in shared
        )
    )
    singles = np.arange(len(chosen) + 1, dtype=np.int64)
    return Polygons(regions.codes[chosen], regions.area_px[chosen], singles, polygons, rings, xy)


def _by_place(arcs: Arcs, slots: NDArray[np.int32]) -> NDArray[np.int64]:
    """Return the order of rings by their first nodes, row-major: it does not depend on the strips."""
    nodes = slots >> 2
    keys = arcs.node_rows[nodes].astype(np.int64) << 32 | arcs.node_cols[nodes]
    return np.argsort(keys, kind="stable")  # quick, for it is a few sorted runs
