"""The plane of a page's tiles, Web Mercator or the map's own pixels, and the map's coordinates on it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.errors import RasterioError
from rasterio.vrt import WarpedVRT
from rasterio.warp import transform

from geoseg.raster import GDAL_ERRORS, GeoBox, Scene, apply_transform, opened

TILE_PX = 512
SIDE_PX = TILE_PX + 1
"""Side of a tile's picture: it repeats the first row and column of the next tiles, so that no gaps show."""
_HALF_WORLD = 20_037_508.342789244
"""Web Mercator's x at 180 degrees east, in its meters."""
_HIGHEST_LAT = 85.05
_SHOWN = 0.5
"""Web Mercator shows this share of a map in degrees, or is not used."""
_DEEPEST_ZOOM = 26
_MERCATOR, _WGS84 = CRS.from_epsg(3857), CRS.from_epsg(4326)
_ENLARGED = 0.3
"""The last level may be coarser than the map's pixels by up to this fraction of a doubling."""
_EACH_SEEN = 0.15
"""A level must be this much finer to contain every pixel of the map, even if north is slightly tilted."""

Bounds = tuple[float, float, float, float]
Tile = tuple[int, int, int]
"""(zoom, column, row)."""
_DEGREES = (1, 3, 5, 7, 9)
_NODES = 24
_ACCURATE_PX = 0.01
"""A polynomial with errors below this fraction of a map pixel is good enough."""
_USABLE_PX = 0.6
Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Frame:
    """Square tiles by zoom, numbered as in Leaflet: on Earth, or on the plane (col, -row) of the map's pixels."""

    is_earth: bool
    bounds: Bounds
    """The map's left, bottom, right and top."""
    native_zoom: int
    """The zoom whose pixels are about as large as the map's."""
    first_zoom: int
    """The deepest zoom at which the map is no longer than one tile's side."""
    exact_zoom: int
    """The zoom at which no pixel of the map is skipped: the native one, or the next."""
    crs: CRS = _MERCATOR
    """The CRS of the tiles; on the plane, only a dummy for the warper."""

    @classmethod
    def of(cls, landcover: Scene) -> Self:
        """Return Web Mercator if the map can be shown in it, else the plane of its pixels."""
        gsd_m, bounds = landcover.geobox.gsd_m, _mercator_bounds(landcover)
        if bounds is None or gsd_m is None:
            rows, cols = landcover.shape
            return cls._with(is_earth=False, bounds=(0.0, -float(rows), float(cols), 0.0), native_px=1.0)
        lat = math.atan(math.sinh((bounds[1] + bounds[3]) / 2 / _HALF_WORLD * math.pi))
        return cls._with(is_earth=True, bounds=bounds, native_px=gsd_m / math.cos(lat))

    @classmethod
    def _with(cls, *, is_earth: bool, bounds: Bounds, native_px: float) -> Self:
        coarsest = _unit_at_zero(is_earth=is_earth)
        longest = max(bounds[2] - bounds[0], bounds[3] - bounds[1])
        first = min(_DEEPEST_ZOOM, math.floor(math.log2(coarsest * TILE_PX / longest)))
        doublings, finer = math.log2(coarsest / native_px), _EACH_SEEN if is_earth else 0.0
        native, exact = (
            max(first, min(_DEEPEST_ZOOM, math.ceil(doublings + offset)))  # a small map is enlarged
            for offset in (-_ENLARGED, finer)
        )
        return cls(is_earth, bounds, native, first, exact)

    def unit_per_px(self, zoom: int) -> float:
        """Return the side of a tile's pixel."""
        return _unit_at_zero(is_earth=self.is_earth) / 2.0**zoom

    def tiles(self, zoom: int) -> list[Tile]:
        """Return the tiles that the map touches, row by row."""
        left, bottom, right, top = self.bounds
        side, (x, y) = self.unit_per_px(zoom) * TILE_PX, self._origin
        rim = 1e-9  # a map that ends on a tile's border does not touch the next tile
        cols = range(math.floor((left - x) / side + rim), math.ceil((right - x) / side - rim))
        rows = range(math.floor((y - top) / side + rim), math.ceil((y - bottom) / side - rim))
        return [(zoom, col, row) for row in rows for col in cols]

    def transform(self, tile: Tile) -> Affine:
        """Return the transform from pixel (col, row) of a tile to this frame's (x, y)."""
        zoom, col, row = tile
        unit, (x, y) = self.unit_per_px(zoom), self._origin
        return Affine(unit, 0, x + col * TILE_PX * unit, 0, -unit, y - row * TILE_PX * unit)

    @property
    def _origin(self) -> tuple[float, float]:
        return (-_HALF_WORLD, _HALF_WORLD) if self.is_earth else (0.0, 0.0)


def _unit_at_zero(*, is_earth: bool) -> float:
    """Return the side of a pixel at zoom 0: Leaflet's world is 256 pixels wide, its plane has one unit per pixel."""
    return 2 * _HALF_WORLD / 256 if is_earth else 1.0


