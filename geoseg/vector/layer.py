"""What a file of polygons holds: a layer, and the tables of features that flow into it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from rasterio.crs import CRS

from geoseg.legend import Nomenclature
from geoseg.vector.polygons import Polygons
from geoseg.version import VERSION

MADE_BY = "made by geoseg"


@dataclass(frozen=True, slots=True)
class Layer:
    """What all features of one file share."""

    name: str
    crs: CRS | None
    """Of the coordinates; None where the raster has none."""
    legend: Nomenclature = field(default_factory=Nomenclature)
    """Names and colours by code; a code that it lacks is named `class 17`."""
    multi: bool = False
    """Whether features are multipolygons."""
    confidence: bool = False
    """Whether there is a column of confidence."""
    description: str = f"Polygons of a map of classes, {MADE_BY} {VERSION}"
    """One sentence for the formats that keep one."""

    @property
    def numbers(self) -> tuple[str, ...]:
        """The columns of float64, in order: metres with a CRS, pixels without."""
        unit = "px" if self.crs is None else "m"
        area = "area_px" if self.crs is None else "area_m2"
        return (area, f"perimeter_{unit}", *(("confidence",) if self.confidence else ()))

    def name_of(self, code: int) -> str:
        """Return the name of a class."""
        return self.legend.of(code).name


@dataclass(frozen=True, slots=True)
class Table:
    """A batch of features, ready to be written."""

    polygons: Polygons
    area: NDArray[np.float64]
    """(feature,) square metres, or pixels for a layer without CRS."""
    perimeter: NDArray[np.float64]
    """(feature,) metres, or sides of a pixel for a layer without CRS."""

    def __post_init__(self) -> None:
        if not len(self) == len(self.area) == len(self.perimeter):
            raise ValueError(f"{len(self)} features, {len(self.area)} areas, {len(self.perimeter)} perimeters")

    def __len__(self) -> int:
        return len(self.polygons)

    @property
    def numbers(self) -> tuple[NDArray[np.float64], ...]:
        """The columns of float64 in the order of `Layer.numbers`; the confidence is NaN where there is none."""
        confidence = self.polygons.confidence
        return (self.area, self.perimeter, *(() if confidence is None else (confidence,)))

    def part(self, start: int, stop: int) -> Table:
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
        return Table(some, self.area[start:stop], self.perimeter[start:stop])


def parts(table: Table, sizes_bytes: NDArray[np.int64], most_features: int, most_bytes: int) -> Iterator[Table]:
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
