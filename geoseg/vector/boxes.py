"""The bounding box of each feature."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from geoseg.vector.polygons import Polygons


def boxes(polygons: Polygons) -> NDArray[np.float64]:
    """Return (feature, 4): least x, least y, greatest x, greatest y."""
    if not len(polygons):
        return np.empty((0, 4))
    vertices = polygons.rings[polygons.polygons[polygons.features]]
    xy, starts = polygons.xy[vertices[0] : vertices[-1]], vertices[:-1] - vertices[0]
    least = [np.minimum.reduceat(xy[:, axis], starts) for axis in (0, 1)]
    greatest = [np.maximum.reduceat(xy[:, axis], starts) for axis in (0, 1)]
    return np.column_stack([*least, *greatest])
