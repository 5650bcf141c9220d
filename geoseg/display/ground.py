"""What a map's unit is on the ground, and where north is."""

from __future__ import annotations

import math
from dataclasses import dataclass

from rasterio.crs import CRS
from rasterio.errors import CRSError, RasterioError
from rasterio.warp import transform

from geoseg.display.feature_source import Bounds

_WGS84 = CRS.from_epsg(4326)
_METRES_PER_DEGREE = 111_320.0
_STEP = 1e-3
"""Of the map's size: short enough to be straight, long enough for its digits."""
_LONGEST_BAR_M = 1e6
"""On a map of continents no one scale holds."""
_UPRIGHT_DEGREES = 2.5


@dataclass(frozen=True, slots=True)
class Ground:
    """A map's middle; None where it is not known, or of no use."""

    metres_per_unit: float | None
    north_up: bool

    @classmethod
    def of(cls, crs: CRS | None, bounds: Bounds) -> Ground:
        """Measure the middle of some bounds."""
        if crs is None:
            return cls(None, north_up=False)
        x, y = (bounds[0] + bounds[2]) / 2, (bounds[1] + bounds[3]) / 2
        step = _STEP * max(bounds[2] - bounds[0], bounds[3] - bounds[1])
        try:
            lon, lat = transform(crs, _WGS84, [x, x + step, x], [y, y, y + step])
        except (CRSError, RasterioError, RuntimeError):
            return cls(None, north_up=False)  # another planet, or an office floor
        shrink = math.cos(math.radians(lat[0]))
        east, up = (
            ((lon[end] - lon[0]) * shrink * _METRES_PER_DEGREE, (lat[end] - lat[0]) * _METRES_PER_DEGREE)
            for end in (1, 2)
        )
        metres = math.hypot(*east) / step
        if not (math.isfinite(metres) and metres > 0):
            return cls(None, north_up=False)
        tilt = math.degrees(math.atan2(up[0], up[1]))
        return cls(metres, north_up=abs(tilt) <= _UPRIGHT_DEGREES)


def bar_length_m(longest_m: float) -> float | None:
    """Return the longest of 1, 2, 5, 10, 20 ... metres that is not longer; None where a bar would mislead."""
    if not 0 < longest_m <= _LONGEST_BAR_M:
        return None
    power = 10.0 ** math.floor(math.log10(longest_m))
    return next(step * power for step in (5, 2, 1) if step * power <= longest_m * (1 + 1e-9))


def vertical_stretch(crs: CRS | None, bounds: Bounds) -> float:
    """Return how much higher than wide a unit is drawn: degrees of longitude are shorter than those of latitude."""
    if crs is None or not crs.is_geographic:
        return 1.0
    middle = min(80.0, abs((bounds[1] + bounds[3]) / 2))
    return 1 / math.cos(math.radians(middle))
