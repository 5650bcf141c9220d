"""Polygons as flat arrays, without an object per feature: their measures, tables, and the layer they belong to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from rasterio.crs import CRS

from geoseg.compiled import njit
from geoseg.legend import Nomenclature
from geoseg.raster import GAUSS, Ground, Surface
from geoseg.version import VERSION

Number = TypeVar("Number", bound=np.generic)
_STEP = 0.01
"""Radians of latitude along a slanted edge per pair of Gauss points: the error is at most 1e-9 of an area."""


@dataclass(frozen=True, slots=True)
class Polygons:
    """Features in GeoArrow's nested layout: entry i of a level owns [offsets[i], offsets[i + 1]) of the next."""

    codes: NDArray[np.int32]
    """(feature,) class of each feature."""
    area_px: NDArray[np.int64]
    """(feature,) pixels of each feature in the raster, before any simplification."""
    features: NDArray[np.int64]
    """(feature + 1,) offsets into the polygons; one polygon per feature unless it has several parts."""
    polygons: NDArray[np.int64]
    """(polygon + 1,) offsets into the rings: the outer ring, then its holes."""
    rings: NDArray[np.int64]
    """(ring + 1,) offsets into the vertices. Rings are closed: the last vertex is the first."""
    xy: NDArray[np.float64]
    """(vertex, 2) x and y in the raster's CRS. Outer rings run counter-clockwise in that plane, holes clockwise."""
    confidence: NDArray[np.float64] | None = None
    """(feature,) mean confidence, NaN if there is none; None without a confidence raster."""
    confidence_px: NDArray[np.int64] | None = None
    """(feature,) pixels with a confidence."""

    def __len__(self) -> int:
        return len(self.codes)

    def take(self, chosen: NDArray[np.int64]) -> Self:
        """Return the chosen features, in the order given."""
        feature_offsets, polygons = _take_level(self.features, chosen)
        polygon_offsets, rings = _take_level(self.polygons, polygons)
        ring_offsets, vertices = _take_level(self.rings, rings)
        return type(self)(
            self.codes[chosen], self.area_px[chosen], feature_offsets, polygon_offsets, ring_offsets, self.xy[vertices],
            None if self.confidence is None else self.confidence[chosen],
            None if self.confidence_px is None else self.confidence_px[chosen],
        )  # fmt: skip

    def exchange(self, replaced: NDArray[np.int64], others: Self) -> Self:
        """Return the features in order, with those in `replaced`, (feature,) ascending, exchanged for `others`."""
        kept = np.setdiff1d(np.arange(len(self)), replaced, assume_unique=True)
        mixed = self.concatenate([self.take(kept), others])
        return mixed.take(np.argsort(np.concatenate([kept, replaced]), kind="stable"))

    @classmethod
    def concatenate(cls, batches: Sequence[Self]) -> Self:
        """Return the features of one or more batches, in order."""
        return cls(
            np.concatenate([batch.codes for batch in batches]),
            np.concatenate([batch.area_px for batch in batches]),
            _joined_offsets([batch.features for batch in batches]),
            _joined_offsets([batch.polygons for batch in batches]),
            _joined_offsets([batch.rings for batch in batches]),
            np.concatenate([batch.xy for batch in batches]),
            _all_or_none([batch.confidence for batch in batches]),
            _all_or_none([batch.confidence_px for batch in batches]),
        )


