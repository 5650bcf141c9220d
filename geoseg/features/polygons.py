"""The polygons of features: unpacked from collections, and reprojected without being torn."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.warp import transform

from geoseg.errors import SceneError, numbered
from geoseg.features.features import reprojected
from geoseg.raster import GDAL_ERRORS, GeoBox, apply_transform, period_of

_NAMES = {0: "point", 1: "line", 2: "line", 4: "point", 5: "line", 7: "empty or null geometry"}
"""Names in messages of shapely's types other than polygons; a collection without parts is empty."""
_COLLECTION, _POLYGONS = 7, (3, 6)
_RING_POINTS = 4
"""Fewest points of a ring around an area; the last is the first."""
_EDGE_POINTS = 21
_MARGIN = 0.25
"""Polygons in another CRS are cut around a grid with this margin, as a share of the grid's extent."""
_BENT_PX = 0.01
"""How far a side may deviate from the straight line in its own CRS."""
_EARTH_M, _FARTHEST = 2e7, 10
"""Half the way around the Earth, and how many times as far from the origin a plane shows anything but distortion."""
_MOST_STEPS, _BELT_STEPS = 1024, 256
"""Maximum pieces of a side as long as a grid's extent; for a belt, of one as long as half of the Earth."""
_LATTICE_POINTS = 65
_INTERRUPTED = {
    "igh": ((-40,), (-100, -20, 80)),
    "igh_o": ((-90, 60), (-60, 90)),
    "imoll": ((-40,), (-100, -20, 80)),
    "imoll_o": ((-90, 60), (-60, 90)),
}
"""Meridians, from the central one, along which interrupted projections are cut north and south of the equator; by
PROJ's names (https://proj.org/operations/projections/igh.html)."""
_DISKS = {"aeqd": 0.6, "laea": 1e-3}
"""Projections that show the whole Earth in a disk whose rim is the point opposite its center, with the radius in
degrees of a hole around that point: inside it the geodesics of an ellipsoid are ambiguous."""
_HAIR, _RIM_POINTS = 1e-7, 1024
"""Half the width of a cut in degrees (a centimeter), and the number of vertices of such a hole."""

_Points = NDArray[np.float64]
"""(point, 2) x and y."""


def turns_of(crs_wkt: str | None) -> tuple[float, ...]:
    """Return the shifts of x that lead to the same places: 180.1 is -179.9."""
    period = period_of(None if crs_wkt is None else CRS.from_wkt(crs_wkt))
    return (0.0, period, -period) if period else (0.0,)


def unpacked_polygons(geometries: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.intp], Counter[str]]:
    """Return the polygons, also from nested collections; the feature each belongs to; and a count of other types."""
    shapes, owners = np.asarray(geometries, object), np.arange(len(geometries))
    while (packed := (shapely.get_type_id(shapes) == _COLLECTION) & ~shapely.is_empty(shapes)).any():
        parts, part_owners = shapely.get_parts(shapes[packed], return_index=True)
        # A part keeps the place of its collection: where polygons overlap, the last one counts.
        shapes = np.concatenate([shapes[~packed], parts])
        owners = np.concatenate([owners[~packed], owners[packed][part_owners]])
        order = np.argsort(owners, kind="stable")
        shapes, owners = shapes[order], owners[order]
    types = shapely.get_type_id(shapes)
    is_polygon = np.isin(types, _POLYGONS)
    polygons = _with_area(shapes[is_polygon])
    nothing = shapely.is_missing(shapes) | shapely.is_empty(shapes)
    nothing[is_polygon] = shapely.is_empty(polygons)
    is_area = is_polygon & ~nothing
    others: Counter[str] = Counter()
    for kind, is_nothing in zip(types[~is_area].tolist(), nothing[~is_area].tolist(), strict=True):
        others[_NAMES[_COLLECTION] if is_nothing else _NAMES.get(kind, "surface of another kind")] += 1
    return polygons[~nothing[is_polygon]], owners[is_area], others


