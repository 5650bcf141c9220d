"""Area and perimeter of polygons, in one pass over their vertices; the mean confidence of regions, strip by strip."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.compiled import njit
from geoseg.raster import GAUSS, Ground, Scene, Surface, Window, changed_error
from geoseg.vector.polygons import Polygons
from geoseg.vector.trace import Regions

_STEP = 0.01
"""Radians of latitude along a slanted edge to each two Gauss points: off by 1e-9 of an area at most."""


def measure(polygons: Polygons, on: Surface | Ground) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return area and perimeter of each feature: two arrays (feature,), in m2 and m, or in pixels without a CRS.

    Holes are taken off the area and their rings count in the perimeter, as in OGC's ST_Area and ST_Perimeter. Edges are
    straight in the raster's coordinates, in longitude and latitude too (along a parallel, not the great circle); beyond
    a pole there is no area. `on` is the ground where a projection stretches areas.
    """
    count = len(polygons.rings) - 1
    if isinstance(on, Ground):
        inside, around = on.measure(polygons.xy, polygons.rings)
    else:
        inside, around = np.empty(count), np.empty(count)
        numbers = np.array([*on.matrix, on.semi_major_m, on.eccentricity_sq])
        _measure_rings(_within_poles(np.ascontiguousarray(polygons.xy), on), polygons.rings, numbers, inside, around)
    is_hole = np.ones(count, np.bool_)
    is_hole[polygons.polygons[:-1]] = False
    rings_of_feature = np.diff(polygons.polygons[polygons.features])
    feature = np.repeat(np.arange(len(polygons)), rings_of_feature)
    sums = [np.bincount(feature, values, len(polygons)) for values in (np.where(is_hole, -inside, inside), around)]
    return sums[0].astype(np.float64), sums[1].astype(np.float64)


def _within_poles(xy: NDArray[np.float64], surface: Surface) -> NDArray[np.float64]:
    """Return vertices as they are, or with what lies beyond a pole on it: half a pixel does in many a world grid."""
    pole = math.pi / 2 / surface.matrix[3]
    if not surface.is_ellipsoid or np.abs(xy[:, 1]).max(initial=0.0) <= pole:
        return xy
    return np.stack([xy[:, 0], np.clip(xy[:, 1], -pole, pole)], axis=1)


@njit(cache=True, nogil=True)
def _measure_rings(xy: Any, rings: Any, surface: Any, inside: Any, around: Any) -> None:
    """Fill in area and perimeter of each ring; `surface` is its matrix, semi-major axis and squared eccentricity."""
    for ring in range(len(inside)):
        if surface[4] > 0:
            inside[ring], around[ring] = _on_ellipsoid(xy, rings[ring], rings[ring + 1], surface)
        else:
            inside[ring], around[ring] = _on_plane(xy, rings[ring], rings[ring + 1], surface)


@njit(cache=True, nogil=True)
def _on_plane(xy: Any, start: int, stop: int, surface: Any) -> tuple[float, float]:
    """Measure a ring by the shoelace formula about its first vertex: far from the origin digits would be lost."""
    doubled, around = 0.0, 0.0
    x, y = 0.0, 0.0
    for vertex in range(start + 1, stop):
        next_x, next_y = xy[vertex, 0] - xy[start, 0], xy[vertex, 1] - xy[start, 1]
        doubled += x * next_y - next_x * y
        dx, dy = next_x - x, next_y - y
        east, north = surface[0] * dx + surface[1] * dy, surface[2] * dx + surface[3] * dy
        around += math.sqrt(east * east + north * north)
        x, y = next_x, next_y
    return abs(doubled * (surface[0] * surface[3] - surface[1] * surface[2])) / 2, around