def _take_level(offsets: NDArray[np.int64], chosen: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the offsets of the chosen entries, and the entries of the next level that they own."""
    counts = offsets[chosen + 1] - offsets[chosen]
    new_offsets = np.append(0, np.cumsum(counts))
    return new_offsets, np.arange(new_offsets[-1]) + np.repeat(offsets[chosen] - new_offsets[:-1], counts)


def _joined_offsets(levels: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    starts = np.cumsum([0, *(offsets[-1] for offsets in levels)])
    ends = [offsets[1:] + start for offsets, start in zip(levels, starts[:-1], strict=True)]
    return np.concatenate([np.zeros(1, np.int64), *ends])


def _all_or_none(columns: Sequence[NDArray[Number] | None]) -> NDArray[Number] | None:
    present = [column for column in columns if column is not None]
    return np.concatenate(present) if present else None


def boxes(polygons: Polygons) -> NDArray[np.float64]:
    """Return (feature, 4): minimum x, minimum y, maximum x, maximum y."""
    if not len(polygons):
        return np.empty((0, 4))
    vertices = polygons.rings[polygons.polygons[polygons.features]]
    xy, starts = polygons.xy[vertices[0] : vertices[-1]], vertices[:-1] - vertices[0]
    least = [np.minimum.reduceat(xy[:, axis], starts) for axis in (0, 1)]
    greatest = [np.maximum.reduceat(xy[:, axis], starts) for axis in (0, 1)]
    return np.column_stack([*least, *greatest])


def measure(polygons: Polygons, on: Surface | Ground) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return area and perimeter of each feature: two arrays (feature,), in m2 and m, or in pixels without a CRS.

    Holes are subtracted from the area and their rings count in the perimeter, as in ST_Area and ST_Perimeter of the
    OGC. Edges are straight in the raster's coordinates, also in longitude and latitude (along a parallel, not the great
    circle); there is no area beyond a pole. `on` is the ground if a projection stretches areas.
    """
    count = len(polygons.rings) - 1
    if isinstance(on, Ground):
        areas, perimeters = on.measure(polygons.xy, polygons.rings)
    else:
        areas, perimeters = np.empty(count), np.empty(count)
        numbers = np.array([*on.matrix, on.semi_major_m, on.eccentricity_sq])
        _measure_rings(_within_poles(np.ascontiguousarray(polygons.xy), on), polygons.rings, numbers, areas, perimeters)
    is_hole = np.ones(count, np.bool_)
    is_hole[polygons.polygons[:-1]] = False
    rings_of_feature = np.diff(polygons.polygons[polygons.features])
    feature = np.repeat(np.arange(len(polygons)), rings_of_feature)
    sums = [np.bincount(feature, values, len(polygons)) for values in (np.where(is_hole, -areas, areas), perimeters)]
    return sums[0].astype(np.float64), sums[1].astype(np.float64)


def _within_poles(xy: NDArray[np.float64], surface: Surface) -> NDArray[np.float64]:
    """Return vertices, with those beyond a pole moved onto it: many world grids extend half a pixel beyond."""
    pole = math.pi / 2 / surface.matrix[3]
    if not surface.is_ellipsoid or np.abs(xy[:, 1]).max(initial=0.0) <= pole:
        return xy
    return np.stack([xy[:, 0], np.clip(xy[:, 1], -pole, pole)], axis=1)


@njit(cache=True, nogil=True)
def _measure_rings(xy: Any, rings: Any, surface: Any, inside: Any, around: Any) -> None:
    """Write area and perimeter of each ring; `surface` is its matrix, semi-major axis and squared eccentricity."""
    for ring in range(len(inside)):
        if surface[4] > 0:
            inside[ring], around[ring] = _on_ellipsoid(xy, rings[ring], rings[ring + 1], surface)
        else:
            inside[ring], around[ring] = _on_plane(xy, rings[ring], rings[ring + 1], surface)


@njit(cache=True, nogil=True)
def _on_plane(xy: Any, start: int, stop: int, surface: Any) -> tuple[float, float]:
    """Measure a ring by the shoelace formula relative to its first vertex: far from the origin it loses precision."""
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
    """Measure a ring with straight edges in longitude and latitude.

    Its area is the sum over the edges of their extent in longitude times the mean zone between them and the first
    vertex's parallel (Green's theorem); means and lengths use two Gauss points every 0.01 radians of latitude.
    """
    unit = surface[3]
    semi_major, eccentricity_sq = surface[4], surface[5]
    inside, around = 0.0, 0.0
    origin, above = xy[start, 1] * unit, 0.0  # the first vertex; small differences stay accurate
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
    """Return the area between two parallels per radian of longitude, from the first one's sine and its rise.

    Half of a^2 times the difference of two q of Snyder, Map Projections: A Working Manual (1987), eq. 3-12, in terms of
    the rise so that narrow zones lose no precision; negative southwards.
    """
    high = low + rise
    both = eccentricity_sq * low * high
    algebraic = rise * (1 + both) / ((1 - eccentricity_sq * low * low) * (1 - eccentricity_sq * high * high))
    tangent = rise / (1 - both)
    square = eccentricity_sq * tangent * tangent
    if square < 1e-5:  # atanh's series: needed for a sphere, and faster for narrow zones
        transcendental = tangent * (1 + square * (1 / 3 + square * (1 / 5 + square / 7)))
    else:
        eccentricity = math.sqrt(eccentricity_sq)
        transcendental = math.atanh(eccentricity * tangent) / eccentricity
    return semi_major * semi_major * (1 - eccentricity_sq) * (algebraic + transcendental) / 2


def to_shapes(polygons: Polygons, *, multi: bool) -> NDArray[np.object_]:
    """Return (feature,) shapely polygons or multipolygons."""
    import shapely  # noqa: PLC0415 - files are written without it

    kind = shapely.GeometryType.MULTIPOLYGON if multi else shapely.GeometryType.POLYGON
    # shapely requires offsets from 0 at every level, and nothing after the last.
    some = polygons.polygons[polygons.features[0] : polygons.features[-1] + 1]
    rings = polygons.rings[some[0] : some[-1] + 1]
    xy = polygons.xy[rings[0] : rings[-1]]
    levels = [rings - rings[0], some - some[0], polygons.features - polygons.features[0]][: 3 if multi else 2]
    return np.asarray(shapely.from_ragged_array(kind, xy, tuple(levels)), object)


MADE_BY = "made by geoseg"


@dataclass(frozen=True, slots=True)
class PolygonLayer:
    """Properties shared by all features of a file."""

    name: str
    crs: CRS | None
    """Of the coordinates; None if the raster has none."""
    legend: Nomenclature = field(default_factory=Nomenclature)
    """Names and colors by code; a code not in it is named like `class 17`."""
    multi: bool = False
    """Whether features are multipolygons."""
    confidence: bool = False
    """Whether there is a confidence column."""
    decimals: int = 7
    """Of coordinates written as text: a centimeter of longitude on the equator; RFC 7946 considers six sufficient."""
    description: str = f"Polygons of a map of classes, {MADE_BY} {VERSION}"
    """One sentence, for formats that store one."""

    @property
    def numbers(self) -> tuple[str, ...]:
        """The float64 columns, in order: meters with a CRS, pixels without."""
        unit = "px" if self.crs is None else "m"
        area = "area_px" if self.crs is None else "area_m2"
        return (area, f"perimeter_{unit}", *(("confidence",) if self.confidence else ()))

    def name_of(self, code: int) -> str:
        """Return the name of a class."""
        return self.legend.of(code).name


@dataclass(frozen=True, slots=True)
class FeatureTable:
    """A batch of features, ready to be written."""

    polygons: Polygons
    area: NDArray[np.float64]
    """(feature,) square meters, or pixels for a layer without a CRS."""
    perimeter: NDArray[np.float64]
    """(feature,) meters, or pixel sides for a layer without a CRS."""

    def __post_init__(self) -> None:
        if not len(self) == len(self.area) == len(self.perimeter):
            raise ValueError(f"{len(self)} features, {len(self.area)} areas, {len(self.perimeter)} perimeters")

    def __len__(self) -> int:
        return len(self.polygons)

    @property
    def numbers(self) -> tuple[NDArray[np.float64], ...]:
        """The float64 columns in the order of `PolygonLayer.numbers`; a missing confidence is NaN."""
        confidence = self.polygons.confidence
        return (self.area, self.perimeter, *(() if confidence is None else (confidence,)))

    def part(self, start: int, stop: int) -> FeatureTable:
        """Return a range of features, without copying."""
        polygons = self.polygons
        polygons_part = replace(
            polygons,
            codes=polygons.codes[start:stop],
            area_px=polygons.area_px[start:stop],
            features=polygons.features[start : stop + 1],
            confidence=None if polygons.confidence is None else polygons.confidence[start:stop],
            confidence_px=None if polygons.confidence_px is None else polygons.confidence_px[start:stop],
        )
        return FeatureTable(polygons_part, self.area[start:stop], self.perimeter[start:stop])
