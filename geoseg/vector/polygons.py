"""Polygons as flat arrays, one table of them measured, and the layer they belong to: no object for each feature."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from rasterio.crs import CRS

from geoseg.legend import Nomenclature
from geoseg.version import VERSION

Number = TypeVar("Number", bound=np.generic)


@dataclass(frozen=True, slots=True)
class Polygons:
    """Features in GeoArrow's nested layout: entry i of a level owns [offsets[i], offsets[i + 1]) of the next."""

    codes: NDArray[np.int32]
    """(feature,) class of each feature."""
    area_px: NDArray[np.int64]
    """(feature,) pixels of each feature in the raster, before any simplification."""
    features: NDArray[np.int64]
    """(feature + 1,) offsets into the polygons; one polygon a feature unless it is made of parts."""
    polygons: NDArray[np.int64]
    """(polygon + 1,) offsets into the rings: the outer ring, then its holes."""
    rings: NDArray[np.int64]
    """(ring + 1,) offsets into the vertices. Rings are closed: the last vertex is the first."""
    xy: NDArray[np.float64]
    """(vertex, 2) x and y in the raster's CRS. Outer rings run counter-clockwise in that plane, holes clockwise."""
    confidence: NDArray[np.float64] | None = None
    """(feature,) mean confidence, NaN where there is none; None if no confidence raster was given."""
    confidence_px: NDArray[np.int64] | None = None
    """(feature,) pixels that have a confidence."""

    def __len__(self) -> int:
        return len(self.codes)

    def take(self, chosen: NDArray[np.int64]) -> Self:
        """Return some of the features, in another order if so chosen."""
        features, polygons = _taken(self.features, chosen)
        of_polygons, rings = _taken(self.polygons, polygons)
        of_rings, vertices = _taken(self.rings, rings)
        return type(self)(
            self.codes[chosen], self.area_px[chosen], features, of_polygons, of_rings, self.xy[vertices],
            None if self.confidence is None else self.confidence[chosen],
            None if self.confidence_px is None else self.confidence_px[chosen],
        )  # fmt: skip

    def exchange(self, some: NDArray[np.int64], others: Self) -> Self:
        """Return the features in their order, with others in place of some, (feature,) ascending."""
        rest = np.setdiff1d(np.arange(len(self)), some, assume_unique=True)
        mixed = self.concatenate([self.take(rest), others])
        return mixed.take(np.argsort(np.concatenate([rest, some]), kind="stable"))

    @classmethod
    def concatenate(cls, batches: Sequence[Self]) -> Self:
        """Return the features of one batch or more, in order."""
        return cls(
            np.concatenate([batch.codes for batch in batches]),
            np.concatenate([batch.area_px for batch in batches]),
            _joined([batch.features for batch in batches]),
            _joined([batch.polygons for batch in batches]),
            _joined([batch.rings for batch in batches]),
            np.concatenate([batch.xy for batch in batches]),
            _all_or_none([batch.confidence for batch in batches]),
            _all_or_none([batch.confidence_px for batch in batches]),
        )


