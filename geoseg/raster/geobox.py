"""Where pixels are on Earth: shape and affine transform with CRS, ground control points or an RPC model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Self

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio import control
from rasterio._err import CPLE_NotSupportedError
from rasterio.crs import CRS
from rasterio.rpc import RPC
from rasterio.transform import from_gcps
from rasterio.warp import transform as transform_points

from geoseg.errors import SceneError, UsageError, numbered
from geoseg.raster.environment import GDAL_ERRORS, raster_environment
from geoseg.raster.windows import Window
from geoseg.typed import checked

if TYPE_CHECKING:
    import odc.geo.geobox
    from shapely import Polygon

_WGS84 = CRS.from_epsg(4326)
_DISTORTION = 1.02
"""UTM stretches by less than 0.1 %. Above this factor, of the area or of a side (Web Mercator, an equal-area cylinder),
the ground is measured instead of the map."""
_EQUATOR_M = 6_378_137.0
_ECCENTRICITY_2 = (2 - 1 / 298.257223563) / 298.257223563
_ROUNDING = 1e-11
"""Radians by which a computed latitude may exceed a pole's."""
_ON_A_LINE = 1e-9
"""Points are collinear, up to rounding, if their spread across the line is at most this share of that along it."""
_WAY_OUT = (
    "give it 3 or more that span an area (rasterio's dataset.gcps), or its corner and pixel size "
    "(rio edit-info --crs --transform)"
)


Floats = NDArray[np.float64]
_Sides = tuple[float, float, float]
"""The root of a pixel's area, its height and its width, in meters."""


@dataclass(frozen=True, slots=True)
@checked
class GroundControlPoint:
    """A pixel position (fractions allowed) and its place; rasterio's class compares by a random id."""

    row: float
    col: float
    x: float
    y: float
    z: float | None = None

    def to_rasterio(self) -> control.GroundControlPoint:
        """Return rasterio's GroundControlPoint."""
        return control.GroundControlPoint(self.row, self.col, self.x, self.y, self.z)


