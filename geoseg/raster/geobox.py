"""Where pixels are on Earth: shape, affine transform and CRS, or ground control points, or an RPC model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from affine import Affine
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
        return (self.crs is not None and self.has_transform) or bool(self.gcps) or self.rpcs is not None

    @property
    def gsd_m(self) -> float | None:
        """Metres a pixel on the ground, the root of the pixel's area at the centre; None where it is not known.

        Degrees, and maps that stretch by more than 2 % (Web Mercator), are measured on the WGS 84 ellipsoid.
        """
        crs, transform = self._mapping()
        if crs is None or transform is None or transform.is_degenerate:
            return None
        nominal = math.sqrt(abs(transform.determinant)) * crs.linear_units_factor[1] if crs.is_projected else None
        ground = _ground_m(crs, transform, self.height_px / 2, self.width_px / 2)
        if nominal is None or ground is None:
            return nominal or ground
        return nominal if max(nominal / ground, ground / nominal) <= _DISTORTION else ground

    def _mapping(self) -> tuple[CRS | None, Affine | None]:
        if self.crs is not None and self.has_transform:
            return self.crs, self.transform
        if self.gcp_crs is not None and len(self.gcps) >= 3:
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


def _moved(rpcs: RPC | None, window: Window) -> RPC | None:
    if rpcs is None:
        return None
    values = dict(rpcs.to_dict())
    values["line_off"] -= window.row
    values["samp_off"] -= window.col
    return RPC(**values)


def _ground_m(crs: CRS, transform: Affine, row: float, col: float) -> float | None:
    """Root of the area of the pixel whose middle is (row, col), from where the middles of its four edges are in space.

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
    return math.sqrt(math.hypot(*_cross(across, down))) or None


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
