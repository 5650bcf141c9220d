"""Where pixels are on Earth: shape, affine transform and CRS, or ground control points, or an RPC model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio import control
from rasterio.crs import CRS
from rasterio.rpc import RPC
from rasterio.transform import from_gcps
from rasterio.warp import transform as transform_points

from geoseg.errors import SceneError
from geoseg.raster.environment import GDAL_ERRORS, raster_environment
from geoseg.raster.windows import Window

_WGS84 = CRS.from_epsg(4326)
_DISTORTION = 1.02
"""UTM stretches by less than 0.1 %; from here on (Web Mercator) the ground is measured instead of the map."""
_EQUATOR_M = 6_378_137.0
_ECCENTRICITY_2 = (2 - 1 / 298.257223563) / 298.257223563
_ROUNDING_DEGREES = 1e-9
_ON_A_LINE = 1e-9
"""Points whose scatter across their line is this share of that along it lie on it, but for the rounding of floats."""
_WAY_OUT = (
    "give it 3 or more that span an area (rasterio's dataset.gcps), or its corner and pixel size "
    "(rio edit-info --crs --transform)"
)


_Sides = tuple[float, float, float]
"""Of a pixel, in metres: the root of its area, its height, its width."""


@dataclass(frozen=True, slots=True)
class GroundControlPoint:
    """A pixel position (fractions allowed) and its place; rasterio's own compares by a random id."""

    row: float
    col: float
    x: float
    y: float
    z: float | None = None

    def to_rasterio(self) -> control.GroundControlPoint:
        """Return rasterio's twin."""
        return control.GroundControlPoint(self.row, self.col, self.x, self.y, self.z)


@dataclass(frozen=True, slots=True)
class GeoBox:
    """Shape and place of a raster in one value. `geobox[window]` is the place of a window of it.

    Raises SceneError when the raster has no pixels.
    """

    height_px: int
    width_px: int
    transform: Affine
    """Pixel (col, row) to CRS (x, y); the identity when there is none."""
    crs: CRS | None = None
    gcps: tuple[GroundControlPoint, ...] = ()
    gcp_crs: CRS | None = None
    rpcs: RPC | None = field(default=None, hash=False)

    def __post_init__(self) -> None:
        if self.height_px <= 0 or self.width_px <= 0:
            raise SceneError(f"a raster needs at least one pixel, got {self.height_px} rows x {self.width_px} columns")

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        return self.height_px, self.width_px

    @property
    def has_transform(self) -> bool:
        """Whether the affine transform says anything."""
        return self.transform != Affine.identity()

    @property
    def has_place(self) -> bool:
        """Whether the pixels can be found on Earth (or another body): a CRS with a transform, GCPs, or RPCs."""
        by_gcps = bool(self.gcps) and self.gcp_fault is None
        return (self.crs is not None and self.has_transform) or by_gcps or self.rpcs is not None

    @property
    def gcp_fault(self) -> str | None:
        """One line, with the way out, on why the GCPs cannot place the pixels; None where they can, or are not wanted.

        They are not where there are none, or a transform and a CRS win over them.
        """
        fault = None if self.crs is not None and self.has_transform else _gcp_fault(self.gcps)
        return fault and f"{_counted(self.gcps)} cannot place it: {fault}; {_WAY_OUT}"

    @property
    def gsd_m(self) -> float | None:
        """Metres a pixel on the ground, the root of the pixel's area at the centre; None where it is not known.

        Degrees, and maps that stretch by more than 2 % (Web Mercator), are measured on the WGS 84 ellipsoid.
        """
        measured = self._measured()
        return None if measured is None else measured[0]

    @property
    def pixel_m(self) -> tuple[float, float] | None:
        """(height, width) in metres of the pixel at the centre, on the ground, as `gsd_m`; None where it is not known.

        Along the pixel's own sides: of a rotated raster they are not north and east.
        """
        measured = self._measured()
        return None if measured is None else (measured[1], measured[2])

    @property
    def stretch(self) -> float:
        """How many times longer one side of a pixel is than the other, on the ground; 1 where that is not known."""
        sides = self.pixel_m
        return 1.0 if sides is None else max(sides) / min(sides)

    def _measured(self) -> _Sides | None:
        crs, transform = self._mapping()
        if crs is None or transform is None or transform.is_degenerate:
            return None
        nominal = _map_m(transform, crs.linear_units_factor[1]) if crs.is_projected else None
        ground = _ground_m(crs, transform, self.height_px / 2, self.width_px / 2)
        if nominal is None or ground is None:
            return nominal or ground
        return nominal if max(nominal[0] / ground[0], ground[0] / nominal[0]) <= _DISTORTION else ground

    def _mapping(self) -> tuple[CRS | None, Affine | None]:
        if self.crs is not None and self.has_transform:
            return self.crs, self.transform
        if self.gcp_crs is not None and self.gcps and self.gcp_fault is None:
            return self.gcp_crs, from_gcps([point.to_rasterio() for point in self.gcps])
        return None, None

    def __getitem__(self, window: Window) -> GeoBox:
        """Return the place of a window, which may stick out."""
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


