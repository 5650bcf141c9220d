"""Finished regions put together: rings from arcs, polygons from rings."""

from __future__ import annotations

from functools import partial

import numpy as np
from affine import Affine
from numpy.typing import NDArray

from geoseg.vector.abreast import abreast, shares
from geoseg.vector.arcs import Arcs
from geoseg.vector.polygons import Polygons
from geoseg.vector.rings import fill_rings, group_rings, link_rings
from geoseg.vector.runs import Regions


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
    abreast(
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
