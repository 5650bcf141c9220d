"""Tables of features as Arrow's record batches, and as the file made of these: GeoParquet 1.1.

Geometry is well-known binary, straight from the flat arrays. A GeoParquet file (https://geoparquet.org/releases/v1.1.0/)
has a box for each feature, and row groups.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geoseg.compiled import njit
from geoseg.errors import OutputError
from geoseg.vector.io.crs import to_pyproj
from geoseg.vector.polygons import FeatureTable, PolygonLayer, Polygons, boxes, parts

if TYPE_CHECKING:
    import pyarrow as pa

_HEAD_BYTES = 9
"""Byte order, type, count of parts."""
_COUNT_BYTES = 4
_VERTEX_BYTES = 16
_POLYGON = 3
_MULTIPOLYGON = 6
_BOX = "bbox"
_SIDES = ("xmin", "ymin", "xmax", "ymax")
_COMPRESSION = "zstd"


def wkb_sizes(polygons: Polygons, *, multi: bool) -> NDArray[np.int64]:
    """Return (feature,) bytes that each feature will take in well-known binary."""
    first_ring = polygons.polygons[polygons.features]
    rings, vertices = np.diff(first_ring), np.diff(polygons.rings[first_ring])
    parts = np.diff(polygons.features)
    heads = parts + (multi | (parts != 1))
    return np.asarray(_HEAD_BYTES * heads + _COUNT_BYTES * rings + _VERTEX_BYTES * vertices)


def to_wkb(polygons: Polygons, *, multi: bool) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Return (feature + 1,) offsets and the bytes of all features: little-endian ISO WKB, Polygon or MultiPolygon.

    The format: OGC 06-103r4, section 8.2. A feature of several polygons is a MultiPolygon, with `multi` each is.
    """
    offsets = np.zeros(len(polygons) + 1, np.int64)
    np.cumsum(wkb_sizes(polygons, multi=multi), out=offsets[1:])
    content = np.empty(offsets[-1], np.uint8)
    vertices = np.ascontiguousarray(polygons.xy, "<f8").reshape(-1).view(np.uint8)
    _fill((polygons.features, polygons.polygons, polygons.rings), vertices, multi, content)
    return offsets, content


@njit(cache=True, nogil=True)
def _fill(shape: Any, vertices: Any, multi: bool, content: Any) -> None:
    features, polygons, rings = shape
    at = 0
    for feature in range(len(features) - 1):
        parts = features[feature + 1] - features[feature]
        if multi or parts != 1:
            at = _head(content, at, _MULTIPOLYGON, parts)
        for polygon in range(features[feature], features[feature + 1]):
            at = _head(content, at, _POLYGON, polygons[polygon + 1] - polygons[polygon])
            for ring in range(polygons[polygon], polygons[polygon + 1]):
                at = _count(content, at, rings[ring + 1] - rings[ring])
                start = rings[ring] * _VERTEX_BYTES
                size = rings[ring + 1] * _VERTEX_BYTES - start
                for byte in range(size):  # LLVM makes one wide copy of it; floats would stand unaligned
                    content[at + byte] = vertices[start + byte]
                at += size


@njit(cache=True, nogil=True)
def _head(content: Any, at: int, kind: int, parts: int) -> int:
    content[at] = 1
    return _count(content, _count(content, at + 1, kind), parts)


@njit(cache=True, nogil=True)
def _count(content: Any, at: int, value: int) -> int:
    for byte in range(_COUNT_BYTES):
        content[at + byte] = (value >> (8 * byte)) & 255
    return at + _COUNT_BYTES


BATCH_FEATURES = 65_536
BATCH_BYTES = 128 * 1024**2
"""Bounds of one batch: what is in memory twice. A feature that is larger makes a batch of its own."""
FEATURE_BYTES = 2**31 - 1
"""Arrow counts the bytes of a batch's geometry in 31 bits."""
GEOMETRY = "geometry"
_MARK = {"ARROW:extension:name": "geoarrow.wkb", "ARROW:extension:metadata": "{}"}


