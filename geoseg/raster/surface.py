"""The surface that a raster's coordinates lie on: a step in metres, or in pixels where there is no CRS."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from rasterio.crs import CRS

from geoseg.errors import SceneError
from geoseg.raster.geobox import GeoBox

_NUMBER = r"([-+.\dEe]+)"
_SPHEROID = re.compile(rf'(?:SPHEROID|ELLIPSOID)\["(?:[^"]|"")*",\s*{_NUMBER},\s*{_NUMBER}')
"""Semi-major axis in metres and inverse flattening (0: a sphere), in WKT 1 and 2 alike."""


@dataclass(frozen=True, slots=True)
class Surface:
    """A plane, or an ellipsoid. `matrix` takes a step (x, y) to metres or pixels on a plane, to radians otherwise."""

    matrix: tuple[float, float, float, float]
    """Row by row: (east of x, east of y, north of x, north of y); on a plane without CRS along columns and rows."""
    in_px: bool = False
    """Whether lengths are in pixels, because the raster has no place."""
    semi_major_m: float = 0.0
    """Of the ellipsoid; 0 on a plane."""
    eccentricity_sq: float = 0.0

    @property
    def is_ellipsoid(self) -> bool:
        """Whether coordinates are longitude and latitude."""
        return self.semi_major_m > 0

    @classmethod
    def of(cls, geobox: GeoBox) -> Surface:
        """Return the surface of a raster's x and y: its CRS's plane or ellipsoid, on Earth or elsewhere.

        A raster without a CRS, or without a transform to it, lies on a plane of pixels. SceneError where the transform
        has no area, or a geographic CRS no ellipsoid or the raster no place on it.
        """
        a, b, _, d, e, _ = tuple(geobox.transform)[:6]
        determinant = geobox.transform.determinant
        if not determinant:
            raise SceneError(f"a pixel needs an area, got the transform {geobox.transform[:6]}; see what rio info says")
        if not geobox.crs or not geobox.has_transform:
            return cls((e / determinant, -b / determinant, -d / determinant, a / determinant), in_px=True)
        unit = float(geobox.crs.units_factor[1])
        matrix = (unit, 0.0, 0.0, unit)
        if not geobox.crs.is_geographic:
            return cls(matrix)
        _check_latitudes(geobox, unit)
        return cls(matrix, False, *_ellipsoid(geobox.crs))


def _ellipsoid(crs: CRS) -> tuple[float, float]:
    """Return semi-major axis and squared eccentricity; parsed, since only loading pyproj takes 60 ms."""
    found = _SPHEROID.search(crs.to_wkt())
    if found is None or not float(found[1]) > 0:
        raise SceneError(f"cannot measure in a geographic CRS without an ellipsoid, got {crs.to_wkt():.80}")
    inverse = float(found[2])
    flattening = 1 / inverse if inverse else 0.0
    return float(found[1]), flattening * (2 - flattening)


def _check_latitudes(geobox: GeoBox, unit: float) -> None:
    """Refuse metres under a geographic CRS, a common mistake that would make every area 0."""
    corners = [geobox.transform @ (col, row) for col in (0, geobox.width_px) for row in (0, geobox.height_px)]
    nearest = min((lat for _, lat in corners), key=abs)
    if abs(nearest) * unit > math.pi / 2 and len({lat > 0 for _, lat in corners}) == 1:
        raise SceneError(
            f"the raster's CRS is geographic, but latitudes start at {nearest:.8g}, beyond the pole; give it the CRS "
            "its coordinates are in (rio edit-info --crs)"
        )


def stretch_note(geobox: GeoBox) -> str | None:
    """Return one line for the reader where a map's metres are far from the ground's, as in Web Mercator; else None.

    Far is by more than 2 % at the raster's centre, GeoBox's own limit. Other bodies than Earth cannot be compared.
    """
    if not geobox.crs or not geobox.crs.is_projected or geobox.gsd_m is None:
        return None
    nominal_m2 = abs(geobox.transform.determinant) * float(geobox.crs.units_factor[1]) ** 2
    times = nominal_m2 / geobox.gsd_m**2
    if abs(times - 1) < 1e-6:
        return None
    return (
        f"areas in {geobox.crs.to_string():.40} are {times:.3g} times those on the ground here, and metres "
        f"{math.sqrt(times):.3g} times; for true ones reproject the raster to UTM or an equal-area CRS first"
    )
