"""GeoParquet 1.1 (https://geoparquet.org/releases/v1.1.0/): well-known binary, a box for each feature, row groups."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geoseg.vector.io.arrow import BATCH_BYTES, BATCH_FEATURES, GEOMETRY, bounded, column, record_batch, schema
from geoseg.vector.io.crs import to_pyproj
from geoseg.vector.polygons import FeatureTable, PolygonLayer, boxes

if TYPE_CHECKING:
    import pyarrow as pa

_BOX = "bbox"
_SIDES = ("xmin", "ymin", "xmax", "ymax")
_COMPRESSION = "zstd"


def write_geoparquet(path: Path, layer: PolygonLayer, tables: Iterable[FeatureTable]) -> None:
    """Write GeoParquet, a row group for 65,536 features or 128 MiB. Raises OSError, and whatever the tables raise."""
    import pyarrow as pa  # noqa: PLC0415 - a format that does without Arrow starts quicker
    import pyarrow.parquet as pq  # noqa: PLC0415 - see above

    columns = _columns(layer)
    plain = [name for name in columns.names if name not in (GEOMETRY, _BOX)]
    extent = np.array([np.inf, np.inf, -np.inf, -np.inf])
    # Our own handle: the writer keeps its file open where closing fails, as on a full disk.
    with (
        pa.OSFile(str(path), "wb") as file,
        pq.ParquetWriter(
            file,
            columns,
            compression=_COMPRESSION,
            use_dictionary=["code", "name"],
            write_statistics=[*plain, *(f"{_BOX}.{side}" for side in _SIDES)],
            # Readers take the metadata of a stored schema for the file's: `geo`, known last, would not be among them.
            store_schema=False,
        ) as writer,
    ):
        for group in _row_groups(_batches(tables, layer, columns, extent)):
            writer.write_table(group)
        writer.add_key_value_metadata({"geo": json.dumps(_metadata(layer, extent))})


def _columns(layer: PolygonLayer) -> pa.Schema:
    import pyarrow as pa  # noqa: PLC0415 - see above

    box = pa.struct([pa.field(side, pa.float64(), nullable=False) for side in _SIDES])
    plain = schema(layer)
    # The mark of GeoArrow goes: newer versions of Arrow would make another type of it than GeoParquet 1.1 knows.
    place = plain.get_field_index(GEOMETRY)
    return plain.set(place, plain.field(place).remove_metadata()).append(pa.field(_BOX, box, nullable=False))


def _batches(
    tables: Iterable[FeatureTable], layer: PolygonLayer, columns: pa.Schema, extent: NDArray[np.float64]
) -> Iterator[pa.RecordBatch]:
    """Yield record batches with a box for each feature; widen the extent by them."""
    import pyarrow as pa  # noqa: PLC0415 - see above

    for table in bounded(tables, layer):
        sides = boxes(table.polygons)
        extent[:2] = np.minimum(extent[:2], sides[:, :2].min(axis=0))
        extent[2:] = np.maximum(extent[2:], sides[:, 2:].max(axis=0))
        box = pa.StructArray.from_arrays(
            [column(side, pa.float64()) for side in sides.T], fields=list(columns.field(_BOX).type)
        )
        yield pa.RecordBatch.from_arrays([*record_batch(table, layer).columns, box], schema=columns)


def _row_groups(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Gather batches: a strip may yield few features, and a row group of few is slow to read."""
    import pyarrow as pa  # noqa: PLC0415 - see above

    waiting: list[pa.RecordBatch] = []
    features = size_bytes = 0
    for batch in batches:
        if waiting and (features + len(batch) > BATCH_FEATURES or size_bytes + batch.nbytes > BATCH_BYTES):
            yield pa.Table.from_batches(waiting)
            waiting, features, size_bytes = [], 0, 0
        waiting.append(batch)
        features, size_bytes = features + len(batch), size_bytes + batch.nbytes
    if waiting:
        yield pa.Table.from_batches(waiting)


def _metadata(layer: PolygonLayer, extent: NDArray[np.float64]) -> dict[str, Any]:
    """Return the file's `geo` entry."""
    geometry: dict[str, Any] = {
        "encoding": "WKB",
        "geometry_types": ["MultiPolygon" if layer.multi else "Polygon"],
        # Left out, it would mean longitude and latitude.
        "crs": None if layer.crs is None else to_pyproj(layer.crs).to_json_dict(),
        "orientation": "counterclockwise",
        "edges": "planar",
        "covering": {"bbox": {side: [_BOX, side] for side in _SIDES}},
    }
    if np.isfinite(extent).all():
        geometry["bbox"] = extent.tolist()
    return {"version": "1.1.0", "primary_column": GEOMETRY, "columns": {GEOMETRY: geometry}}
