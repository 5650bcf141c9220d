"""Finished polygons as flat arrays: what is traced, measured and written without one object for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self, TypeVar

import numpy as np
from numpy.typing import NDArray

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
            self.codes[chosen],
            self.area_px[chosen],
            features,
            of_polygons,
            of_rings,
            self.xy[vertices],
            None if self.confidence is None else self.confidence[chosen],
            None if self.confidence_px is None else self.confidence_px[chosen],
        )

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
