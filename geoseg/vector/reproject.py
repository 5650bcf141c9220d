"""Polygons in another coordinate reference system."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.crs import CRS

from geoseg.errors import SceneError, UsageError
from geoseg.raster.environment import GDAL_ERRORS
from geoseg.vector.antimeridian import unwrapped
from geoseg.vector.layer import Layer, Table
from geoseg.vector.polygons import Polygons

WGS84 = CRS.from_epsg(4326)


def parse_crs(text: object) -> CRS:
    """Return the reference system a user names: `EPSG:4326`, WKT, a PROJ string.

    UsageError if there is none such, or none for maps: one of heights only, or of x, y, z from the Earth's centre.
    """
    try:
        crs = CRS.from_user_input(text)
    except (*GDAL_ERRORS, TypeError):
        raise UsageError(f"--crs names no reference system: {text!r:.80}; give one such as EPSG:4326") from None
    if not (crs.is_geographic or crs.is_projected):
        raise UsageError(f"--crs is neither geographic nor projected: {text!r:.80}; give one such as EPSG:4326")
    return crs


def in_crs(layer: Layer, tables: Iterable[Table], crs: CRS | None) -> tuple[Layer, Iterable[Table]]:
    """Return layer and tables in another reference system, areas and perimeters as they were; None leaves them alone.

    Raises UsageError and, as tables are taken, SceneError; see `reprojection`.
    """
    if crs is None or layer.crs is None or crs == layer.crs:
        return layer, tables
    carry = reprojection(layer.crs, crs)
    return replace(layer, crs=crs), (replace(table, polygons=carry(table.polygons)) for table in tables)


def reprojection(source: CRS, target: CRS) -> Callable[[Polygons], Polygons]:
    """Return the function that carries polygons over, vertex by vertex: straight sides stay straight.

    x is east (or longitude), y is north (or latitude) in both, whatever the order of the axes by the book. Rings keep
    their sense: outer ones run counter-clockwise. UsageError where there is no way from one to the other; the function
    raises SceneError for a vertex outside the area that the target can show.
    """
    transformer = _transformer(source, target)

    def carried(polygons: Polygons) -> Polygons:
        x, y = transformer.transform(polygons.xy[:, 0], polygons.xy[:, 1])
        xy = np.column_stack([x, y])
        lost = ~np.isfinite(xy).all(axis=1)
        if lost.any():
            place = polygons.xy[lost.argmax()]
            raise SceneError(
                f"the point {place[0]:g}, {place[1]:g} of the raster has no place in {_called(target)}; "
                "choose another --crs, or cut the raster to the area where it can be used"
            )
        there = replace(polygons, xy=xy)
        return _right_handed(unwrapped(there) if target.is_geographic else there)

    return carried


def _transformer(source: CRS, target: CRS) -> Any:
    import pyproj  # noqa: PLC0415 - a run that stays in the raster's CRS starts quicker

    try:
        return pyproj.Transformer.from_crs(to_pyproj(source), to_pyproj(target), always_xy=True)
    except pyproj.exceptions.ProjError as error:
        reason = " ".join(str(error).split())
        raise UsageError(
            f"no transformation leads from {_called(source)} to {_called(target)} ({reason}); choose another --crs"
        ) from error


def to_pyproj(crs: CRS) -> Any:
    """Return rasterio's reference system as pyproj's. WKT 2 loses least."""
    import pyproj  # noqa: PLC0415 - see above

    return pyproj.CRS.from_wkt(wkt(crs))


def wkt(crs: CRS) -> str:
    """Return a reference system as text that any reader of WKT 2 understands."""
    return str(crs.to_wkt(version="WKT2_2019"))


def _called(crs: CRS) -> str:
    code = crs.to_authority()
    return ":".join(code) if code else str(crs.to_string())[:80]


def _right_handed(polygons: Polygons) -> Polygons:
    """Turn rings around that a mirroring CRS (say, one with axes to the south and east) has turned."""
    outer = np.zeros(len(polygons.rings) - 1, np.bool_)
    outer[polygons.polygons[:-1]] = True
    wrong = np.flatnonzero((_doubled_areas(polygons) > 0) != outer)
    if not len(wrong):
        return polygons
    xy = polygons.xy.copy()
    for ring in wrong:
        place = slice(polygons.rings[ring], polygons.rings[ring + 1])
        xy[place] = polygons.xy[place][::-1]
    return replace(polygons, xy=xy)


def _doubled_areas(polygons: Polygons) -> NDArray[np.float64]:
    """Return (ring,) twice the signed area, about each ring's first vertex: far from the origin digits are lost."""
    starts = polygons.rings[:-1]
    if not len(starts):
        return np.empty(0)
    x, y = (polygons.xy - np.repeat(polygons.xy[starts], np.diff(polygons.rings), axis=0)).T
    cross = np.zeros(len(x))
    cross[:-1] = x[:-1] * y[1:] - x[1:] * y[:-1]
    # From one ring's last vertex to the next ring's first, which is (0, 0), the product is nought.
    return np.add.reduceat(cross, starts)