@dataclass(frozen=True, slots=True)
@checked
class GeoBox:
    """Shape and place of a raster in one value. `geobox[window]` is the place of one of its windows.

    Raises
    ------
    SceneError
        If the raster has no pixels.

    Examples
    --------
    >>> geoseg.GeoBox(1000, 2000, Affine(10, 0, 4e5, 0, -10, 5.4e6), CRS.from_epsg(32632)).bounds
    (400000.0, 5390000.0, 420000.0, 5400000.0)
    """

    height_px: int
    width_px: int
    transform: Affine
    """Pixel (col, row) to CRS (x, y); the identity if there is none."""
    crs: CRS | None = None
    gcps: tuple[GroundControlPoint, ...] = ()
    """Ground control points; they give the place if transform and CRS do not."""
    gcp_crs: CRS | None = None
    rpcs: RPC | None = field(default=None, hash=False)
    """A rational polynomial sensor model, for rasters that are not rectified."""
    stated_gsd_m: float | None = None
    """Pixel size in meters as stated by the user; used if CRS and transform give none."""

    def __post_init__(self) -> None:
        if self.height_px <= 0 or self.width_px <= 0:
            raise SceneError(f"a raster needs at least one pixel, got {self.height_px} rows x {self.width_px} columns")

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        return self.height_px, self.width_px

    @property
    def corners(self) -> tuple[tuple[float, float], ...]:
        """The corners (x, y) in the CRS: first pixel's, along the first row, then around the raster."""
        ends = ((0, 0), (self.width_px, 0), (self.width_px, self.height_px), (0, self.height_px))
        return tuple(self.transform @ corner for corner in ends)

    @property
    def bounds(self) -> Box:
        """(west, south, east, north) in the CRS."""
        xs, ys = zip(*self.corners, strict=True)
        return min(xs), min(ys), max(xs), max(ys)

    @property
    def footprint(self) -> Polygon:
        """The raster's outline in its CRS, as a shapely polygon."""
        from shapely import Polygon  # noqa: PLC0415 - `import geoseg` loads no GEOS

        return Polygon(self.corners)

    def to_odc(self) -> odc.geo.geobox.GeoBox:
        """Return an odc-geo GeoBox of this place; odc-geo must be installed.

        Raises
        ------
        SceneError
            If there is no transform: odc-geo's GeoBox supports nothing else.
        """
        from odc.geo.geobox import GeoBox as OdcBox  # noqa: PLC0415 - optional

        if not self.has_grid:
            raise SceneError(f"a GeoBox of odc-geo needs a transform; {self.grid_hint}")
        return OdcBox(self.shape, self.transform, None if self.crs is None else self.crs.to_wkt())

    @classmethod
    @checked
    def from_odc(cls, geobox: odc.geo.geobox.GeoBox) -> Self:
        """Return the place of an odc-geo GeoBox."""
        crs = None if geobox.crs is None else CRS.from_wkt(geobox.crs.to_wkt())
        return cls(int(geobox.shape[0]), int(geobox.shape[1]), geobox.affine, crs)

    @property
    def has_transform(self) -> bool:
        """Whether the affine transform is set (not the identity)."""
        return self.transform != Affine.identity()

    @property
    def has_grid(self) -> bool:
        """Whether the affine transform is set and gives every pixel a place and a size."""
        return self.has_transform and is_grid(self.transform)

    @property
    def transform_fault(self) -> str | None:
        """One line, with the way out, on why the transform cannot place the pixels; None if it can, or is not set."""
        if is_grid(self.transform):
            return None
        return (
            f"pixels have no area or no place with the transform {self.transform[:6]}; "
            "correct it (rio edit-info --transform)"
        )

    @property
    def grid_hint(self) -> str:
        """The way out if `has_grid` is false."""
        return self.transform_fault or "warp it first (rio warp --dst-crs)"

    @property
    def has_place(self) -> bool:
        """Whether the pixels can be located on Earth (or another body): by a CRS with a transform, GCPs, or RPCs."""
        by_gcps = bool(self.gcps) and self.gcp_fault is None
        return (self.crs is not None and self.has_grid) or by_gcps or self.rpcs is not None

    @property
    def gcp_fault(self) -> str | None:
        """One line, with the way out, on why the GCPs cannot place the pixels; None if they can, or are not used.

        They are not used if there are none, or a transform and a CRS take precedence.
        """
        fault = None if self.crs is not None and self.has_grid else _gcp_fault(self.gcps)
        return fault and f"{numbered(len(self.gcps), 'ground control point')} cannot place it: {fault}; {_WAY_OUT}"

    @property
    def gsd_m(self) -> float | None:
        """Pixel size on the ground in meters, the root of the center pixel's area; None if unknown.

        Degrees, and projections that stretch by more than 2 % (Web Mercator, or EASE-Grid, which keeps areas but not
        sides), are measured on the WGS 84 ellipsoid.
        """
        measured = self._measured()
        return None if measured is None else measured[0]

    @property
    def pixel_m(self) -> tuple[float, float] | None:
        """(height, width) of the center pixel on the ground in meters, measured like `gsd_m`; None if unknown.

        Along the pixel's own sides: for a rotated raster these are not north and east.
        """
        measured = self._measured()
        return None if measured is None else (measured[1], measured[2])

    @property
    def stretch(self) -> float:
        """Ratio of a pixel's longer side to its shorter side on the ground; 1 if unknown."""
        sides = self.pixel_m
        return 1.0 if sides is None else max(sides) / min(sides)

    def _measured(self) -> _Sides | None:
        crs, transform = self.mapping()
        if crs is None or transform is None:
            stated = self.stated_gsd_m
            return None if stated is None else (stated, stated, stated)
        nominal = _map_m(transform, crs.linear_units_factor[1]) if crs.is_projected else None
        is_on_ground = crs.is_projected or crs.is_geographic  # not geocentric
        ground = _ground_m(crs, transform, self.height_px / 2, self.width_px / 2) if is_on_ground else None
        if nominal is None or ground is None:
            return nominal or ground
        ratios = [on_map / on_ground for on_map, on_ground in zip(nominal, ground, strict=True)]
        return nominal if max(ratios) <= _DISTORTION and min(ratios) >= 1 / _DISTORTION else ground

    def mapping(self) -> tuple[CRS | None, Affine | None]:
        """Return the CRS and the transform from pixels to it, from GCPs if needed; (None, None) if there is neither."""
        if self.crs is not None and self.has_grid:
            return self.crs, self.transform
        if self.gcp_crs is not None and self.gcps and self.gcp_fault is None:
            return self.gcp_crs, from_gcps([point.to_rasterio() for point in self.gcps])
        return None, None

    @checked
    def __getitem__(self, window: Window) -> GeoBox:
        """Return the place of a window, which may extend beyond the raster."""
        gcps = tuple(replace(point, row=point.row - window.row, col=point.col - window.col) for point in self.gcps)
        transform = (
            self.transform @ Affine.translation(window.col, window.row) if self.has_transform else self.transform
        )
        return replace(
            self,
            height_px=window.height,
            width_px=window.width,
            transform=transform,
            gcps=gcps,
            rpcs=_moved(self.rpcs, window),
        )


