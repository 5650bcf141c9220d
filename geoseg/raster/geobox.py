"""Where pixels are on Earth: shape, affine transform and CRS, or ground control points, or an RPC model."""

from __future__ import annotations

import math
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

        Degrees, and maps that stretch by more than 2 % (Web Mercator), are measured on the sphere or ellipsoid.
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
            self.transform * Affine.translation(window.col, window.row) if self.has_transform else self.transform
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
    """Root of the area of the pixel at (row, col), from the longitudes and latitudes of three of its corners.

    Metres a degree on the WGS 84 ellipsoid: the usual series in cos(2 lat). None where WGS 84 cannot be reached
    (other bodies).
    """
    corners = [transform @ corner for corner in ((col, row), (col + 1, row), (col, row + 1))]
    xs, ys = [x for x, _ in corners], [y for _, y in corners]
    if not crs.is_geographic:
        try:
            with raster_environment():
                xs, ys = transform_points(crs, _WGS84, xs, ys)
        except GDAL_ERRORS:
            return None
    if not all(map(math.isfinite, (*xs, *ys))) or abs(ys[0]) > 90:
        return None
    lat = math.radians(ys[0])
    a_degree_up = 111132.954 - 559.822 * math.cos(2 * lat) + 1.175 * math.cos(4 * lat)
    a_degree_across = 111412.84 * math.cos(lat) - 93.5 * math.cos(3 * lat) + 0.118 * math.cos(5 * lat)
    area_degrees = abs((xs[1] - xs[0]) * (ys[2] - ys[0]) - (xs[2] - xs[0]) * (ys[1] - ys[0]))
    return math.sqrt(area_degrees * a_degree_up * abs(a_degree_across)) or None
