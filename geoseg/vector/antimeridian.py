"""Polygons across the 180th meridian: whole beyond it, or cut there as GeoJSON wants it (RFC 7946, section 3.1.9)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from geoseg.vector.boxes import boxes
from geoseg.vector.polygons import Polygons
from geoseg.vector.shapes import to_shapes


def unwrapped(polygons: Polygons) -> Polygons:
    """Return polygons in degrees whose longitudes do not jump: across the 180th meridian they go on to 181, 182.

    A polygon around a pole cannot be told from one across the meridian: it comes out wrong, as it went in.
    """
    x = polygons.xy[:, 0]
    jumps = np.flatnonzero(np.abs(np.diff(x)) > 180) + 1
    jumps = jumps[~np.isin(jumps, polygons.rings)]  # not those from one ring to the next
    if not len(jumps):
        return polygons
    starts = polygons.rings[polygons.polygons[polygons.features]]
    jumping = np.zeros(len(polygons), np.bool_)
    jumping[np.searchsorted(starts, jumps, side="right") - 1] = True
    vertices = np.repeat(jumping, np.diff(starts))
    xy = polygons.xy.copy()
    xy[starts[0] : starts[-1], 0] += np.where(vertices & (x[starts[0] : starts[-1]] < 0), 360.0, 0.0)
    return replace(polygons, xy=xy)


def beyond(polygons: Polygons) -> NDArray[np.bool_]:
    """Return (feature,) whether a feature has longitudes outside of -180 to 180."""
    sides = boxes(polygons)
    return np.asarray((sides[:, 0] < -180) | (sides[:, 2] > 180))


def cut(polygons: Polygons, *, multi: bool) -> Polygons:
    """Return multipolygons cut at the 180th meridian, each part in longitudes of -180 to 180."""
    import shapely  # noqa: PLC0415 - seldom needed

    features = []
    for whole in to_shapes(polygons, multi=multi):
        west, _, east, _ = whole.bounds
        turns = range(int(np.floor((west + 180) / 360)), int(np.ceil((east + 180) / 360)))
        parts = []
        for turn in turns:
            inside = shapely.intersection(whole, shapely.box(360 * turn - 180, -90, 360 * turn + 180, 90))
            moved = shapely.transform(inside, lambda xy, turn=turn: xy - (360.0 * turn, 0.0))  # type: ignore[misc]
            parts += [part for part in shapely.get_parts(moved) if part.geom_type == "Polygon"]
        features.append(shapely.multipolygons(shapely.orient_polygons(parts)))
    _, xy, (rings, parts_of, owners) = shapely.to_ragged_array(np.array(features, object))
    return replace(
        polygons,
        features=owners.astype(np.int64),
        polygons=parts_of.astype(np.int64),
        rings=rings.astype(np.int64),
        xy=xy,
    )