def _taken(offsets: NDArray[np.int64], chosen: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the offsets of the entries chosen, and the entries of the next level that they own."""
    counts = offsets[chosen + 1] - offsets[chosen]
    taken = np.zeros(len(chosen) + 1, np.int64)
    np.cumsum(counts, out=taken[1:])
    return taken, np.arange(taken[-1]) + np.repeat(offsets[chosen] - taken[:-1], counts)


def _joined(levels: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    starts = np.cumsum([0, *(offsets[-1] for offsets in levels)])
    ends = [offsets[1:] + start for offsets, start in zip(levels, starts[:-1], strict=True)]
    return np.concatenate([np.zeros(1, np.int64), *ends])


def _all_or_none(columns: Sequence[NDArray[Number] | None]) -> NDArray[Number] | None:
    there = [column for column in columns if column is not None]
    return np.concatenate(there) if there else None


def boxes(polygons: Polygons) -> NDArray[np.float64]:
    """Return (feature, 4): least x, least y, greatest x, greatest y."""
    if not len(polygons):
        return np.empty((0, 4))
    vertices = polygons.rings[polygons.polygons[polygons.features]]
    xy, starts = polygons.xy[vertices[0] : vertices[-1]], vertices[:-1] - vertices[0]
    least = [np.minimum.reduceat(xy[:, axis], starts) for axis in (0, 1)]
    greatest = [np.maximum.reduceat(xy[:, axis], starts) for axis in (0, 1)]
    return np.column_stack([*least, *greatest])


def to_shapes(polygons: Polygons, *, multi: bool) -> NDArray[np.object_]:
    """Return (feature,) shapely's polygons or multipolygons."""
    import shapely  # noqa: PLC0415 - files are written without it

    kind = shapely.GeometryType.MULTIPOLYGON if multi else shapely.GeometryType.POLYGON
    # shapely wants every level from its beginning, and nothing after its end.
    some = polygons.polygons[polygons.features[0] : polygons.features[-1] + 1]
    rings = polygons.rings[some[0] : some[-1] + 1]
    xy = polygons.xy[rings[0] : rings[-1]]
    levels = [rings - rings[0], some - some[0], polygons.features - polygons.features[0]][: 3 if multi else 2]
    return np.asarray(shapely.from_ragged_array(kind, xy, tuple(levels)), object)


MADE_BY = "made by geoseg"


@dataclass(frozen=True, slots=True)
class PolygonLayer:
    """What all features of one file share."""

    name: str
    crs: CRS | None
    """Of the coordinates; None where the raster has none."""
    legend: Nomenclature = field(default_factory=Nomenclature)
    """Names and colors by code; a code that it lacks is named `class 17`."""
    multi: bool = False
    """Whether features are multipolygons."""
    confidence: bool = False
    """Whether there is a column of confidence."""
    description: str = f"Polygons of a map of classes, {MADE_BY} {VERSION}"
    """One sentence for the formats that keep one."""

    @property
    def numbers(self) -> tuple[str, ...]:
        """The columns of float64, in order: meters with a CRS, pixels without."""
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
    """(feature,) square meters, or pixels for a layer without CRS."""
    perimeter: NDArray[np.float64]
    """(feature,) meters, or sides of a pixel for a layer without CRS."""

    def __post_init__(self) -> None:
        if not len(self) == len(self.area) == len(self.perimeter):
            raise ValueError(f"{len(self)} features, {len(self.area)} areas, {len(self.perimeter)} perimeters")

    def __len__(self) -> int:
        return len(self.polygons)

    @property
    def numbers(self) -> tuple[NDArray[np.float64], ...]:
        """The columns of float64 in the order of `PolygonLayer.numbers`; the confidence is NaN where there is none."""
        confidence = self.polygons.confidence
        return (self.area, self.perimeter, *(() if confidence is None else (confidence,)))

    def part(self, start: int, stop: int) -> FeatureTable:
        """Return some of the features, without a copy."""
        polygons = self.polygons
        confidence = None if polygons.confidence is None else polygons.confidence[start:stop]
        pixels = None if polygons.confidence_px is None else polygons.confidence_px[start:stop]
        some = replace(
            polygons,
            codes=polygons.codes[start:stop],
            area_px=polygons.area_px[start:stop],
            features=polygons.features[start : stop + 1],
            confidence=confidence,
            confidence_px=pixels,
        )
        return FeatureTable(some, self.area[start:stop], self.perimeter[start:stop])


def parts(
    table: FeatureTable, sizes_bytes: NDArray[np.int64], most_features: int, most_bytes: int
) -> Iterator[FeatureTable]:
    """Cut a table into parts of few features and few bytes, in order; a larger feature is a part of its own.

    `sizes_bytes` is (feature,).
    """
    ends = np.cumsum(sizes_bytes)
    start = 0
    while start < len(table):
        before = ends[start - 1] if start else 0
        fitting = int(np.searchsorted(ends, before + most_bytes, side="right"))
        stop = max(start + 1, min(fitting, start + most_features))
        yield table.part(start, stop)
        start = stop