def is_grid(transform: Affine) -> bool:
    """Return whether a transform gives pixels a place and a size: damaged files hold NaN, or sides of 0."""
    return all(map(math.isfinite, (*transform[:6], transform.determinant))) and not transform.is_degenerate


def crs_text(crs: CRS | None) -> str:
    """Return the name of a CRS: its code, such as EPSG:32632, else what it is called."""
    if crs is None:
        return "no CRS"
    text: str = crs.to_string()
    name = text.split('"')[1] if '"' in text else text
    if name == "unknown":
        name = crs.to_proj4()
    return name[:80] or "a CRS without a name"


def place_at(geobox: GeoBox, shape: tuple[int, int]) -> GeoBox:
    """Return the same extent with another number of (rows, cols)."""
    down, across = geobox.height_px / shape[0], geobox.width_px / shape[1]
    return replace(
        geobox,
        height_px=shape[0],
        width_px=shape[1],
        transform=geobox.transform @ Affine.scale(across, down) if geobox.has_transform else geobox.transform,
        gcps=tuple(replace(point, row=point.row / down, col=point.col / across) for point in geobox.gcps),
        rpcs=_scaled_rpcs(geobox.rpcs, down, across),
        stated_gsd_m=None if geobox.stated_gsd_m is None else geobox.stated_gsd_m * math.sqrt(down * across),
    )


def _scaled_rpcs(rpcs: RPC | None, down: float, across: float) -> RPC | None:
    """Return RPCs for larger pixels; their offsets are relative to the center of the first pixel."""
    if rpcs is None:
        return None
    values = dict(rpcs.to_dict())
    for offset, scale, factor in (("line_off", "line_scale", down), ("samp_off", "samp_scale", across)):
        values[offset] = (values[offset] + 0.5) / factor - 0.5
        values[scale] /= factor
    return RPC(**values)


def _gcp_fault(points: Sequence[GroundControlPoint]) -> str | None:
    """Return why points define no affine transform; two points, as in GDAL, are corners of a north-up raster.

    Call it before GDAL: rasterio returns uninitialized memory if the points define no transform.
    """
    if not points:
        return None
    sides = {
        "pixels": np.array([(point.col, point.row) for point in points]),
        "places": np.array([(point.x, point.y) for point in points]),
    }
    if not all(np.isfinite(side).all() for side in sides.values()):
        return "some of their numbers are not finite"
    if len(points) == 1:
        return "one alone says neither how large a pixel is nor how the raster is rotated"
    faults = ((what, _spread_fault(side)) for what, side in sides.items())
    return next((f"their {what} {fault}" for what, fault in faults if fault), None)


def _spread_fault(points: NDArray[np.float64]) -> str | None:
    """Return why points (point, axis) span no area."""
    spread = np.ptp(points, axis=0)
    if not spread.any():
        return "are all the same"
    if spread.all() and (len(points) == 2 or not _on_a_line(points)):
        return None
    return "have one coordinate in common" if len(points) == 2 else "all lie on one line"


def _on_a_line(points: NDArray[np.float64]) -> bool:
    """Return whether points (point, axis), which differ along both axes, lie on one line."""
    scaled = (points - points.mean(axis=0)) / np.ptp(points, axis=0)
    along, across = np.linalg.svd(scaled, compute_uv=False)[:2]
    return bool(across <= _ON_A_LINE * along)


def _moved(rpcs: RPC | None, window: Window) -> RPC | None:
    if rpcs is None:
        return None
    values = dict(rpcs.to_dict())
    values["line_off"] -= window.row
    values["samp_off"] -= window.col
    return RPC(**values)


def _map_m(transform: Affine, unit_m: float) -> _Sides:
    gsd_m = math.sqrt(abs(transform.determinant)) * unit_m
    return gsd_m, math.hypot(transform.b, transform.e) * unit_m, math.hypot(transform.a, transform.d) * unit_m


def _ground_m(crs: CRS, transform: Affine, row: float, col: float) -> _Sides | None:
    """Measure the pixel centered at (row, col); None if there is no way to WGS 84, or the pixel is on a pole."""
    across, down = (vectors[0] for vectors in pixels_in_space(crs, transform, np.array([row]), np.array([col])))
    area_m2 = float(np.linalg.norm(np.cross(across, down)))
    if not (math.isfinite(area_m2) and area_m2):
        return None
    return math.sqrt(area_m2), float(np.linalg.norm(down)), float(np.linalg.norm(across))


