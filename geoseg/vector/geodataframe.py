"""Features as a GeoDataFrame, for those who go on in Python."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.vector.layer import Layer, Table
from geoseg.vector.polygons import Polygons
from geoseg.vector.reproject import to_pyproj


def to_geodataframe(tables: Iterable[Table], layer: Layer) -> Any:  # noqa: ANN401 - geopandas has no types
    """Return all features in the columns that the files have: code, name, area, perimeter, confidence, geometry."""
    import geopandas  # noqa: PLC0415 - a second; files are written without it
    import pandas as pd  # noqa: PLC0415 - see above

    tables = list(tables)
    codes = _joined([table.polygons.codes for table in tables], np.int32)
    known, rows = np.unique(codes, return_inverse=True)
    names = np.array([layer.name_of(int(code)) for code in known], object)
    columns: dict[str, Any] = {"code": codes, "name": pd.Series(names[rows], dtype="str")}
    for place, name in enumerate(layer.numbers):
        columns[name] = _joined([table.numbers[place] for table in tables], np.float64)
    geometry = _joined([_shapes(table.polygons, multi=layer.multi) for table in tables], object)
    crs = None if layer.crs is None else to_pyproj(layer.crs)
    return geopandas.GeoDataFrame(columns, geometry=geometry, crs=crs)


def _joined(arrays: list[NDArray[Any]], dtype: type) -> NDArray[Any]:
    return np.concatenate([np.empty(0, dtype), *arrays])


def _shapes(polygons: Polygons, *, multi: bool) -> NDArray[np.object_]:
    """Return (feature,) shapely's polygons or multipolygons."""
    import shapely  # noqa: PLC0415 - see to_geodataframe

    kind = shapely.GeometryType.MULTIPOLYGON if multi else shapely.GeometryType.POLYGON
    # shapely wants every level from its beginning, and nothing after its end.
    some = polygons.polygons[polygons.features[0] : polygons.features[-1] + 1]
    rings = polygons.rings[some[0] : some[-1] + 1]
    xy = polygons.xy[rings[0] : rings[-1]]
    levels = [rings - rings[0], some - some[0], polygons.features - polygons.features[0]][: 3 if multi else 2]
    return np.asarray(shapely.from_ragged_array(kind, xy, tuple(levels)), object)
