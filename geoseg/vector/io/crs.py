"""Polygons in another CRS: vertices are moved and added, polygons cut at 180 degrees and opened at poles."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.crs import CRS

from geoseg.errors import SceneError, UsageError, one_line
from geoseg.raster import GeoBox, apply_transform, crs_named, period_of
from geoseg.vector.polygons import FeatureTable, PolygonLayer, Polygons, boxes, to_shapes

Points = NDArray[np.float64]
"""(point, 2) x and y."""
Move = Callable[[Points], Points]
"""Leads to the same points in another CRS."""
_POLE = 90 - 1e-9
_HALF_TURN = 180 - 1e-6
"""Degrees: a side that jumps this far crosses the 180th meridian, or a pole."""


def needing_a_cut(polygons: Polygons) -> NDArray[np.int64]:
    """Return the features, in degrees, with a side across the 180th meridian or a vertex at a pole."""
    x, y = polygons.xy.T
    leaps = np.abs(np.diff(x)) > _HALF_TURN
    leaps[polygons.rings[1:-1] - 1] = False  # not those from one ring to the next
    vertices = np.unique(np.concatenate([np.flatnonzero(leaps), np.flatnonzero(np.abs(y) > _POLE)]))
    starts = polygons.rings[polygons.polygons[polygons.features]]
    return np.unique(np.searchsorted(starts, vertices, side="right") - 1)


def cut_at_antimeridian(polygons: Polygons, source_polygons: Polygons, backward: Move, full_turn: float) -> Polygons:
    """Cut polygons in degrees at the 180th meridian, and open those around a pole along it (RFC 7946, 3.1.9).

    `source_polygons` are the same polygons in their original plane, to which `backward` leads; if its x is a longitude,
    `full_turn` is its full turn, else 0. The rings of all polygons are oriented.
    """
    oriented, affected = _oriented(polygons), needing_a_cut(polygons)
    if not len(affected):
        return oriented
    shapes = to_shapes(source_polygons.take(affected), multi=True)
    parts = [_cut_feature(polygons.take(affected[[k]]), shapes[k], backward, full_turn) for k in range(len(affected))]
    return oriented.exchange(affected, _from_parts(polygons.take(affected), parts))


def _cut_feature(feature: Polygons, source_shape: Any, backward: Move, full_turn: float) -> NDArray[np.object_]:
    """Return the parts of a feature: the faces between its borders and the map's frame that lie inside it."""
    import shapely  # noqa: PLC0415 - seldom needed

    frame = shapely.box(-180, -90, 180, 90).exterior
    lines = shapely.unary_union([frame, *_side_lines(feature)])
    faces = np.array(shapely.get_parts(shapely.polygonize([lines])))
    x, y = backward(shapely.get_coordinates(shapely.point_on_surface(faces))).T
    shapely.prepare(source_shape)
    turns = (0.0, full_turn, -full_turn) if full_turn else (0.0,)
    parts = faces[np.any([shapely.contains_xy(source_shape, x + shift, y) for shift in turns], axis=0)]
    if not len(parts):
        raise SceneError(
            "a polygon at the 180th meridian or at a pole cannot be cut there; choose another `crs`", "crs"
        )
    return np.array(shapely.orient_polygons(parts), object)


def _side_lines(feature: Polygons) -> list[Any]:
    """Return the sides of a feature as lines from -180 to 180."""
    import shapely  # noqa: PLC0415 - seldom needed

    a, b = feature.xy[:-1].copy(), feature.xy[1:].copy()
    is_side = np.ones(len(a), np.bool_)
    is_side[feature.rings[1:-1] - 1] = False
    a, b = a[is_side], b[is_side]
    for end, other in ((a, b), (b, a)):  # a pole has every longitude
        end[:, 0] = np.where(np.abs(end[:, 1]) > _POLE, other[:, 0], end[:, 0])
    lon_span = np.abs(a[:, 0] - b[:, 0])
    over_pole = np.abs(lon_span - 180) <= 180 - _HALF_TURN  # right over a pole
    across = (lon_span > 180) & ~over_pole
    pole = np.where(a[over_pole][:, 1] > 0, 90.0, -90.0)
    east = np.where((a[:, :1] > b[:, :1])[across], a[across], b[across])
    west = np.where((a[:, :1] > b[:, :1])[across], b[across], a[across])
    gap = (180 - east[:, 0]) + (west[:, 0] + 180)
    fraction = np.divide(180 - east[:, 0], gap, out=np.zeros(len(gap)), where=gap > 0)
    lat = east[:, 1] + fraction * (west[:, 1] - east[:, 1])
    east_rim = np.full(len(lat), 180.0)
    starts = [a[~across & ~over_pole], a[over_pole], b[over_pole], east, west]
    stops = [
        b[~across & ~over_pole],
        np.column_stack([a[over_pole][:, 0], pole]),
        np.column_stack([b[over_pole][:, 0], pole]),
        np.column_stack([east_rim, lat]),
        np.column_stack([-east_rim, lat]),
    ]
    pairs = np.stack([np.concatenate(starts), np.concatenate(stops)], axis=1)
    pairs = pairs[(pairs[:, 0] != pairs[:, 1]).any(axis=1)]
    return list(shapely.linestrings(pairs))