def _with_area(polygons: NDArray[Any]) -> NDArray[Any]:
    """Return polygons without empty parts and rings of fewer than four points, for which GDAL skips a polygon."""
    parts, part_of = shapely.get_parts(polygons, return_index=True)
    is_odd = shapely.get_num_coordinates(parts) < _RING_POINTS
    with_holes = np.flatnonzero(shapely.get_num_interior_rings(parts))
    rings, ring_of = shapely.get_rings(parts[with_holes], return_index=True)  # a copy, so not of all
    is_odd[with_holes[ring_of[shapely.get_num_coordinates(rings) < _RING_POINTS]]] = True
    for odd in np.unique(part_of[is_odd]):
        kept = [
            shapely.Polygon(part.exterior, [hole for hole in part.interiors if len(hole.coords) >= _RING_POINTS])
            for part in shapely.get_parts(polygons[odd])
            if len(part.exterior.coords) >= _RING_POINTS
        ]
        polygons[odd] = shapely.MultiPolygon(kept)
    return polygons


def counted(others: Counter[str]) -> str:
    """List the other types with their counts."""
    return ", ".join(numbered(count, what) for what, count in sorted(others.items()))


def shifted(shape: Any, x: float) -> Any:  # noqa: ANN401 - any of shapely's
    """Return a geometry moved along x."""
    return shapely.transform(shape, lambda xy: xy + np.array([x, 0.0])) if x else shape


def untorn(polygons: NDArray[Any], source_wkt: str, target_wkt: str, name: str) -> NDArray[Any]:
    """Reproject polygons, and make those whole whose sides jump to the other end of the world.

    A polygon across the 180th meridian then extends beyond 180. One around a pole is opened toward it. SceneError as in
    `reprojected`.
    """
    moved = reprojected(polygons, source_wkt, target_wkt, name)
    period = period_of(CRS.from_wkt(target_wkt))
    if not period or not len(moved):
        return moved
    bounds = shapely.bounds(moved)
    wide = np.flatnonzero(bounds[:, 2] - bounds[:, 0] > period / 2)
    if not len(wide):
        return moved
    from pyproj import Transformer  # noqa: PLC0415 - takes a tenth of a second, and most runs do not need it

    transformer = Transformer.from_crs(source_wkt, target_wkt, always_xy=True)

    def forward(xy: _Points) -> _Points:
        return np.column_stack(transformer.transform(xy[:, 0], xy[:, 1]))

    whole = moved.copy()
    for index in wide:
        whole[index] = shapely.multipolygons(list(_untorn_parts(polygons[index], moved[index], forward, period)))
    return whole


def _untorn_parts(polygon: Any, moved: Any, forward: Callable[[_Points], _Points], period: float) -> Iterator[Any]:  # noqa: ANN401 - shapely's
    for part, moved_part in zip(shapely.get_parts(polygon), shapely.get_parts(moved), strict=True):
        rings = zip(shapely.get_rings(part), shapely.get_rings(moved_part), strict=True)
        shell, *holes = (
            _untorn_ring(shapely.get_coordinates(before), shapely.get_coordinates(after), forward, period)
            for before, after in rings
        )
        if shapely.get_num_coordinates(part) < sum(map(len, (shell, *holes))):
            yield from _opened_at_pole(shell, holes, period)
            continue
        middle = np.mean([shell[:, 0].min(), shell[:, 0].max()])
        for hole in holes:
            hole[:, 0] -= period * np.round((hole[:, 0].mean() - middle) / period)
        yield shapely.Polygon(shell, holes)