def schema(layer: PolygonLayer) -> pa.Schema:
    """Return the columns of a layer: code, name, area, perimeter, confidence if there is one, geometry."""
    import pyarrow as pa  # noqa: PLC0415 - a format that does without Arrow starts quicker

    return pa.schema(
        [
            pa.field("code", pa.int32(), nullable=False),
            pa.field("name", pa.string(), nullable=False),
            *(pa.field(name, pa.float64(), nullable=name == "confidence") for name in layer.numbers),
            pa.field(GEOMETRY, pa.binary(), nullable=False, metadata=_MARK),
        ]
    )


def bounded(
    tables: Iterable[FeatureTable], layer: PolygonLayer, feature_bytes: int = FEATURE_BYTES
) -> Iterator[FeatureTable]:
    """Yield the features in tables of bounded size, in order. OutputError for a feature of more than some bytes."""
    for table in tables:
        sizes = wkb_sizes(table.polygons, multi=layer.multi)
        if len(table) and sizes.max() > feature_bytes:
            raise too_large(table, int(sizes.argmax()), layer, feature_bytes)
        yield from parts(table, sizes, BATCH_FEATURES, BATCH_BYTES)


def too_large(table: FeatureTable, feature: int, layer: PolygonLayer, limit_bytes: int) -> OutputError:
    """Return the error for a feature that a format cannot hold."""
    polygons = table.polygons
    first, last = (polygons.rings[polygons.polygons[polygons.features[feature + end]]] for end in (0, 1))
    name = layer.name_of(int(polygons.codes[feature]))
    return OutputError(
        f"a polygon of {name} has {last - first} vertices, more than the {limit_bytes // 16} that the format holds; "
        "use fewer by `simplify` or `min_area`, or do without `dissolve=True`"
    )


def record_batch(table: FeatureTable, layer: PolygonLayer) -> pa.RecordBatch:
    """Return the features of a bounded table in the columns of `schema`."""
    import pyarrow as pa  # noqa: PLC0415 - see schema

    offsets, content = to_wkb(table.polygons, multi=layer.multi)
    columns = [
        column(table.polygons.codes, pa.int32()),
        _names(table, layer),
        # NaN is no confidence: null in a file.
        *(
            column(numbers, pa.float64(), gaps=name == "confidence")
            for name, numbers in zip(layer.numbers, table.numbers, strict=True)
        ),
        _texts(pa.binary(), offsets, content),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema(layer))


def column(values: NDArray[Any], kind: pa.DataType, *, gaps: bool = False) -> pa.Array:
    """Return an array of numbers as Arrow's, without a copy where it can be; NaN is null if there may be gaps.

    `pyarrow.array` would do it too, and import pandas to see whether the array is one of its own: half a second.
    """
    import pyarrow as pa  # noqa: PLC0415 - see schema

    valid = pa.py_buffer(np.packbits(~np.isnan(values), bitorder="little")) if gaps else None
    numbers = np.ascontiguousarray(values, kind.to_pandas_dtype())  # numpy's, in spite of the name
    return pa.Array.from_buffers(kind, len(values), [valid, pa.py_buffer(numbers)])


def _names(table: FeatureTable, layer: PolygonLayer) -> pa.Array:
    import pyarrow as pa  # noqa: PLC0415 - see schema

    codes, rows = np.unique(table.polygons.codes, return_inverse=True)
    texts = [layer.name_of(int(code)).encode() for code in codes]
    offsets = np.cumsum([0, *map(len, texts)])
    names = _texts(pa.string(), offsets, np.frombuffer(b"".join(texts), np.uint8))
    return pa.DictionaryArray.from_arrays(column(rows.astype(np.int32), pa.int32()), names).dictionary_decode()


def _texts(kind: pa.DataType, offsets: NDArray[np.int64], content: NDArray[np.uint8]) -> pa.Array:
    import pyarrow as pa  # noqa: PLC0415 - see schema

    buffers = [None, pa.py_buffer(offsets.astype(np.int32)), pa.py_buffer(content)]
    return pa.Array.from_buffers(kind, len(offsets) - 1, buffers)


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
