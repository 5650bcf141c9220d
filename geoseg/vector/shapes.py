"""Polygons as shapely's, for those who go on in Python."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from geoseg.vector.polygons import Polygons


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
