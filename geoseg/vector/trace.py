"""The verb of the room's heart: classes in, polygons out, strip by strip or at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray

from geoseg.vector.arcs import Arcs
from geoseg.vector.frame import framed
from geoseg.vector.generalize import Generalization, generalize
from geoseg.vector.obstacles import Obstacles
from geoseg.vector.polygons import Polygons
from geoseg.vector.rings import fill_rings, group_rings, link_rings
from geoseg.vector.runs import Regions, find_regions
from geoseg.vector.strip import trace_arcs

OPEN_BYTES = 512 * 1024**2
"""Open borders beyond this go to the disk."""


def trace(
    classes: NDArray[Any],
    background: int,
    transform: Affine,
    *,
    nodes: bool = False,
    generalization: Generalization | None = None,
) -> Polygons:
    """Return the polygons of a raster of classes (row, col), uint8 or int32, without `background`.

    They are those of gdal_polygonize with 4-connectedness, ordered by last row, then by first pixel. With `nodes`, each
    keeps a vertex where three regions meet, even on a straight side: then they are an edge-matched coverage.
    """
    batches = trace_strips([classes], len(classes), background, transform, nodes=nodes, generalization=generalization)
    return next(batches)


def trace_strips(
    strips: Iterable[NDArray[Any]],
    height: int,
    background: int,
    transform: Affine,
    *,
    nodes: bool = False,
    generalization: Generalization | None = None,
    budget: int = OPEN_BYTES,
) -> Iterator[Polygons]:
    """Yield the polygons that end in each strip (row, col), as `trace` would return them for all strips at once."""
    above, arcs = None, Arcs.none()
    obstacles = Obstacles(budget) if generalization else None
    for first_row, frame in framed(strips, background):
        if above is None:
            above = Regions.none(frame.shape[1])
        regions = find_regions(frame, background, above, first_row)
        bottom = first_row + len(frame) - 1 > height
        arcs = trace_arcs(frame, regions, arcs, first_row, bottom=bottom, budget=budget, obstacles=obstacles)
        if generalization and obstacles:
            generalize(arcs, generalization, obstacles, budget)
        still_open = regions.open
        unit = generalization.unit if generalization else 1
        yield _polygons(regions, arcs, ~still_open, transform, unit, nodes=nodes or generalization is not None)
        arcs = arcs.carry(still_open, budget)
        above = regions.carry(still_open)
        if obstacles:
            obstacles.forget(min(arcs.first_open_row, first_row + len(frame) - 1))


def _polygons(
    regions: Regions, arcs: Arcs, finished: NDArray[np.bool_], transform: Affine, unit: int, *, nodes: bool
) -> Polygons:
    order = np.flatnonzero(finished)
    order = order[np.argsort(regions.last_row[order], kind="stable")]
    features = np.full(len(regions), -1, np.int32)
    features[order] = np.arange(len(order), dtype=np.int32)
    halves = np.full(len(arcs.quadrants), -1, np.int32)
    numbers = np.arange(len(arcs.starts), dtype=np.int32)
    whole = slice(None) if arcs.whole.all() else arcs.whole
    halves[arcs.starts[whole]] = 2 * numbers[whole]
    halves[arcs.ends[whole]] = 2 * numbers[whole] + 1
    most = 2 * len(numbers)
    of, slots, counts, outer = (
        np.empty(most, np.int32), np.empty(most, np.int32), np.empty(most, np.int64), np.empty(most, np.bool_)
    )  # fmt: skip
    borders = (arcs.starts, arcs.ends)
    found = link_rings(
        arcs.edges, arcs.quadrants, *borders, arcs.counts, arcs.integrals, halves, features, nodes, of, slots, counts, outer
    )  # fmt: skip
    first_nodes = slots[:found] >> 2
    keys = arcs.node_rows[first_nodes].astype(np.int64) << 32 | arcs.node_cols[first_nodes]
    by_place = np.argsort(keys, kind="stable")
    polygons = np.zeros(len(order) + 1, np.int64)
    by_feature = np.empty(found, np.int64)
    group_rings(of[by_place], outer[by_place], polygons, by_feature)
    chosen = by_place[by_feature]
    rings = np.zeros(found + 1, np.int64)
    np.cumsum(counts[chosen], out=rings[1:])
    xy = np.empty((rings[-1], 2))
    a, b, c, d, e, f = transform[:6]
    fill_rings(
        arcs.edges, arcs.quadrants, arcs.node_rows, arcs.node_cols, *borders, arcs.firsts, arcs.counts, arcs.vertices,
        halves, nodes, slots[chosen], rings, unit, np.array([a / unit, b / unit, c, d / unit, e / unit, f]),
        transform.determinant > 0, xy,
    )  # fmt: skip
    singles = np.arange(len(order) + 1, dtype=np.int64)
    return Polygons(regions.codes[order], regions.area_px[order], singles, polygons, rings, xy)
