"""Polygons across the 180th meridian or a pole, cut there as GeoJSON wants it (RFC 7946, section 3.1.9)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import SceneError
from geoseg.vector.boxes import boxes
from geoseg.vector.polygons import Polygons
from geoseg.vector.shapes import to_shapes

Backward = Callable[[NDArray[np.float64]], NDArray[np.float64]]
_POLE = 90 - 1e-9
_HALF = 180 - 1e-6
"""Degrees: a side that leaps so far leads across the meridian, or right over a pole."""


def broken(polygons: Polygons) -> NDArray[np.int64]:
    """Return (feature,) those in degrees with a side across the 180th meridian, or a vertex at a pole."""
    x, y = polygons.xy.T
    leaps = np.abs(np.diff(x)) > _HALF
    leaps[polygons.rings[1:-1] - 1] = False  # not those from one ring to the next
    vertices = np.unique(np.concatenate([np.flatnonzero(leaps), np.flatnonzero(np.abs(y) > _POLE)]))
    starts = polygons.rings[polygons.polygons[polygons.features]]
    return np.unique(np.searchsorted(starts, vertices, side="right") - 1)


def mended(polygons: Polygons, plain: Polygons, backward: Backward, turn: float = 0.0) -> Polygons:
    """Return polygons in degrees cut at the 180th meridian, those around a pole opened along it (RFC 7946, 3.1.9).

    `plain` are the same in the plane they come from, to which `backward` leads; x is as good there by a `turn` more or
    less, if it is a longitude. Others stay as they are.
    """
    some = broken(polygons)
    if not len(some):
        return polygons
    wholes = to_shapes(plain.take(some), multi=True)
    cut_up = [_parts(polygons.take(some[[k]]), wholes[k], backward, turn) for k in range(len(some))]
    return polygons.exchange(some, _of_parts(polygons.take(some), cut_up))


def _parts(feature: Polygons, whole: Any, backward: Backward, turn: float) -> NDArray[np.object_]:
    """Return the parts of one feature: the faces between its borders and the map's frame that lie within it."""
    import shapely  # noqa: PLC0415 - seldom needed

    frame = shapely.box(-180, -90, 180, 90).exterior
    lines = shapely.unary_union([frame, *_lines(feature)])
    faces = np.array(shapely.get_parts(shapely.polygonize([lines])))
    x, y = backward(shapely.get_coordinates(shapely.point_on_surface(faces))).T
    shapely.prepare(whole)
    turns = (0.0, turn, -turn) if turn else (0.0,)
    parts = faces[np.any([shapely.contains_xy(whole, x + more, y) for more in turns], axis=0)]
    if not len(parts):
        raise SceneError("a polygon at the 180th meridian or at a pole cannot be cut there; choose another crs")
    return np.array(shapely.orient_polygons(parts), object)


def _lines(feature: Polygons) -> list[Any]:
    """Return the sides of a feature as lines from -180 to 180."""
    import shapely  # noqa: PLC0415 - seldom needed

    a, b = feature.xy[:-1].copy(), feature.xy[1:].copy()
    sides = np.ones(len(a), np.bool_)
    sides[feature.rings[1:-1] - 1] = False
    a, b = a[sides], b[sides]
    for end, other in ((a, b), (b, a)):  # a pole has every longitude
        end[:, 0] = np.where(np.abs(end[:, 1]) > _POLE, other[:, 0], end[:, 0])
    far = np.abs(a[:, 0] - b[:, 0])
    over = np.abs(far - 180) <= 180 - _HALF  # right over a pole
    around = (far > 180) & ~over
    pole = np.where(a[over][:, 1] > 0, 90.0, -90.0)
    east = np.where((a[:, :1] > b[:, :1])[around], a[around], b[around])
    west = np.where((a[:, :1] > b[:, :1])[around], b[around], a[around])
    gap = (180 - east[:, 0]) + (west[:, 0] + 180)
    share = np.divide(180 - east[:, 0], gap, out=np.zeros(len(gap)), where=gap > 0)
    height = east[:, 1] + share * (west[:, 1] - east[:, 1])
    edge = np.full(len(height), 180.0)
    starts = [a[~around & ~over], a[over], b[over], east, west]
    stops = [
        b[~around & ~over],
        np.column_stack([a[over][:, 0], pole]),
        np.column_stack([b[over][:, 0], pole]),
        np.column_stack([edge, height]),
        np.column_stack([-edge, height]),
    ]
    pairs = np.stack([np.concatenate(starts), np.concatenate(stops)], axis=1)
    pairs = pairs[(pairs[:, 0] != pairs[:, 1]).any(axis=1)]
    return list(shapely.linestrings(pairs))


def _of_parts(polygons: Polygons, parts: list[NDArray[np.object_]]) -> Polygons:
    """Return the features, each of the parts given."""
    import shapely  # noqa: PLC0415 - seldom needed

    _, xy, (rings, parts_of, owners) = shapely.to_ragged_array(
        np.array([shapely.multipolygons(some) for some in parts], object)
    )
    return replace(
        polygons,
        features=owners.astype(np.int64),
        polygons=parts_of.astype(np.int64),
        rings=rings.astype(np.int64),
        xy=xy,
    )


def within_a_turn(polygons: Polygons) -> Polygons:
    """Return polygons with those beyond 180 degrees cut there, each part in longitudes of -180 to 180."""
    import shapely  # noqa: PLC0415 - seldom needed

    sides = boxes(polygons)
    beyond = np.flatnonzero((sides[:, 0] < -180) | (sides[:, 2] > 180))
    if not len(beyond):
        return polygons
    some, features = polygons.take(beyond), []
    for whole in to_shapes(some, multi=True):
        west, _, east, _ = whole.bounds
        parts: list[Any] = []
        for turn in range(int(np.floor((west + 180) / 360)), int(np.ceil((east + 180) / 360))):
            inside = shapely.intersection(whole, shapely.box(360 * turn - 180, -90, 360 * turn + 180, 90))
            moved = shapely.transform(inside, lambda xy, turn=turn: xy - (360.0 * turn, 0.0))  # type: ignore[misc]
            parts += [part for part in shapely.get_parts(moved) if part.geom_type == "Polygon"]
        features.append(shapely.orient_polygons(parts))
    return polygons.exchange(beyond, _of_parts(some, features))