def _mercator_bounds(landcover: Scene) -> Bounds | None:
    """Return a map's bounds in Web Mercator; None without a place, near a pole, across the antimeridian, off Earth."""
    box = landcover.geobox
    if not box.has_place:
        return None
    if box.crs is not None and box.crs.is_geographic and not (box.transform.b or box.transform.d):
        return _of_degrees(box)
    src_crs = box.gcp_crs if box.gcps and not (box.crs is not None and box.has_grid) else None
    with opened(landcover.path) as dataset:
        try:
            with WarpedVRT(dataset, crs=_MERCATOR, src_crs=src_crs) as warped:
                left, bottom, right, top = map(float, warped.bounds)
            _, lats = transform(_MERCATOR, _WGS84, [0.0, 0.0], [bottom, top])
        except GDAL_ERRORS:  # another planet, a local CRS, pixels without a size: no transform exists
            return None
    bounds = left, bottom, right, top
    is_inside = max(abs(side) for side in bounds) <= _HALF_WORLD and max(map(abs, lats)) <= _HIGHEST_LAT
    return bounds if is_inside and not _is_split(landcover, bounds) else None


def _is_split(landcover: Scene, bounds: Bounds) -> bool:
    """Return whether a map is split between both ends of the world, and so far wider than its pixels add up to."""
    across_m = (landcover.geobox.gsd_m or 0.0) * math.hypot(*landcover.shape)
    middle = math.atan(math.sinh((bounds[1] + bounds[3]) / 2 / _HALF_WORLD * math.pi))
    return (bounds[2] - bounds[0]) > _HALF_WORLD and (bounds[2] - bounds[0]) * math.cos(middle) > 2 * across_m


def _of_degrees(box: GeoBox) -> Bounds | None:
    """Return the bounds of a north-up raster in degrees, clipped to Web Mercator's latitudes; None if most is lost."""
    corners = [box.transform @ (col, row) for col, row in ((0, 0), (box.width_px, box.height_px))]
    (west, east), (south, north) = (sorted(side) for side in zip(*corners, strict=True))
    shown_deg = min(north, _HIGHEST_LAT) - max(south, -_HIGHEST_LAT)
    rim = 1e-6
    if west < -180 - rim or east > 180 + rim or shown_deg < _SHOWN * (north - south):
        return None
    south, north = max(south, -_HIGHEST_LAT), min(north, _HIGHEST_LAT)
    try:
        xs, ys = transform(box.crs, _MERCATOR, [max(west, -180), min(east, 180)], [south, north])
    except GDAL_ERRORS:
        return None
    bounds = (min(xs), min(ys), max(xs), max(ys))
    return bounds if all(map(math.isfinite, bounds)) else None


def is_cut(frame: Frame, box: GeoBox) -> bool:
    """Return whether Web Mercator lacks latitudes of a map, which only a map in degrees may have."""
    _, south, _, north = box.bounds
    in_degrees = frame.is_earth and box.crs is not None and box.crs.is_geographic
    return in_degrees and max(-south, north) > _HIGHEST_LAT


def polynomial(frame: Frame, box: GeoBox) -> dict[str, object] | None:
    """Fit a polynomial to the map's coordinates; None if it has no CRS, or no polynomial is good enough.

    It gives x and y of the map for (u, v), -1 to 1 over the bounds: terms u^i v^j with i + j up to a degree, i first.
    """
    crs = box.crs if box.has_grid else None
    if crs is None:
        return None
    pixel = math.sqrt(abs(box.transform.determinant))
    nodes = np.cos((np.arange(_NODES) + 0.5) * np.pi / _NODES)  # Chebyshev nodes
    check_nodes = np.linspace(-0.99, 0.99, 17)
    try:
        targets, check_targets = (_map_xy(frame, box, crs, axis) for axis in (nodes, check_nodes))
    except GDAL_ERRORS:
        return None
    middle = targets.mean(axis=1, keepdims=True)
    error, terms, degree = math.inf, middle, 0
    for degree in _DEGREES:
        terms, *_ = np.linalg.lstsq(_terms(nodes, degree), (targets - middle).T, rcond=None)
        terms[0] += middle[:, 0]
        error = float(np.abs(_terms(check_nodes, degree) @ terms - check_targets.T).max())
        if error <= _ACCURATE_PX * pixel:
            break
    if not error <= _USABLE_PX * pixel:
        return None
    decimals = max(0, min(9, 1 - math.floor(math.log10(pixel) + 1e-9)))
    label = ":".join(crs.to_authority() or ("map",))
    x, y = terms.T.tolist()
    return {"label": label, "degree": degree, "x": x, "y": y, "decimals": decimals}


def _terms(axis: Values, degree: int) -> Values:
    u, v = (grid.ravel() for grid in np.meshgrid(axis, axis))
    return np.stack([u**i * v**j for i in range(degree + 1) for j in range(degree + 1 - i)], axis=1)


def _map_xy(frame: Frame, box: GeoBox, crs: CRS, axis: Values) -> Values:
    """Return the map's x and y, (2, node), at the nodes of a square grid with this axis on both sides."""
    (left, right), (bottom, top) = frame.bounds[::2], frame.bounds[1::2]
    u, v = (grid.ravel() for grid in np.meshgrid(axis, axis))
    x, y = left + (u + 1) / 2 * (right - left), bottom + (v + 1) / 2 * (top - bottom)
    # y of the plane is minus the row
    map_xy = np.array(transform(frame.crs, crs, x, y)[:2] if frame.is_earth else apply_transform(box.transform, x, -y))
    if not np.isfinite(map_xy).all():
        raise RasterioError("no coordinates there")
    return map_xy