def apply_transform(transform: Affine, x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Apply a transform to points: from pixels (col, row) to a CRS; its inverse, from a CRS to pixels."""
    return transform @ (x, y)  # type: ignore[operator, return-value] # it takes arrays, though typed for numbers


def pixels_in_space(crs: CRS, transform: Affine, rows: Floats, cols: Floats) -> tuple[Floats, Floats]:
    """Return the vectors that pixels centered at (rows, cols), two (n,), span along a row and down a column.

    Two (n, 3) in meters, from the midpoints of a pixel's four edges in space (WGS 84), so they hold near the poles and
    at the 180th meridian. NaN for a pixel that has no place on WGS 84, covers a pole, or is on another body.
    """
    col, row = (
        np.concatenate(parts) for parts in ((cols - 0.5, cols + 0.5, cols, cols), (rows, rows, rows - 0.5, rows + 0.5))
    )
    left, right, top, bottom = np.split(_in_space(*_lon_lat(crs, *apply_transform(transform, col, row))), 4)
    return right - left, bottom - top


def _lon_lat(crs: CRS, x: Floats, y: Floats) -> Floats:
    """Return longitudes and latitudes (2, n) in radians; NaN for a point that has none."""
    if crs.is_geographic:
        lon_lat = np.stack([x, y]) * float(crs.units_factor[1])
    else:
        lon_lat = np.radians(_transformed(crs, x, y))
    wrong = ~np.isfinite(lon_lat).all(axis=0) | (np.abs(lon_lat[1]) > math.pi / 2 + _ROUNDING)
    lon_lat[:, wrong] = np.nan
    return lon_lat


def _transformed(crs: CRS, x: Floats, y: Floats) -> Floats:
    """Return degrees (2, n). A single bad point makes rasterio fail for all, so it is found by bisection."""
    try:
        with raster_environment():
            return np.array(transform_points(crs, _WGS84, x, y))
    except CPLE_NotSupportedError:  # no transform between the CRSs, such as from another body
        return np.full((2, len(x)), np.nan)
    except GDAL_ERRORS:
        half = len(x) // 2
        if not half:
            return np.full((2, 1), np.nan)
        return np.concatenate([_transformed(crs, x[:half], y[:half]), _transformed(crs, x[half:], y[half:])], axis=1)


def _in_space(lon: Floats, lat: Floats) -> Floats:
    """Return meters (n, 3) from the center of the WGS 84 ellipsoid: EPSG guidance note 7-2, method 9602."""
    to_axis_m = _EQUATOR_M / np.sqrt(1 - _ECCENTRICITY_2 * np.sin(lat) ** 2)
    east, north = to_axis_m * np.cos(lat) * np.cos(lon), to_axis_m * np.cos(lat) * np.sin(lon)
    place: Floats = np.stack([east, north, to_axis_m * (1 - _ECCENTRICITY_2) * np.sin(lat)], axis=-1)
    return place


Box = tuple[float, float, float, float]
"""West, south, east, north, as in RFC 7946, section 5: west exceeds east across the 180th meridian."""


def crs_named(name: object, parameter: str = "crs", of: str = "") -> CRS:
    """Return the CRS that a user names: `EPSG:4326`, WKT, a PROJ string.

    UsageError, with the `parameter`, for anything else; `of` is the phrase in the message that says whose CRS it is.
    """
    try:
        with raster_environment():
            return CRS.from_user_input(name)
    except (*GDAL_ERRORS, TypeError):
        got = " ".join(repr(name).split())
        raise UsageError(
            f"`{parameter}`{of} is not a known CRS: {got:.80}; give one such as EPSG:4326", parameter
        ) from None


def turn_of(crs: CRS) -> float:
    """Return a full turn in the unit of a geographic CRS."""
    return 2 * math.pi / float(crs.units_factor[1])


@lru_cache(maxsize=8)
def period_of(crs: CRS | None) -> float:
    """Return the period in x after which the same places repeat; 0 if they do not, or only after a gap."""
    if crs is None:
        return 0.0
    if crs.is_geographic:
        return turn_of(crs)
    lons = [-120.0, -119.0, 0.0, 1.0, 120.0, 121.0]  # at most one of the three steps crosses the edge of the world
    try:
        with raster_environment():
            xs, ys = transform_points(_WGS84, crs, lons * 2, [0.0] * 6 + [40.0] * 6)
    except GDAL_ERRORS:
        return 0.0
    if not all(map(math.isfinite, (*xs, *ys))):
        return 0.0
    steps = [sorted(abs(xs[i + 1] - xs[i]) for i in range(start, start + 6, 2)) for start in (0, 6)]
    size = steps[0][1]
    is_even = all(math.isclose(step, size, rel_tol=1e-6) for row in steps for step in row[:2])
    is_level = max(ys[:6]) - min(ys[:6]) + max(ys[6:]) - min(ys[6:]) < 1e-6 * size
    return 360 * size if is_even and is_level and size > 0 else 0.0
