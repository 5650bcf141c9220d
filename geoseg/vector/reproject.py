"""Polygons in another coordinate reference system."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.crs import CRS

from geoseg.errors import SceneError, UsageError
from geoseg.raster import GDAL_ERRORS, GeoBox
from geoseg.vector.antimeridian import broken, mended, within_a_turn
from geoseg.vector.bend import Points, bent
from geoseg.vector.layer import Layer, Table
from geoseg.vector.polygons import Polygons

WGS84 = CRS.from_epsg(4326)
_Carry = Callable[..., Polygons]
_BEND_PX = 5e-4
"""How far from its true place a straight side may be, in pixels: a strip of pixels keeps its area to a thousandth."""
_RADIUS_M = 6_371_000.0
_LOOKS, _POLAR = 65, 85.0
_FAR_EAST, _NEAR_POLE = 150.0, 89.9
"""Degrees: only there can a point lie beyond the edge of the world."""


def parse_crs(text: object) -> CRS:
    """Return the reference system a user names: `EPSG:4326`, WKT, a PROJ string.

    UsageError if there is none such, or none for maps: one of heights only, or of x, y, z from the Earth's centre.
    """
    try:
        crs = CRS.from_user_input(text)
    except (*GDAL_ERRORS, TypeError):
        raise UsageError(f"`crs` names no reference system: {text!r:.80}; give one such as EPSG:4326") from None
    if not (crs.is_geographic or crs.is_projected):
        raise UsageError(f"`crs` is neither geographic nor projected: {text!r:.80}; give one such as EPSG:4326")
    return crs


def in_crs(
    layer: Layer, tables: Iterable[Table], crs: CRS | None, *, mixed: bool = False
) -> tuple[Layer, Iterable[Table]]:
    """Return layer and tables in another reference system, areas and perimeters as they were; None leaves them alone.

    `mixed` is whether features of a layer that is not multi may be cut into several polygons even so. Raises UsageError
    and, as tables are taken, SceneError; see `reprojection`.
    """
    if crs is None or layer.crs is None or crs == layer.crs:
        return layer, (_turned_back(tables) if mixed and layer.crs == WGS84 else tables)
    carry = reprojection(layer.crs, crs)
    return replace(layer, crs=crs), _carried(tables, carry, crs, parts=layer.multi or mixed)


def _turned_back(tables: Iterable[Table]) -> Iterator[Table]:
    for table in tables:
        yield replace(table, polygons=within_a_turn(table.polygons))


def _carried(tables: Iterable[Table], carry: _Carry, crs: CRS, *, parts: bool) -> Iterator[Table]:
    for table in tables:
        pixels = table.polygons.area_px.sum()
        pixel_m = math.sqrt(table.area.sum() / pixels) if pixels else 1.0
        polygons = carry(table.polygons, pixel_m)
        if not parts and np.any(np.diff(polygons.features) != 1):
            raise SceneError(
                f"a polygon of the raster is in several parts in {_called(crs)}; dissolve, or choose another crs"
            )
        yield replace(table, polygons=polygons)


def reprojection(source: CRS, target: CRS) -> _Carry:
    """Return the function that carries polygons over, given the size of a pixel in metres.

    Sides that would bend by more than a share of a pixel get vertices in between. In longitude and latitude polygons
    are cut at the 180th meridian, and opened along a pole that they contain.

    x is east (or longitude), y is north (or latitude) in both, whatever the order of the axes by the book. Rings keep
    their sense: outer ones run counter-clockwise. UsageError where there is no way from one to the other; the function
    raises SceneError for a vertex outside the area that the target can show, and for a side that it tears apart.
    """
    transformer = _transformer(source, target)
    degrees = target.is_geographic and math.isclose(target.units_factor[1], math.radians(1))
    unit_m = _RADIUS_M * float(target.units_factor[1]) if target.is_geographic else float(target.units_factor[1])

    turn = 2 * math.pi / float(source.units_factor[1]) if source.is_geographic else 0.0

    def forward(xy: Points) -> Points:
        there = np.column_stack(transformer.transform(xy[:, 0], xy[:, 1]))
        if degrees:  # from one to another longitudes may go on beyond 180
            there[:, 0] -= 360 * np.sign(there[:, 0]) * (np.abs(there[:, 0]) > 180)
        return there

    def backward(xy: Points) -> Points:
        return np.column_stack(transformer.transform(xy[:, 0], xy[:, 1], direction="INVERSE"))

    def carried(polygons: Polygons, pixel_m: float = 1.0) -> Polygons:
        if not len(polygons):
            return polygons
        polygons = polygons.take(np.arange(len(polygons))) if polygons.features[0] else polygons
        there, torn = bent(polygons, forward, _BEND_PX * pixel_m / unit_m, degrees=degrees)
        lost = ~np.isfinite(there.xy).all(axis=1)
        if lost.any():
            place = _place(polygons, forward)
            raise SceneError(
                f"the point {place[0]:g}, {place[1]:g} of the raster has no place in {_called(target)}; "
                "choose another `crs`, or cut the raster to the area where it can be used"
            )
        if len(torn):
            raise SceneError(
                f"{_called(target)} tears a polygon apart at the point {torn[0][0]:g}, {torn[0][1]:g} of the raster; "
                "choose another crs, or cut the raster there"
            )
        if not degrees:
            return _right_handed(there)
        _check_round_trip(polygons, forward, backward, target)
        return mended(_right_handed_ashore(there), polygons, backward, turn)

    return carried


def may_be_cut(geobox: GeoBox, target: CRS | None) -> bool:
    """Say whether a raster's polygons may come in several parts in another CRS: near the 180th meridian, or a pole."""
    if target is None or geobox.crs is None or not target.is_geographic or target == geobox.crs:
        return False
    cols, rows = (np.linspace(0, length, _LOOKS) for length in (geobox.width_px, geobox.height_px))
    cols, rows = np.meshgrid(cols, rows)
    a, b, c, d, e, f = geobox.transform[:6]
    lon, lat = _transformer(geobox.crs, target).transform(a * cols + b * rows + c, d * cols + e * rows + f)
    leaps = [np.nanmax(np.abs(np.diff(lon, axis=axis)), initial=0) for axis in (0, 1)]
    return bool(max(leaps) > 180 or not np.all(np.abs(lat) < _POLAR))


