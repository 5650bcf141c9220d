"""Finished polygons as flat arrays: what is traced, measured and written without one object for each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Polygons:
    """Features in GeoArrow's nested layout; entry i of a level owns entries [offsets[i], offsets[i + 1]) of the next."""

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

    def __len__(self) -> int:
        return len(self.codes)