def _from_parts(polygons: Polygons, parts: list[NDArray[np.object_]]) -> Polygons:
    """Return the features, each made of the given parts."""
    import shapely  # noqa: PLC0415 - seldom needed

    _, xy, (rings, parts_of, owners) = shapely.to_ragged_array(
        np.array([shapely.multipolygons(members) for members in parts], object)
    )
    return replace(
        polygons,
        features=owners.astype(np.int64),
        polygons=parts_of.astype(np.int64),
        rings=rings.astype(np.int64),
        xy=xy,
    )


def wrap_longitudes(polygons: Polygons) -> Polygons:
    """Cut polygons that extend beyond 180 degrees, and move each part to longitudes of -180 to 180."""
    import shapely  # noqa: PLC0415 - seldom needed

    bounds = boxes(polygons)
    beyond = np.flatnonzero((bounds[:, 0] < -180) | (bounds[:, 2] > 180))
    if not len(beyond):
        return polygons
    affected, features = polygons.take(beyond), []
    for shape in to_shapes(affected, multi=True):
        west, _, east, _ = shape.bounds
        parts: list[Any] = []
        for turn in range(int(np.floor((west + 180) / 360)), int(np.ceil((east + 180) / 360))):
            inside = shapely.intersection(shape, shapely.box(360 * turn - 180, -90, 360 * turn + 180, 90))
            shifted = shapely.transform(inside, lambda xy, turn=turn: xy - (360.0 * turn, 0.0))  # type: ignore[misc]
            parts += [part for part in shapely.get_parts(shifted) if part.geom_type == "Polygon"]
        if east - west >= 360:
            parts = list(shapely.get_parts(shapely.union_all(parts)))  # those at both ends now touch
        features.append(shapely.orient_polygons(parts))
    return polygons.exchange(beyond, _from_parts(affected, features))


def _merged_ends(polygons: Polygons, source_polygons: Polygons, full_turn: float) -> Polygons:
    """Merge the parts of each feature that reaches around the Earth in its source: those at both ends now touch."""
    import shapely  # noqa: PLC0415 - seldom needed

    bounds = boxes(source_polygons)
    around = np.flatnonzero(bounds[:, 2] - bounds[:, 0] >= full_turn) if full_turn else np.empty(0, np.int64)
    if not len(around):
        return polygons
    affected = polygons.take(around)
    merged = [
        shapely.get_parts(shapely.union_all(shapely.get_parts(shape))) for shape in to_shapes(affected, multi=True)
    ]
    return polygons.exchange(around, _from_parts(affected, [shapely.orient_polygons(parts) for parts in merged]))


_MAX_HALVINGS = 16
"""The maximum number of times a side is halved."""
_WIDE = 80.0
"""Degrees: a side twice as long is split, since it could be mistaken for one across a pole."""


