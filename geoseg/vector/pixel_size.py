"""What a pixel measures on the ground; with it, tolerances and minimum areas in the pixels that kernels count."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import UsageError
from geoseg.raster import GeoBox, Surface
from geoseg.vector.measure import zones_m2
from geoseg.vector.units import Quantity

_Matrix = tuple[float, float, float, float]
_TOTAL_BITS = 61
"""A whole raster's weights sum to about 2**61 at most, so that two such sums still fit in int64."""
_UNREACHED = 1 << 62
"""A threshold that no region reaches."""
_NEAR_POLE = math.radians(89.9)
"""A raster's centre may be a pole, where a step east has no length."""
_SQUARE = 1e-3
_ROUNDING = 1e-9
"""100 m2 of 0.1 m pixels are 10000 of them, not the 10001 that floating point makes of it."""


@dataclass(frozen=True, slots=True)
class PixelSize:
    """A step to the next column or row, at the raster's centre."""

    matrix: _Matrix
    """Takes (col, row) to metres (x, y), row by row; the identity where `in_px`."""
    in_px: bool
    """Whether metres are not known, because the raster has no place."""

    @classmethod
    def of(cls, geobox: GeoBox) -> PixelSize:
        """Measure a raster's pixel. In a geographic CRS it is that of the middle row: other rows differ."""
        surface = Surface.of(geobox)
        if surface.in_px:
            return cls((1.0, 0.0, 0.0, 1.0), in_px=True)
        a, b, _, d, e, _ = tuple(geobox.transform)[:6]
        east, north = surface.matrix[0], surface.matrix[3]
        if surface.is_ellipsoid:
            _, y = geobox.transform @ (geobox.width_px / 2, geobox.height_px / 2)
            lat = min(max(y * north, -_NEAR_POLE), _NEAR_POLE)
            curvature = 1 - surface.eccentricity_sq * math.sin(lat) ** 2
            across = surface.semi_major_m / math.sqrt(curvature)
            east, north = east * across * math.cos(lat), north * across * (1 - surface.eccentricity_sq) / curvature
        return cls((a * east, b * east, d * north, e * north), in_px=False)

    @property
    def area_m2(self) -> float:
        """Of one pixel; 1 where `in_px`."""
        a, b, c, d = self.matrix
        return abs(a * d - b * c)


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far a simplified border may leave the one traced."""

    distance: float
    matrix: _Matrix
    """Takes (col, row) to the plane, row by row, in which distances are compared with `distance`."""


def tolerance(simplify: Quantity, geobox: GeoBox) -> Tolerance:
    """Return a tolerance in metres, or in pixels whatever their size. UsageError for metres without a place."""
    if simplify.in_px:
        return Tolerance(simplify.value, (1.0, 0.0, 0.0, 1.0))
    return Tolerance(simplify.value, _known(PixelSize.of(geobox), simplify).matrix)


def sieve_weights(min_area: Quantity, geobox: GeoBox) -> tuple[NDArray[np.int64] | None, int]:
    """Return the weight of a pixel in each row (row,), and the weight from which a region is large enough.

    None: each pixel weighs 1. But rows of a geographic CRS differ in area along the parallels: there the weights are
    their areas on the ellipsoid, in a unit small enough for nine digits and large enough that all pixels together weigh
    less than 2**62. In a rotated geographic raster all pixels count as the middle one. UsageError for square metres
    without a place.
    """
    if min_area.in_px:
        return None, _up(min_area.value)
    area_m2 = _known(PixelSize.of(geobox), min_area).area_m2
    surface = Surface.of(geobox)
    if not surface.is_ellipsoid or geobox.transform.b or geobox.transform.d:
        return None, _up(min_area.value / area_m2)
    rows_m2 = row_areas_m2(geobox, surface)
    total_m2 = float(rows_m2.sum()) * geobox.width_px
    unit_m2 = 2.0 ** math.ceil(math.log2(total_m2) - _TOTAL_BITS)
    weights = np.maximum(np.rint(rows_m2 / unit_m2), 1).astype(np.int64)
    return weights, _up(min_area.value / unit_m2)


def side_weights(geobox: GeoBox) -> tuple[int, int]:
    """Return the lengths of a pixel's side along a row and along a column, in a unit that makes them integers.

    (1, 1) where they are within 0.1 % of each other, or not known: equal borders should be equal.
    """
    a, b, c, d = PixelSize.of(geobox).matrix
    along_row, along_column = math.hypot(a, c), math.hypot(b, d)
    if abs(along_row - along_column) <= _SQUARE * min(along_row, along_column):
        return 1, 1
    unit = min(along_row, along_column) * _SQUARE
    return round(along_row / unit), round(along_column / unit)


def row_areas_m2(geobox: GeoBox, surface: Surface) -> NDArray[np.float64]:
    """Return the area of a pixel in each row (row,) of a north-up or south-up geographic raster; 0 beyond a pole."""
    y = geobox.transform.f + geobox.transform.e * np.arange(geobox.height_px + 1)
    lat = np.clip(y * surface.matrix[3], -math.pi / 2, math.pi / 2)
    return np.abs(zones_m2(lat, surface) * geobox.transform.a * surface.matrix[0])


def _up(pixels: float) -> int:
    return min(math.ceil(pixels * (1 - _ROUNDING)), _UNREACHED)


def _known(size: PixelSize, wanted: Quantity) -> PixelSize:
    if size.in_px:
        bare = not wanted.unit
        way_out = f": {wanted.option} {wanted.typed}px" if bare else f", a number and px, for {wanted.option}"
        raise UsageError(
            f"{wanted.option} {wanted.typed} is {'in metres' if bare else 'on the ground'}, but without a CRS the size "
            f"of a pixel on the ground is not known; give pixels{way_out}"
        )
    return size


def idle_note(wanted: Quantity, geobox: GeoBox, effect: str, enough_px: float, unit: str) -> str:
    """Return one line on a length or an area too small to do anything: what it is in pixels, and what would do."""
    size = PixelSize.of(geobox)
    pixel = size.area_m2 if unit == "m2" else math.sqrt(size.area_m2)
    name = wanted.option.strip("`")
    meant = "" if wanted.in_px else f" ({wanted.value:.3g} {unit}) is {wanted.value / pixel:.2g} of a pixel"
    enough = f"{enough_px:g}px" if size.in_px else f"{enough_px:g}px, {enough_px * pixel:.3g} {unit} here"
    return f"{name} {wanted.typed}{meant}: {effect}; give some pixels ({enough}), or leave it out"