def _place(polygons: Polygons, forward: Callable[[Points], Points]) -> NDArray[np.float64]:
    """Return a vertex without a place in the target, or the middle of a side without one."""
    middles = (polygons.xy[:-1] + polygons.xy[1:]) / 2
    points = np.concatenate([polygons.xy, middles])
    return np.asarray(points[(~np.isfinite(forward(points)).all(axis=1)).argmax()])


def _check_round_trip(
    polygons: Polygons, forward: Callable[[Points], Points], backward: Callable[[Points], Points], target: CRS
) -> None:
    """Refuse vertices beyond the edge of the world in a map such as the sinusoidal: they have a place, a wrong one."""
    there = forward(polygons.xy)
    far = np.flatnonzero((np.abs(there[:, 0]) > _FAR_EAST) & (np.abs(there[:, 1]) < _NEAR_POLE))
    if not len(far):
        return
    again = np.hypot(*(backward(there[far]) - polygons.xy[far]).T)
    size = np.ptp(polygons.xy, axis=0).max()
    wrong = ~(again <= max(1e-6 * size, 1e-9 * np.abs(polygons.xy).max()))
    if wrong.any() and not _is_turned(backward(there[far[wrong]]), polygons.xy[far[wrong]]):
        place = polygons.xy[far[wrong]][0]
        raise SceneError(
            f"the point {place[0]:g}, {place[1]:g} of the raster lies beyond the edge of the world in its own CRS, and "
            f"has no place in {_called(target)}; cut the raster to the world"
        )


def _is_turned(again: Points, xy: Points) -> bool:
    """Say whether points differ by whole turns of 360 degrees, as longitudes may."""
    turns = (again - xy) / 360
    return bool(np.allclose(turns, np.rint(turns), rtol=0, atol=1e-9))


def _transformer(source: CRS, target: CRS) -> Any:
    import pyproj  # noqa: PLC0415 - a run that stays in the raster's CRS starts quicker

    try:
        return pyproj.Transformer.from_crs(to_pyproj(source), to_pyproj(target), always_xy=True)
    except pyproj.exceptions.ProjError as error:
        reason = " ".join(str(error).split())
        raise UsageError(
            f"no transformation leads from {_called(source)} to {_called(target)} ({reason}); choose another `crs`"
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


def _right_handed_ashore(polygons: Polygons) -> Polygons:
    """Turn rings of polygons that are in one piece; those cut up are turned then."""
    some = broken(polygons)
    if not len(some):
        return _right_handed(polygons)
    return _right_handed(polygons).exchange(some, polygons.take(some))


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