def _opened_at_pole(shell: _Points, holes: list[_Points], period: float) -> Iterator[Any]:
    """Yield the parts of a polygon around a pole; its rings may have been opened at different longitudes."""
    copies = [shapely.Polygon(hole + np.array([turn, 0.0])) for hole in holes for turn in (-period, 0.0, period)]
    holes_area = shapely.union_all(shapely.make_valid(copies))
    whole = shapely.difference(shapely.make_valid(shapely.Polygon(shell)), holes_area)
    yield from (part for part in shapely.get_parts(whole) if part.geom_type == "Polygon")


def _untorn_ring(before: _Points, after: _Points, forward: Callable[[_Points], _Points], period: float) -> _Points:
    """Return a ring without jumps. A side jumps if its middle is not near the middle of its ends."""
    x = after[:, 0]
    jumps = np.flatnonzero(np.abs(np.diff(x)) > period / 2)
    if not len(jumps):
        return after
    middles = forward((before[jumps] + before[jumps + 1]) / 2)[:, 0]
    deviations = np.abs((middles - (x[jumps] + x[jumps + 1]) / 2 + period / 2) % period - period / 2)
    turns = np.zeros(len(x))
    turns[jumps + 1] = np.where(deviations > period / 4, -np.sign(x[jumps + 1] - x[jumps]), 0.0)
    shift = np.cumsum(turns) * period
    ring = np.column_stack([x + shift, after[:, 1]])
    if shift[-1]:
        ring[:, 0] -= period * np.round((ring[0, 0] + ring[-1, 0]) / 2 / period)  # so that `turns_of` lead everywhere
        beyond = np.copysign(period, after[:, 1].mean())  # farther than any pole
        ring = np.vstack([ring, [(ring[-1, 0], beyond), (ring[0, 0], beyond), ring[0]]])
    return ring


def frame_in(grid: GeoBox, crs_wkt: str | None) -> shapely.Polygon | None:
    """Return the outline of a grid in a CRS; None if it has none in it."""
    steps = np.linspace(0, 1, _EDGE_POINTS)[:-1]
    zeros, ones = np.zeros_like(steps), np.ones_like(steps)
    cols = np.concatenate([steps, ones, 1 - steps, zeros]) * grid.width_px
    rows = np.concatenate([zeros, steps, ones, 1 - steps]) * grid.height_px
    frame = shapely.Polygon([grid.transform @ corner for corner in zip(cols.tolist(), rows.tolist(), strict=True)])
    try:
        grid_wkt = None if grid.crs is None else grid.crs.to_wkt()
        moved = reprojected(np.array([frame], object), grid_wkt, crs_wkt, "the scene")[0]
    except SceneError:
        return None
    spans_world = crs_wkt is not None and CRS.from_wkt(crs_wkt).is_geographic and np.ptp(moved.bounds[::2]) > 180
    return None if spans_world or not moved.is_valid else moved


@dataclass(frozen=True, slots=True)
class Reach:
    """The surroundings of a grid in another CRS."""

    box: shapely.Polygon
    longest: float
    """Maximum length of polygon sides in it: lines that are straight in one CRS are not in the other."""
    is_belt: bool = False
    """Whether it spans all longitudes, as around a pole, or a whole plane, and for world maps with empty corners."""
    cuts: Any = None
    """A hair-thin polygon where neighbors on Earth are far apart on the grid; None if the box has no such place."""


def reach_of(grid: GeoBox, crs_wkt: str) -> Reach | None:
    """Return the surroundings of a grid in another CRS; None if they cannot be determined."""
    frame = frame_in(grid, crs_wkt)
    if frame is None or (
        CRS.from_wkt(crs_wkt).is_projected and max(map(abs, frame.bounds)) > _FARTHEST * _half_turn(crs_wkt)
    ):
        return _belt(grid, crs_wkt)
    west, south, east, north = frame.bounds
    side = max(east - west, north - south)
    margin = _MARGIN * side
    box = shapely.box(west - margin, south - margin, east + margin, north + margin)
    steps = math.sqrt(_bend_px(grid, crs_wkt, box) / _BENT_PX)  # a side half as long bends a quarter as much
    longest = (side + 2 * margin) / min(max(steps, 1.0), _MOST_STEPS)
    return Reach(box, longest, cuts=_cuts(grid, crs_wkt, box))