def densified(polygons: Polygons, forward: Move, tolerance: float, *, degrees: bool) -> tuple[Polygons, Points]:
    """Return reprojected polygons, and the places (place, 2) where even the smallest part of a side is torn apart.

    Vertices without a place in the target are not finite; in that case sides stay unchanged.

    Sides are halved with new vertices until the middle of each part is off by no more than `tolerance`, in units of the
    target. New vertices do not depend on the direction of the side. In `degrees` x is a longitude, which may jump from
    180 to -180.
    """
    target_xy = forward(polygons.xy)
    if not np.isfinite(target_xy).all():
        return replace(polygons, xy=target_xy), np.empty((0, 2))
    is_side = np.ones(max(len(target_xy) - 1, 0), np.bool_)
    is_side[polygons.rings[1:-1] - 1] = False
    sides = np.flatnonzero(is_side)
    positions = np.zeros(len(sides))
    a, b = polygons.xy[sides], polygons.xy[sides + 1]
    ends = target_xy[sides], target_xy[sides + 1]
    splits: list[tuple[NDArray[np.int64], NDArray[np.float64], Points]] = []
    deviations = np.empty(0)
    for level in range(1, _MAX_HALVINGS + 1):
        middle = (a + b) / 2
        target_middle = forward(middle)
        lost = ~np.isfinite(target_middle).all(axis=1)
        if lost.any():
            splits.append((sides[lost], positions[lost] + 0.5**level, target_middle[lost]))
            break
        deviations = _deviations(*ends, target_middle, degrees=degrees)
        if level == 1:
            quarters = [forward((end + middle) / 2) for end in (a, b)]
            for end, quarter in zip(ends, quarters, strict=True):  # an S is straight in the middle
                deviations = np.maximum(deviations, _deviations(end, target_middle, quarter, degrees=degrees))
        split = np.flatnonzero(deviations > tolerance)
        if not len(split):
            break
        half = 0.5**level
        splits.append((sides[split], positions[split] + half, target_middle[split]))
        sides, positions = np.tile(sides[split], 2), np.concatenate([positions[split], positions[split] + half])
        a, b = np.concatenate([a[split], middle[split]]), np.concatenate([middle[split], b[split]])
        ends = (
            np.concatenate([ends[0][split], target_middle[split]]),
            np.concatenate([target_middle[split], ends[1][split]]),
        )
        deviations = np.tile(deviations[split], 2)
    torn = a[deviations > 1000 * tolerance] if len(splits) == _MAX_HALVINGS else np.empty((0, 2))
    return _insert_vertices(polygons, target_xy, splits), torn


def _deviations(a: Points, b: Points, middle: Points, *, degrees: bool) -> NDArray[np.float64]:
    """Return (side,) the distance of a side's middle from where it would be if the side were straight."""
    if not degrees:
        return np.asarray(np.hypot(*(middle - (a + b) / 2).T))
    west = np.where(np.abs(a[:, 1]) > _POLE, b[:, 0], a[:, 0])
    east = np.where(np.abs(b[:, 1]) > _POLE, a[:, 0], b[:, 0])
    x = longitude_difference(middle[:, 0] - west - longitude_difference(east - west) / 2) * np.cos(
        np.radians(middle[:, 1])
    )
    deviations = np.hypot(x, middle[:, 1] - (a[:, 1] + b[:, 1]) / 2)
    halves = np.minimum(
        np.abs(longitude_difference(middle[:, 0] - west)), np.abs(longitude_difference(east - middle[:, 0]))
    )
    return np.where(halves > _WIDE, np.inf, deviations)


