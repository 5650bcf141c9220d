"""Features as a GeoDataFrame, for those who go on in Python."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.crs import CRS

from geoseg.vector.layer import Layer, Table
from geoseg.vector.reproject import in_crs, to_pyproj
from geoseg.vector.shapes import to_shapes


def to_geodataframe(tables: Iterable[Table], layer: Layer, *, crs: CRS | None = None) -> Any:
    """Return all features in the columns that the files have: code, name, area, perimeter, confidence, geometry.

    `crs` is what they shall be in, where that is not `layer.crs`. Raises what the tables raise.
    """
    import geopandas  # noqa: PLC0415 - a second; files are written without it
    import pandas as pd  # noqa: PLC0415 - see above

    layer, tables = in_crs(layer, tables, crs)
    tables = list(tables)
    codes = _joined([table.polygons.codes for table in tables], np.int32)
    known, rows = np.unique(codes, return_inverse=True)
    names = np.array([layer.name_of(int(code)) for code in known], object)
    columns: dict[str, Any] = {"code": codes, "name": pd.Series(names[rows], dtype="str")}
    for place, name in enumerate(layer.numbers):
        columns[name] = _joined([table.numbers[place] for table in tables], np.float64)
    geometry = _joined([to_shapes(table.polygons, multi=layer.multi) for table in tables], object)
    crs = None if layer.crs is None else to_pyproj(layer.crs)
    return geopandas.GeoDataFrame(columns, geometry=geometry, crs=crs)


def _joined(arrays: list[NDArray[Any]], dtype: type) -> NDArray[Any]:
    return np.concatenate([np.empty(0, dtype), *arrays])
