"""Areas and lengths of pixels on the ground, for every verb.

A projection stretches: at 60 degrees north a square meter of Web Mercator is a quarter of one on the ground. Areas here
are those on the ground at each pixel's own position in the raster.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS

from geoseg.errors import SceneError
from geoseg.raster.geobox import Floats, GeoBox, apply_transform, pixels_in_space
from geoseg.raster.windows import Window, tiles

SAME_SIZE = 1.02
"""Pixel sizes that differ by no more than this factor are the same, for every verb: latitude alone changes them as
much, and resampling costs sharpness and gains nothing."""
_TRUE = 0.0025
"""A plane whose areas differ from the ground's by no more than this share counts as the ground: UTM in its zone,
national grids, equal-area projections. Their square meters are what every GIS shows."""
_COARSE, _FINE, _ROWS = 8, 64, 1024
"""Cells per side of the lattice on which the ground is measured: a first look; if areas vary along both axes; if they
vary only from row to row."""
_ALIKE = 1e-6
_STRIP_PX = 1 << 22
_NEAR_POLE = math.radians(89.9)
"""Limit on latitude: a raster's center may be a pole, where a step east has no length."""
GAUSS = math.sqrt(1 / 3)
"""Distance of the two Gauss points from the middle of an interval of length 2."""
_NUMBER = r"([-+.\dEe]+)"
_SPHEROID = re.compile(rf'(?:SPHEROID|ELLIPSOID)\["(?:[^"]|"")*",\s*{_NUMBER},\s*{_NUMBER}')
"""Semi-major axis in meters and inverse flattening (0: a sphere), in WKT 1 and 2."""

_Matrix = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Surface:
    """A plane or an ellipsoid. `matrix` takes a step (x, y) to meters or pixels on a plane, else to radians."""

    matrix: _Matrix
    """Row by row: (east of x, east of y, north of x, north of y); without a CRS along columns and rows instead."""
    in_px: bool = False
    """Whether lengths are in pixels because the raster is not georeferenced."""
    semi_major_m: float = 0.0
    """Of the ellipsoid; 0 on a plane."""
    eccentricity_sq: float = 0.0

    @property
    def is_ellipsoid(self) -> bool:
        """Whether coordinates are longitude and latitude."""
        return self.semi_major_m > 0

    @classmethod
    def of(cls, geobox: GeoBox) -> Surface:
        """Return the surface of a raster's x and y: the plane or ellipsoid of its CRS, on Earth or elsewhere.

        A raster without a CRS, or without a transform to it, lies on a plane of pixels. SceneError if the transform
        is no grid, a geographic CRS has no ellipsoid, or latitudes are beyond the poles.
        """
        a, b, _, d, e, _ = tuple(geobox.transform)[:6]
        determinant = geobox.transform.determinant
        if fault := geobox.transform_fault:
            raise SceneError(fault)
        if not geobox.crs or not geobox.has_transform:
            return cls((e / determinant, -b / determinant, -d / determinant, a / determinant), in_px=True)
        unit = float(geobox.crs.units_factor[1])
        matrix = (unit, 0.0, 0.0, unit)
        if not geobox.crs.is_geographic:
            return cls(matrix)
        _check_latitudes(geobox, unit)
        return cls(matrix, False, *_ellipsoid(geobox.crs))


def _ellipsoid(crs: CRS) -> tuple[float, float]:
    """Return semi-major axis and squared eccentricity, parsed from WKT: loading pyproj alone takes 60 ms."""
    match = _SPHEROID.search(crs.to_wkt())
    if match is None or not float(match[1]) > 0:
        raise SceneError(f"cannot measure in a geographic CRS without an ellipsoid, got {crs.to_wkt():.80}")
    inverse = float(match[2])
    flattening = 1 / inverse if inverse else 0.0
    return float(match[1]), flattening * (2 - flattening)


def _check_latitudes(geobox: GeoBox, unit: float) -> None:
    """Refuse coordinates in meters with a geographic CRS, a common mistake that would make every area 0."""
    corners = [geobox.transform @ (col, row) for col in (0, geobox.width_px) for row in (0, geobox.height_px)]
    nearest = min((lat for _, lat in corners), key=abs)
    if abs(nearest) * unit > math.pi / 2 and len({lat > 0 for _, lat in corners}) == 1:
        raise SceneError(
            f"the raster's CRS is geographic, but latitudes start at {nearest:.8g}, beyond the pole; give it the CRS "
            "its coordinates are in (rio edit-info --crs)"
        )