@njit(cache=True, nogil=True)
def _on_ellipsoid(xy: Any, start: int, stop: int, surface: Any) -> tuple[float, float]:
    """Measure a ring of straight edges in longitude and latitude.

    Its area is the sum over the edges of their longitudes times the mean zone between them and the first vertex's
    parallel (Green's theorem); means and lengths by two Gauss points every 0.01 radians of latitude.
    """
    unit = surface[3]
    semi_major, eccentricity_sq = surface[4], surface[5]
    inside, around = 0.0, 0.0
    origin, above = xy[start, 1] * unit, 0.0  # the first vertex; small differences keep their digits
    low = math.sin(origin)
    for vertex in range(start + 1, stop):
        next_above = (xy[vertex, 1] - xy[start, 1]) * unit
        dlon, dlat = (xy[vertex, 0] - xy[vertex - 1, 0]) * unit, next_above - above
        nodes = 1 if dlat == 0 else 2 + 2 * int(abs(dlat) / _STEP)
        share = 1 / nodes
        for node in range(nodes):
            gauss = 1 + (GAUSS if node % 2 else -GAUSS)
            half = (above + dlat * share * (node - node % 2 + gauss)) / 2
            rise = 2 * math.cos(origin + half) * math.sin(half)
            sine_sq = (low + rise) * (low + rise)
            if dlon != 0:
                inside += dlon * share * _zone(low, rise, semi_major, eccentricity_sq)
            curvature = 1 - eccentricity_sq * sine_sq
            north = dlat * (1 - eccentricity_sq) / curvature
            around += share * semi_major * math.sqrt((dlon * dlon * abs(1 - sine_sq) + north * north) / curvature)
        above = next_above
    return abs(inside), around


@njit(cache=True, nogil=True)
def _zone(low: float, rise: float, semi_major: float, eccentricity_sq: float) -> float:
    """Return the area from a parallel to another for each radian of longitude, from its sine and how much that rises.

    Half of a^2 times the difference of two q of Snyder, Map Projections: A Working Manual (1987), eq. 3-12, written
    with the rise so that no digits are lost in narrow zones; negative southwards.
    """
    high = low + rise
    both = eccentricity_sq * low * high
    algebraic = rise * (1 + both) / ((1 - eccentricity_sq * low * low) * (1 - eccentricity_sq * high * high))
    tangent = rise / (1 - both)
    square = eccentricity_sq * tangent * tangent
    if square < 1e-5:  # atanh's series, which a sphere needs and narrow zones are quicker by
        transcendental = tangent * (1 + square * (1 / 3 + square * (1 / 5 + square / 7)))
    else:
        eccentricity = math.sqrt(eccentricity_sq)
        transcendental = math.atanh(eccentricity * tangent) / eccentricity
    return semi_major * semi_major * (1 - eccentricity_sq) * (algebraic + transcendental) / 2


def confidence_strips(scene: Scene, windows: Iterator[Window]) -> Iterator[NDArray[np.float32]]:
    """Yield strips (row, col) of confidence, NaN where it is not valid."""
    for window in windows:
        patch = scene.read(window)
        if patch.valid.shape != window.shape:
            raise changed_error(scene)
        strip = patch.data[0].astype(np.float32)
        strip[~patch.valid] = np.nan
        yield strip


@dataclass(slots=True)
class ConfidenceSums:
    """What has been added up for each region so far."""

    total: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    """(region,)"""
    count_px: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    """(region,) pixels that have a confidence."""

    def add(self, strip: NDArray[np.float32], regions: Regions) -> None:
        """Add a strip; the sums so far are of the regions that `regions.carried` renumbers."""
        total, count_px = np.zeros(len(regions)), np.zeros(len(regions), np.int64)
        np.add.at(total, regions.carried, self.total)
        np.add.at(count_px, regions.carried, self.count_px)
        _add(strip, regions.run_rows, regions.run_cols, regions.run_regions, total, count_px)
        self.total, self.count_px = total, count_px

    def means(self, regions: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        """Return the mean confidence of some regions, NaN where there is none, and the pixels that have one."""
        count_px = self.count_px[regions]
        with np.errstate(invalid="ignore"):
            return {"confidence": self.total[regions] / count_px, "confidence_px": count_px}

    def keep(self, regions: NDArray[np.bool_]) -> None:
        """Drop all but some (region,)."""
        self.total, self.count_px = self.total[regions], self.count_px[regions]


@njit(cache=True, nogil=True)
def _add(strip: Any, run_rows: Any, run_cols: Any, run_regions: Any, total: Any, count_px: Any) -> None:
    for row in range(strip.shape[0]):
        for run in range(run_rows[row + 1], run_rows[row + 2]):
            region = run_regions[run]
            if region < 0:
                continue
            stop = run_cols[run + 1] if run + 1 < run_rows[row + 2] else strip.shape[1] + 2
            for col in range(run_cols[run] - 1, stop - 1):
                if not np.isnan(strip[row, col]):
                    total[region] += strip[row, col]
                    count_px[region] += 1