def _cuts(grid: GeoBox, crs_wkt: str, box: shapely.Polygon) -> Any | None:  # noqa: ANN401 - shapely's
    """Return where the projection of a grid is cut, within a box in geographic coordinates: see `Reach.cuts`.

    Every world map is cut opposite its central meridian, an interrupted one also between its lobes; the rim of a disk
    is a single point.
    """
    if grid.crs is None or grid.crs.is_geographic or not CRS.from_wkt(crs_wkt).is_geographic:
        return None
    projection = grid.crs.to_dict()
    kind, turns = projection.get("proj", ""), turns_of(crs_wkt)
    if kind not in _INTERRUPTED and "lon_0" not in projection:
        return None
    unit, center = abs(turns[-1]) / 360, float(projection.get("lon_0", 0))
    north, south = _INTERRUPTED.get(kind, ((), ()))
    lines = [(180, -90, 90), *((lon, 0, 90) for lon in north), *((lon, -90, 0) for lon in south)]
    hairs = [
        shapely.box(unit * (lon + center - _HAIR), unit * low, unit * (lon + center + _HAIR), unit * high)
        for lon, low, high in lines
    ]
    if kind in _DISKS:
        opposite = shapely.Point(unit * (center + 180), -unit * float(projection.get("lat_0", 0)))
        hairs.append(opposite.buffer(unit * _DISKS[kind], quad_segs=_RIM_POINTS // 4))
    hairs_everywhere = shapely.union_all([shifted(hair, turn) for hair in hairs for turn in turns])
    cuts = shapely.intersection(hairs_everywhere, box)
    return None if shapely.is_empty(cuts) else cuts


def _bend_px(grid: GeoBox, crs_wkt: str, box: shapely.Polygon) -> float:
    """Return how far, at most, the middle of a line across a box is from the middle of its ends, in grid pixels."""
    west, south, east, north = box.bounds
    at, ends = np.linspace(0, 1, 5), np.array([0.0, 0.5, 1.0])
    along, across = (axis.ravel() for axis in np.meshgrid(ends, at))
    u = np.concatenate([along, across, ends, ends])
    v = np.concatenate([across, along, ends, ends[::-1]])
    try:
        moved = transform(crs_wkt, grid.crs, west + u * (east - west), south + v * (north - south))
    except GDAL_ERRORS:
        return math.inf
    places = np.array(apply_transform(~grid.transform, *map(np.array, moved))).reshape(2, -1, 3)
    off = np.hypot(*(places[..., 1] - (places[..., 0] + places[..., 2]) / 2))
    return float(off.max()) if np.isfinite(off).all() else math.inf


def _half_turn(crs_wkt: str) -> float:
    """Return half the way around the Earth in units of a projection."""
    crs = CRS.from_wkt(crs_wkt)
    return period_of(crs) / 2 or _EARTH_M / float(crs.linear_units_factor[1])


def _belt(grid: GeoBox, crs_wkt: str) -> Reach | None:
    """Return the belt of a grid without an outline in a CRS, such as one of the world; of a projection the plane."""
    crs = CRS.from_wkt(crs_wkt)
    if grid.crs is None or not (crs.is_geographic or crs.is_projected):
        return None
    half = _half_turn(crs_wkt)
    if crs.is_projected:
        far = _FARTHEST * half
        x = half if period_of(crs) else far
        return Reach(shapely.box(-x, -far, x, far), half / _MOST_STEPS, is_belt=True)
    steps = np.linspace(0, 1, _LATTICE_POINTS)
    cols, rows = (axis.ravel() for axis in np.meshgrid(steps * grid.width_px, steps * grid.height_px))
    try:
        _, lat = transform(grid.crs, crs_wkt, *apply_transform(grid.transform, cols, rows))
    except GDAL_ERRORS:  # corners outside the world: the extent in latitude is unknown
        lat = [-np.inf, np.inf]
    latitudes = np.array(lat)[np.isfinite(lat)]
    if not len(latitudes):
        latitudes = np.array([-90.0, 90.0])
    margin = np.ptp(latitudes) / 8 + half / 180  # more than the spacing of the lattice
    south, north = max(latitudes.min() - margin, -half / 2), min(latitudes.max() + margin, half / 2)
    box = shapely.box(-half, south, half, north)
    return Reach(box, half / _BELT_STEPS, is_belt=True, cuts=_cuts(grid, crs_wkt, box))


def cut_around(polygons: NDArray[Any], reach: Reach, turns: tuple[float, ...]) -> tuple[NDArray[Any], NDArray[np.intp]]:
    """Return the parts of polygons around a grid, or 360 degrees away, with short edges; and the polygon of each."""
    valid = polygons.copy()
    invalid = ~shapely.is_valid(polygons)
    valid[invalid] = shapely.make_valid(polygons[invalid])
    around = reach.box if reach.cuts is None else shapely.difference(reach.box, reach.cuts)
    cut = [unpacked_polygons(shapely.intersection(valid, shifted(around, turn)))[:2] for turn in turns]
    shapes, owners = (np.concatenate(arrays) for arrays in zip(*cut, strict=True))
    order = np.argsort(owners, kind="stable")  # where polygons overlap, the last one counts
    return shapely.segmentize(shapes[order], reach.longest), owners[order]


def is_bent(polygons: NDArray[Any], reach: Reach, crs_wkt: str) -> NDArray[np.bool_]:
    """Return which polygons are misplaced in the CRS of a grid if only the ends of their sides are moved.

    They span a quarter of the Earth, lie on both sides of a cut, or have a side near the grid that would bend. Polygons
    torn at the 180th meridian are moved by their ends anyway.
    """
    bounds, (west, south, east, north) = shapely.bounds(polygons), reach.box.bounds
    period = period_of(CRS.from_wkt(crs_wkt))
    bent: NDArray[np.bool_] = bounds[:, 2] - bounds[:, 0] > (period / 4 if period else np.inf)
    if reach.cuts is not None:
        bent |= shapely.intersects(polygons, reach.cuts)
    for turn in turns_of(crs_wkt):
        is_outside = (bounds[:, :2] > (east + turn, north)) | (bounds[:, 2:] < (west + turn, south))
        near = np.flatnonzero(~is_outside.any(axis=1) & ~bent)
        bent[near[_has_long_side(polygons[near], reach.longest)]] = True
    if period:
        bent[bent] = [not _is_torn(polygon, period) for polygon in polygons[bent]]
    return bent


def _has_long_side(polygons: NDArray[Any], longest: float) -> NDArray[np.bool_]:
    """Return which polygons have a side longer than `longest`."""
    parts, owners = shapely.get_parts(polygons, return_index=True)
    rings, part_of = shapely.get_rings(parts, return_index=True)
    xy, ring_of = shapely.get_coordinates(rings, return_index=True)
    is_side = ring_of[1:] == ring_of[:-1]
    longer = np.flatnonzero(is_side & (np.hypot(*np.diff(xy, axis=0).T) > longest))
    has_long = np.zeros(len(polygons), np.bool_)
    has_long[owners[part_of[ring_of[longer]]]] = True
    return has_long


def _is_torn(polygon: Any, period: float) -> bool:  # noqa: ANN401 - shapely's
    """Return whether a side jumps to the other end of the world without spanning all of it."""
    rings = shapely.get_rings(shapely.get_parts(polygon))
    steps = [np.abs(np.diff(shapely.get_coordinates(ring)[:, 0])) for ring in rings]
    return any(((step > 3 / 4 * period) & (step < period)).any() for step in steps)