@dataclass(frozen=True, slots=True)
class Ground:
    """Areas and lengths of a raster's pixels on the ground.

    Areas are in square meters, or in pixels if the raster is not georeferenced. They are measured on the ellipsoid of a
    geographic CRS; on WGS 84 if a projection stretches areas by more than 0.25 % anywhere in the raster; else on the
    plane of the CRS (UTM in its zone, national grids, equal-area projections, bodies other than Earth).
    """

    geobox: GeoBox
    matrix: _Matrix
    """Takes a step (col, row) at the raster's center to meters, row by row; the identity if `in_px`."""
    surface: Surface | None
    """The plane or ellipsoid on which the raster's coordinates measure true; None if there is none: use `measure`.

    If a raster is placed by ground control points alone, its coordinates are pixels (col, row).
    """
    lattice: _Lattice | None = field(default=None, repr=False)

    @classmethod
    def of(cls, geobox: GeoBox) -> Ground:
        """Measure a raster; SceneError if the transform is no grid, or a geographic CRS has no ellipsoid."""
        return _ground(geobox)

    @property
    def in_px(self) -> bool:
        """Whether areas are in pixels because the raster is not georeferenced."""
        return self.surface is not None and self.surface.in_px

    @property
    def unit(self) -> str:
        """Unit of areas: m2 or px."""
        return "px" if self.in_px else "m2"

    @property
    def pixel(self) -> float:
        """The area of the pixel at the raster's center."""
        a, b, c, d = self.matrix
        return abs(a * d - b * c)

    @property
    def is_even(self) -> bool:
        """Whether all pixels have the same area, `pixel`."""
        return self.lattice is None and not (self.surface is not None and self.surface.is_ellipsoid)

    def areas(self, window: Window | None = None) -> Floats:
        """Return the area of each pixel of a window, or of the whole raster.

        The array is (row, col), with a single row or column if all are equal: broadcast it.
        """
        window = window or Window(0, 0, *self.geobox.shape)
        if self.lattice is not None:
            return self.lattice.areas(window)
        if self.surface is not None and self.surface.is_ellipsoid:
            return _zones(self.geobox, self.surface, window)
        return np.full((1, 1), self.pixel)

    def rows(self) -> Floats | None:
        """Return the mean pixel area of each row (row,); None if all pixels are equal."""
        if self.is_even:
            return None
        height, width = self.geobox.shape
        strips = tiles(height, width, max(1, _STRIP_PX // width), width)
        return np.concatenate([self.areas(strip).mean(axis=1) for strip in strips])

    def measure(self, xy: Floats, rings: NDArray[Any]) -> tuple[Floats, Floats]:
        """Return area and perimeter of each ring, two (ring,) in m2 and m, if coordinates do not measure true.

        `xy` (vertex, 2) are closed rings with straight edges in the raster's coordinates; ring i starts at vertex
        `rings[i]` of (ring + 1,). Only for a raster whose `surface` is None.
        """
        if self.lattice is None:
            raise ValueError("coordinates measure true on the ground's surface")
        cols, rows = apply_transform(~self.geobox.transform, xy[:, 0], xy[:, 1])
        return self.lattice.measure(cols, rows, np.asarray(rings))


@lru_cache(maxsize=8)
def _ground(geobox: GeoBox) -> Ground:
    surface = Surface.of(geobox)
    crs, transform = geobox.mapping()
    if crs is None or transform is None:
        return Ground(geobox, (1.0, 0.0, 0.0, 1.0), surface)
    a, b, _, d, e, _ = tuple(transform)[:6]
    if surface.is_ellipsoid:
        east, north = _degree_m(surface, (transform @ (geobox.width_px / 2, geobox.height_px / 2))[1])
        lattice = _Lattice.of(geobox, crs, transform, None) if b or d else None
        return Ground(geobox, (a * east, b * east, d * north, e * north), surface, lattice)
    unit = None if crs.is_geographic else float(crs.units_factor[1])
    lattice = _Lattice.of(geobox, crs, transform, unit and unit * unit * abs(transform.determinant))
    if lattice is not None:
        return Ground(geobox, lattice.at_center(), None, lattice)
    unit = unit or 1.0
    matrix = (a * unit, b * unit, d * unit, e * unit)
    return Ground(geobox, matrix, Surface(matrix) if surface.in_px else surface)


def _degree_m(surface: Surface, y: float) -> tuple[float, float]:
    """Return the meters east and north of one unit of longitude and latitude, at latitude `y` of an ellipsoid."""
    lat = min(max(y * surface.matrix[3], -_NEAR_POLE), _NEAR_POLE)
    curvature = 1 - surface.eccentricity_sq * math.sin(lat) ** 2
    across_m = surface.semi_major_m / math.sqrt(curvature) * surface.matrix[0]
    return across_m * math.cos(lat), across_m * (1 - surface.eccentricity_sq) / curvature


def _zones(geobox: GeoBox, surface: Surface, window: Window) -> Floats:
    """Return the area of a pixel in each row (row, 1) of a north-up or south-up geographic raster; 0 beyond a pole."""
    y = geobox.transform.f + geobox.transform.e * np.arange(window.row, window.row_stop + 1)
    lat = np.clip(y * surface.matrix[3], -math.pi / 2, math.pi / 2)
    areas: Floats = np.abs(zones_m2(lat, surface) * geobox.transform.a * surface.matrix[0])[:, None]
    return areas


def zones_m2(lats: Floats, surface: Surface) -> Floats:
    """Return the area (zone,) between adjacent parallels (zone + 1,) of an ellipsoid, per radian of longitude.

    Latitudes in radians; areas are negative where they fall. Half of a^2 times the difference of two q of Snyder, Map
    Projections: A Working Manual (1987), eq. 3-12, in terms of the rise of the sine, which is accurate in narrow zones.
    """
    half = np.diff(lats) / 2
    rise, low, square = 2 * np.cos(lats[:-1] + half) * np.sin(half), np.sin(lats[:-1]), surface.eccentricity_sq
    high = low + rise
    both = square * low * high
    algebraic = rise * (1 + both) / ((1 - square * low * low) * (1 - square * high * high))
    tangent = rise / (1 - both)
    eccentricity = math.sqrt(square)
    transcendental = np.arctanh(eccentricity * tangent) / eccentricity if square else tangent
    zones: Floats = surface.semi_major_m**2 * (1 - square) * (algebraic + transcendental) / 2
    return zones


@dataclass(frozen=True, slots=True, eq=False)
class _Lattice:
    """The ground measured at nodes spread evenly over a raster, from edge to edge; linear in between."""

    shape: tuple[int, int]
    """(rows, cols) of the raster."""
    metric: Floats
    """(3, node, node) in m2: of a pixel's vectors along a row and down a column, along^2, along * down, down^2."""
    area: Floats
    """(node, node): area of a pixel, m2."""
    integral: Floats
    """(node, node): area of a strip one pixel high, from the raster's left edge to the node."""

    @classmethod
    def of(cls, geobox: GeoBox, crs: CRS, transform: Affine, plane_m2: float | None) -> _Lattice | None:
        """Measure a raster; None if all pixels have the area on the plane, or nothing else is known."""
        shape = geobox.shape
        across, down = _reach(crs, transform, shape, (_COARSE, _COARSE))
        area = np.linalg.norm(np.cross(across, down), axis=-1)
        is_finite = np.isfinite(area)
        if not is_finite.any() or (plane_m2 and np.abs(area[is_finite] / plane_m2 - 1).max() <= _TRUE):
            return None
        by_row = is_finite.all() and (np.ptp(area, axis=1) <= _ALIKE * area.max(axis=1)).all()
        across, down = _reach(crs, transform, shape, (_ROWS, 1) if by_row else (_FINE, _FINE))
        metric = np.stack(
            [(one * other).sum(axis=-1) for one, other in ((across, across), (across, down), (down, down))]
        )
        area = np.linalg.norm(np.cross(across, down), axis=-1)
        unknown = ~np.isfinite(area)  # outside the world, where there are no real pixels
        metric[:, unknown], area[unknown] = np.median(metric[:, ~unknown], axis=1)[:, None], np.median(area[~unknown])
        strips = np.cumsum((area[:, 1:] + area[:, :-1]) / 2, axis=1) * (shape[1] / (area.shape[1] - 1))
        return cls(shape, metric, area, np.pad(strips, ((0, 0), (1, 0))))

    def at_center(self) -> _Matrix:
        """Return a matrix that takes (col, row) to meters at the raster's center; the first axis is along the row."""
        i, j = self.area.shape[0] // 2, self.area.shape[1] // 2
        along, both, _ = self.metric[:, i, j].tolist()
        side = math.sqrt(along)
        return side, both / side, 0.0, float(self.area[i, j]) / side

    def areas(self, window: Window) -> Floats:
        """Return the areas (row, col) of a window's pixels, (row, 1) if all columns are equal."""
        i, down = self._place(0, np.arange(window.row, window.row_stop) + 0.5)
        rows = self.area[i] * (1 - down)[:, None] + self.area[i + 1] * down[:, None]
        if rows.shape[1] == 2:
            return (rows[:, :1] + rows[:, 1:]) / 2
        j, across = self._place(1, np.arange(window.col, window.col_stop) + 0.5)
        areas: Floats = rows[:, j] * (1 - across) + rows[:, j + 1] * across
        return areas

    def measure(self, cols: Floats, rows: Floats, rings: NDArray[Any]) -> tuple[Floats, Floats]:
        """Integrate around rings (Green's theorem): edges are cut to at most a cell, with two Gauss points each."""
        count = len(rings) - 1
        ring = np.repeat(np.arange(count), np.diff(rings))
        edges = np.flatnonzero(ring[1:] == ring[:-1])
        cells = [length / (nodes - 1) for length, nodes in zip(self.shape, self.area.shape, strict=True)]
        far = np.maximum(np.abs(np.diff(rows)) / cells[0], np.abs(np.diff(cols)) / cells[1])[edges]
        pieces = np.maximum(np.ceil(far), 1).astype(np.int64)
        number = np.arange(pieces.sum()) - np.repeat(np.cumsum(pieces) - pieces, pieces)
        edges, share = np.repeat(edges, pieces), 1 / np.repeat(pieces, pieces)
        drow, dcol = (rows[edges + 1] - rows[edges]) * share, (cols[edges + 1] - cols[edges]) * share
        inside, around = np.zeros(count), np.zeros(count)
        for gauss in (1 - GAUSS, 1 + GAUSS):
            at = number + gauss / 2
            left, metric = self._at(rows[edges] + at * drow, cols[edges] + at * dcol)
            inside += np.bincount(ring[edges], left * drow / 2, count)
            step = metric[0] * dcol * dcol + 2 * metric[1] * dcol * drow + metric[2] * drow * drow
            around += np.bincount(ring[edges], np.sqrt(np.maximum(step, 0)) / 2, count)
        return np.abs(inside), around

    def _at(self, rows: Floats, cols: Floats) -> tuple[Floats, Floats]:
        """Return the integral and the metric at places (n,)."""
        (i, down), (j, across) = self._place(0, rows), self._place(1, cols)

        def between(values: Floats, col: NDArray[np.int64]) -> Floats:
            mean: Floats = values[..., i, col] * (1 - down) + values[..., i + 1, col] * down
            return mean

        first, second = between(self.area, j), between(self.area, j + 1)
        cell = self.shape[1] / (self.area.shape[1] - 1)
        left = between(self.integral, j) + cell * across * (first + (second - first) * across / 2)
        return left, between(self.metric, j) * (1 - across) + between(self.metric, j + 1) * across

    def _place(self, axis: int, px: NDArray[Any]) -> tuple[NDArray[np.int64], Floats]:
        """Return the node before each place (n,) along an axis, and the fraction of the way to the next node."""
        cells = self.area.shape[axis] - 1
        at = np.clip(px / self.shape[axis] * cells, 0, cells)
        node = np.minimum(at.astype(np.int64), cells - 1)
        return node, at - node


def _reach(crs: CRS, transform: Affine, shape: tuple[int, int], cells: tuple[int, int]) -> tuple[Floats, Floats]:
    """Return the vectors of pixels at the nodes, along a row and down a column, two (node, node, 3)."""
    rows, cols = (np.linspace(0, side, min(side, most) + 1) for side, most in zip(shape, cells, strict=True))
    at = np.meshgrid(rows, cols, indexing="ij")
    across, down = pixels_in_space(crs, transform, at[0].ravel(), at[1].ravel())
    return across.reshape(*at[0].shape, 3), down.reshape(*at[0].shape, 3)


def size_factors(sides_m: tuple[float, float], wanted_m: float) -> tuple[float, float]:
    """Return the factors for the number of rows and columns that bring pixels of (height, width) to a size.

    All in meters; (1, 1) if the sizes count as equal. `predict`, `train` and `evaluate` pass them to `scaled`.
    """
    down, across = (side_m / wanted_m for side_m in sides_m)
    is_same = all(1 / SAME_SIZE <= factor <= SAME_SIZE for factor in (down, across))
    return (1.0, 1.0) if is_same else (down, across)