def longitude_difference(degrees: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return differences of longitudes the shorter way around, -180 to 180."""
    return np.asarray((degrees + 180) % 360 - 180)


def _insert_vertices(
    polygons: Polygons, xy: Points, splits: list[tuple[NDArray[np.int64], NDArray[np.float64], Points]]
) -> Polygons:
    if not splits:
        return replace(polygons, xy=xy)
    sides, positions, points = (np.concatenate(parts) for parts in zip(*splits, strict=True))
    order = np.lexsort((positions, sides))
    added = np.bincount(sides + 1, minlength=len(xy) + 1)
    rings = polygons.rings + np.cumsum(added)[polygons.rings]
    return replace(polygons, rings=rings, xy=np.insert(xy, sides[order] + 1, points[order], axis=0))


WGS84 = CRS.from_epsg(4326)
_Reproject = Callable[..., Polygons]
_MAX_BEND_PX = 5e-4
"""Maximum error of a straight side, in pixels: a strip one pixel wide keeps its area to a thousandth."""
_RADIUS_M = 6_371_000.0
_SAMPLES, _POLAR_LATITUDE = 65, 85.0
_FAR_EAST, _NEAR_POLE = 150.0, 89.9
"""Degrees: only points beyond these can lie beyond the edge of the world."""


def parse_crs(text: object) -> CRS:
    """Return the CRS that a user names: `EPSG:4326`, WKT, a PROJ string.

    UsageError if it does not exist, or is not for maps: heights only, or x, y, z from the Earth's center.
    """
    crs = crs_named(text)
    if not (crs.is_geographic or crs.is_projected):
        raise UsageError(f"`crs` must be geographic or projected, got {text!r:.80}; give one such as EPSG:4326", "crs")
    return crs


def in_crs(
    layer: PolygonLayer, tables: Iterable[FeatureTable], crs: CRS | None, *, mixed: bool = False
) -> tuple[PolygonLayer, Iterable[FeatureTable]]:
    """Return layer and tables in another CRS, with areas and perimeters unchanged; `crs` None changes nothing.

    `mixed` says whether features may be cut into several polygons even if the layer is not multi. Raises UsageError
    and, while tables are read, SceneError; see `reprojection`.
    """
    if crs is None or layer.crs is None or crs == layer.crs:
        if mixed and layer.crs == WGS84:
            tables = (replace(table, polygons=wrap_longitudes(table.polygons)) for table in tables)
        return layer, tables
    reproject = reprojection(layer.crs, crs)
    return replace(layer, crs=crs), _reprojected_tables(tables, reproject, crs, parts=layer.multi or mixed)


def is_moving(source: CRS | None, target: CRS | None) -> bool:
    """Return whether coordinates change from one CRS to another; EPSG:4326 and OGC:CRS84 differ only in their axes.

    UsageError if there is no transformation.
    """
    if source is None or target is None or source == target:
        return False
    return not _transformer(source, target).definition.startswith("proj=noop")


def _reprojected_tables(
    tables: Iterable[FeatureTable], reproject: _Reproject, crs: CRS, *, parts: bool
) -> Iterator[FeatureTable]:
    for table in tables:
        pixels = table.polygons.area_px.sum()
        pixel_m = math.sqrt(table.area.sum() / pixels) if pixels else 1.0
        polygons = reproject(table.polygons, pixel_m)
        if not parts and np.any(np.diff(polygons.features) != 1):
            raise SceneError(
                f"a polygon of the raster has several parts in {_crs_text(crs)}; add `dissolve=True`, or choose "
                "another `crs`",
                "crs",
            )
        yield replace(table, polygons=polygons)


def reprojection(source: CRS, target: CRS) -> _Reproject:
    """Return a function that reprojects polygons, given the size of a pixel in meters.

    Sides that would bend by more than a fraction of a pixel get extra vertices. In longitude and latitude, polygons are
    cut at the 180th meridian, and opened along a pole that they contain.

    x is east (or longitude), y is north (or latitude) in both, regardless of the official axis order. Rings keep their
    orientation: outer ones run counter-clockwise. UsageError if there is no transformation; the function raises
    SceneError for a vertex outside the area that the target can show, and for a side that it tears apart.
    """
    transformer = _transformer(source, target)
    degrees = target.is_geographic and math.isclose(target.units_factor[1], math.radians(1))
    unit_m = _RADIUS_M * float(target.units_factor[1]) if target.is_geographic else float(target.units_factor[1])
    turn = period_of(source) if source.is_geographic else 0.0

    def forward(xy: Points) -> Points:
        target_xy = np.column_stack(transformer.transform(xy[:, 0], xy[:, 1]))
        if degrees:  # between two such CRSs longitudes may exceed 180
            target_xy[:, 0] -= 360 * np.sign(target_xy[:, 0]) * (np.abs(target_xy[:, 0]) > 180)
        return target_xy

    def backward(xy: Points) -> Points:
        return np.column_stack(transformer.transform(xy[:, 0], xy[:, 1], direction="INVERSE"))

    def reproject(polygons: Polygons, pixel_m: float = 1.0) -> Polygons:
        if not len(polygons):
            return polygons
        polygons = polygons.take(np.arange(len(polygons))) if polygons.features[0] else polygons
        result, torn = densified(polygons, forward, _MAX_BEND_PX * pixel_m / unit_m, degrees=degrees)
        if not np.isfinite(result.xy).all():
            x, y = _lost_point(polygons, forward)
            raise SceneError(
                f"the point {x:g}, {y:g} of the raster cannot be transformed to {_crs_text(target)}; choose another "
                "`crs`, or crop the raster to the area of that CRS",
                "crs",
            )
        if len(torn):
            x, y = torn[0]
            raise SceneError(
                f"{_crs_text(target)} tears a polygon apart at the point {x:g}, {y:g} of the raster; choose another "
                "`crs`, or split the raster there",
                "crs",
            )
        if not degrees:
            return _oriented(result)
        _check_round_trip(polygons, forward, backward, target)
        return _merged_ends(cut_at_antimeridian(result, polygons, backward, turn), polygons, turn)

    return reproject


def may_be_cut(geobox: GeoBox, target: CRS | None) -> bool:
    """Return whether a raster's polygons may have several parts in another CRS: near the 180th meridian or a pole."""
    if target is None or geobox.crs is None or not target.is_geographic or target == geobox.crs:
        return False
    cols, rows = (np.linspace(0, length, _SAMPLES) for length in (geobox.width_px, geobox.height_px))
    cols, rows = np.meshgrid(cols, rows)
    lon, lat = _transformer(geobox.crs, target).transform(*apply_transform(geobox.transform, cols, rows))
    with np.errstate(invalid="ignore"):  # two points beyond the world
        leaps = [np.nanmax(np.abs(np.diff(lon, axis=axis)), initial=0) for axis in (0, 1)]
    return bool(max(leaps) > 180 or not np.all(np.abs(lat) < _POLAR_LATITUDE))


def _lost_point(polygons: Polygons, forward: Move) -> NDArray[np.float64]:
    """Return a vertex, or the middle of a side, that cannot be transformed to the target."""
    middles = (polygons.xy[:-1] + polygons.xy[1:]) / 2
    points = np.concatenate([polygons.xy, middles])
    return np.asarray(points[(~np.isfinite(forward(points)).all(axis=1)).argmax()])


def _check_round_trip(polygons: Polygons, forward: Move, backward: Move, target: CRS) -> None:
    """Refuse vertices beyond the edge of the world in projections such as sinusoidal: they get a wrong place.

    Longitudes may come back whole turns away.
    """
    target_xy = forward(polygons.xy)
    far = np.flatnonzero((np.abs(target_xy[:, 0]) > _FAR_EAST) & (np.abs(target_xy[:, 1]) < _NEAR_POLE))
    if not len(far):
        return
    errors = backward(target_xy[far]) - polygons.xy[far]
    size = np.ptp(polygons.xy, axis=0).max()
    wrong = ~(np.hypot(*errors.T) <= max(1e-6 * size, 1e-9 * np.abs(polygons.xy).max()))
    turns = errors[wrong] / 360
    if not np.allclose(turns, np.rint(turns), rtol=0, atol=1e-9):
        x, y = polygons.xy[far[wrong]][0]
        raise SceneError(
            f"the point {x:g}, {y:g} of the raster lies beyond the edge of the world in its own CRS, and "
            f"cannot be transformed to {_crs_text(target)}; crop the raster to the world",
            "crs",
        )


def _transformer(source: CRS, target: CRS) -> Any:
    import pyproj  # noqa: PLC0415 - a run that stays in the raster's CRS starts faster

    try:
        return pyproj.Transformer.from_crs(to_pyproj(source), to_pyproj(target), always_xy=True)
    except pyproj.exceptions.ProjError as error:
        raise UsageError(
            f"there is no transformation from {_crs_text(source)} to {_crs_text(target)} ({one_line(error, None)}); "
            "choose another `crs`, or a format other than GeoJSON, which is in WGS 84",
            "crs",
        ) from error


def to_pyproj(crs: CRS) -> Any:
    """Convert a rasterio CRS to a pyproj CRS. WKT 2 loses least."""
    import pyproj  # noqa: PLC0415 - see above

    return pyproj.CRS.from_wkt(wkt(crs))


def wkt(crs: CRS) -> str:
    """Return a CRS as text that any reader of WKT 2 understands."""
    return str(crs.to_wkt(version="WKT2_2019"))


def _crs_text(crs: CRS) -> str:
    code = crs.to_authority()
    return ":".join(code) if code else str(crs.to_string())[:80]


def _oriented(polygons: Polygons) -> Polygons:
    """Reverse rings whose orientation a mirroring CRS has flipped (say, one with axes to the south and east)."""
    outer = np.zeros(len(polygons.rings) - 1, np.bool_)
    outer[polygons.polygons[:-1]] = True
    wrong = np.flatnonzero((_doubled_areas(polygons) > 0) != outer)
    if not len(wrong):
        return polygons
    xy = polygons.xy.copy()
    for ring in wrong:
        vertices = slice(polygons.rings[ring], polygons.rings[ring + 1])
        xy[vertices] = polygons.xy[vertices][::-1]
    return replace(polygons, xy=xy)


def _doubled_areas(polygons: Polygons) -> NDArray[np.float64]:
    """Return (ring,) twice the signed area, relative to each first vertex: far from the origin it loses precision."""
    starts = polygons.rings[:-1]
    if not len(starts):
        return np.empty(0)
    x, y = (polygons.xy - np.repeat(polygons.xy[starts], np.diff(polygons.rings), axis=0)).T
    cross = np.zeros(len(x))
    cross[:-1] = x[:-1] * y[1:] - x[1:] * y[:-1]
    # From one ring's last vertex to the next ring's first, which is (0, 0), the product is 0.
    return np.add.reduceat(cross, starts)