def place_at(geobox: GeoBox, shape: tuple[int, int]) -> GeoBox:
    """Return the same extent in another number of (rows, cols)."""
    down, across = geobox.height_px / shape[0], geobox.width_px / shape[1]
    return replace(
        geobox,
        height_px=shape[0],
        width_px=shape[1],
        transform=geobox.transform @ Affine.scale(across, down) if geobox.has_transform else geobox.transform,
        gcps=tuple(replace(point, row=point.row / down, col=point.col / across) for point in geobox.gcps),
        rpcs=_scaled_rpcs(geobox.rpcs, down, across),
    )


def _scaled_rpcs(rpcs: RPC | None, down: float, across: float) -> RPC | None:
    """Return RPCs for larger pixels; their offsets count from the centre of the first pixel."""
    if rpcs is None:
        return None
    values = dict(rpcs.to_dict())
    for offset, scale, factor in (("line_off", "line_scale", down), ("samp_off", "samp_scale", across)):
        values[offset] = (values[offset] + 0.5) / factor - 0.5
        values[scale] /= factor
    return RPC(**values)


def _counted(points: Sequence[GroundControlPoint]) -> str:
    return f"{len(points)} ground control point{'s' * (len(points) != 1)}"


def _gcp_fault(points: Sequence[GroundControlPoint]) -> str | None:
    """Return why no affine transform follows from points; two, as GDAL has it, are corners of a north-up raster.

    To be asked before GDAL, of which rasterio returns whatever was in memory where the points give no transform.
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
        return "one alone says neither how large a pixel is nor how the raster is turned"
    faults = ((what, _spread_fault(side)) for what, side in sides.items())
    return next((f"their {what} {fault}" for what, fault in faults if fault), None)


def _spread_fault(points: NDArray[np.float64]) -> str | None:
    """Return why points (point, axis) span no area."""
    spread = np.ptp(points, axis=0)
    if not spread.any():
        return "are all the same"
    if spread.all() and (len(points) == 2 or not _on_a_line(points)):
        return None
    return "are alike along one axis" if len(points) == 2 else "all lie on one line"


def _on_a_line(points: NDArray[np.float64]) -> bool:
    """Say whether points (point, axis), which differ along both axes, lie on one line."""
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
    """Measure the pixel whose middle is (row, col), from where the middles of its four edges are in space.

    So it holds where meridians meet, and where longitudes begin anew. None where WGS 84 cannot be reached (other
    bodies), and where a pixel of degrees reaches over a pole.
    """
    edges = [transform @ edge for edge in ((col - 0.5, row), (col + 0.5, row), (col, row - 0.5), (col, row + 0.5))]
    lons, lats = [x for x, _ in edges], [y for _, y in edges]
    if not crs.is_geographic:
        try:
            with raster_environment():
                lons, lats = transform_points(crs, _WGS84, lons, lats)
        except GDAL_ERRORS:
            return None
    if not all(map(math.isfinite, (*lons, *lats))) or max(map(abs, lats)) > 90 + _ROUNDING_DEGREES:
        return None
    left, right, top, bottom = map(_in_space, lons, lats)
    across, down = ([b - a for a, b in zip(*ends, strict=True)] for ends in ((left, right), (top, bottom)))
    gsd_m = math.sqrt(math.hypot(*_cross(across, down)))
    return (gsd_m, math.hypot(*down), math.hypot(*across)) if gsd_m else None


def _in_space(lon: float, lat: float) -> tuple[float, float, float]:
    """Return metres from the middle of the WGS 84 ellipsoid: EPSG guidance note 7-2, method 9602."""
    along, up = math.radians(lon), math.radians(lat)
    to_axis_m = _EQUATOR_M / math.sqrt(1 - _ECCENTRICITY_2 * math.sin(up) ** 2)
    return (
        to_axis_m * math.cos(up) * math.cos(along),
        to_axis_m * math.cos(up) * math.sin(along),
        to_axis_m * (1 - _ECCENTRICITY_2) * math.sin(up),
    )


def _cross(a: Sequence[float], b: Sequence[float]) -> tuple[float, float, float]:
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]
