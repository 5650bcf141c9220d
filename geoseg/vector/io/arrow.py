"""Tables of features as Arrow record batches, and the files written from them: GeoParquet 1.1, and GDAL's formats.

Geometry is well-known binary, straight from the flat arrays. A GeoParquet file (https://geoparquet.org/releases/v1.1.0/)
has a box per feature, and row groups. GDAL receives the batches as a stream.
"""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geoseg.atomic import free_space_bytes
from geoseg.compiled import njit
from geoseg.errors import OutputError
from geoseg.vector.io.crs import to_pyproj, wkt
from geoseg.vector.polygons import FeatureTable, PolygonLayer, Polygons, boxes

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
    """Return (feature,) the size of each feature in well-known binary, in bytes."""
    first_ring = polygons.polygons[polygons.features]
    rings, vertices = np.diff(first_ring), np.diff(polygons.rings[first_ring])
    parts = np.diff(polygons.features)
    heads = parts + (multi | (parts != 1))
    return np.asarray(_HEAD_BYTES * heads + _COUNT_BYTES * rings + _VERTEX_BYTES * vertices)


def to_wkb(polygons: Polygons, *, multi: bool) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Return (feature + 1,) offsets and the bytes of all features: little-endian ISO WKB, Polygon or MultiPolygon.

    Format: OGC 06-103r4, section 8.2. A feature with several polygons is a MultiPolygon; with `multi` all are.
    """
    offsets = np.append(0, np.cumsum(wkb_sizes(polygons, multi=multi)))
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
                for byte in range(size):  # LLVM turns it into wide copies; floats would be unaligned
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
"""Limits of one batch, which is in memory twice. A larger feature is its own batch."""
FEATURE_BYTES = 2**31 - 1
"""Arrow counts the bytes of a batch's geometry in 31 bits."""
GEOMETRY = "geometry"
_EXTENSION_METADATA = {"ARROW:extension:name": "geoarrow.wkb", "ARROW:extension:metadata": "{}"}


def schema(layer: PolygonLayer) -> pa.Schema:
    """Return the columns of a layer: code, name, area, perimeter, confidence if any, geometry."""
    import pyarrow as pa  # noqa: PLC0415 - formats that do not need Arrow start faster

    return pa.schema(
        [
            pa.field("code", pa.int32(), nullable=False),
            pa.field("name", pa.string(), nullable=False),
            *(pa.field(name, pa.float64(), nullable=name == "confidence") for name in layer.numbers),
            pa.field(GEOMETRY, pa.binary(), nullable=False, metadata=_EXTENSION_METADATA),
        ]
    )


def bounded(
    tables: Iterable[FeatureTable], layer: PolygonLayer, feature_bytes: int = FEATURE_BYTES
) -> Iterator[FeatureTable]:
    """Yield the features in tables of bounded size, in order. OutputError if a feature exceeds `feature_bytes`."""
    for table in tables:
        sizes = wkb_sizes(table.polygons, multi=layer.multi)
        if len(table) and sizes.max() > feature_bytes:
            raise _too_large(table, int(sizes.argmax()), layer, feature_bytes)
        ends = np.cumsum(sizes)
        start = 0
        while start < len(table):
            before = ends[start - 1] if start else 0
            fits_until = int(np.searchsorted(ends, before + BATCH_BYTES, side="right"))
            stop = max(start + 1, min(fits_until, start + BATCH_FEATURES))
            yield table.part(start, stop)
            start = stop


def _too_large(table: FeatureTable, feature: int, layer: PolygonLayer, limit_bytes: int) -> OutputError:
    """Return the error for a feature too large for a format."""
    polygons = table.polygons
    first, last = (polygons.rings[polygons.polygons[polygons.features[feature + end]]] for end in (0, 1))
    name = layer.name_of(int(polygons.codes[feature]))
    return OutputError(
        f"a polygon of {name} has {last - first} vertices, more than the {limit_bytes // 16} that the format allows; "
        "reduce them with `simplify` or `min_area`, or leave out `dissolve=True`"
    )


def record_batch(table: FeatureTable, layer: PolygonLayer) -> pa.RecordBatch:
    """Return the features of a bounded table in the columns of `schema`."""
    import pyarrow as pa  # noqa: PLC0415 - see schema

    offsets, content = to_wkb(table.polygons, multi=layer.multi)
    columns = [
        column(table.polygons.codes, pa.int32()),
        _names(table, layer),
        # NaN means no confidence: null in a file.
        *(
            column(numbers, pa.float64(), gaps=name == "confidence")
            for name, numbers in zip(layer.numbers, table.numbers, strict=True)
        ),
        _binary_array(pa.binary(), offsets, content),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema(layer))


def column(values: NDArray[Any], kind: pa.DataType, *, gaps: bool = False) -> pa.Array:
    """Return an array of numbers as an Arrow array, without a copy if possible; NaN is null if there may be gaps.

    `pyarrow.array` would also import pandas, to check whether the array belongs to it: half a second.
    """
    import pyarrow as pa  # noqa: PLC0415 - see schema

    valid = pa.py_buffer(np.packbits(~np.isnan(values), bitorder="little")) if gaps else None
    numbers = np.ascontiguousarray(values, kind.to_pandas_dtype())  # a numpy dtype, despite the name
    return pa.Array.from_buffers(kind, len(values), [valid, pa.py_buffer(numbers)])


def _names(table: FeatureTable, layer: PolygonLayer) -> pa.Array:
    import pyarrow as pa  # noqa: PLC0415 - see schema

    codes, rows = np.unique(table.polygons.codes, return_inverse=True)
    texts = [layer.name_of(int(code)).encode() for code in codes]
    offsets = np.cumsum([0, *map(len, texts)])
    names = _binary_array(pa.string(), offsets, np.frombuffer(b"".join(texts), np.uint8))
    return pa.DictionaryArray.from_arrays(column(rows.astype(np.int32), pa.int32()), names).dictionary_decode()


def _binary_array(kind: pa.DataType, offsets: NDArray[np.int64], content: NDArray[np.uint8]) -> pa.Array:
    import pyarrow as pa  # noqa: PLC0415 - see schema

    buffers = [None, pa.py_buffer(offsets.astype(np.int32)), pa.py_buffer(content)]
    return pa.Array.from_buffers(kind, len(offsets) - 1, buffers)


def write_geoparquet(path: Path, layer: PolygonLayer, tables: Iterable[FeatureTable]) -> None:
    """Write GeoParquet, a row group per 65,536 features or 128 MiB. Raises OSError, and whatever the tables raise."""
    import pyarrow as pa  # noqa: PLC0415 - formats that do not need Arrow start faster
    import pyarrow.parquet as pq  # noqa: PLC0415 - see above

    columns = _columns(layer)
    plain_columns = [name for name in columns.names if name not in (GEOMETRY, _BOX)]
    extent = np.array([np.inf, np.inf, -np.inf, -np.inf])
    # Our own handle: the writer keeps its file open if closing fails, for example on a full disk.
    with (
        pa.OSFile(str(path), "wb") as file,
        pq.ParquetWriter(
            file,
            columns,
            compression=_COMPRESSION,
            use_dictionary=["code", "name"],
            write_statistics=[*plain_columns, *(f"{_BOX}.{side}" for side in _SIDES)],
            # Readers use a stored schema's metadata as the file's: `geo`, known only at the end, would be missing.
            store_schema=False,
        ) as writer,
    ):
        for group in _row_groups(_batches(tables, layer, columns, extent)):
            writer.write_table(group)
        writer.add_key_value_metadata({"geo": json.dumps(_metadata(layer, extent))})


def _columns(layer: PolygonLayer) -> pa.Schema:
    import pyarrow as pa  # noqa: PLC0415 - see above

    box = pa.struct([pa.field(side, pa.float64(), nullable=False) for side in _SIDES])
    columns = schema(layer)
    # Drop the GeoArrow mark: newer versions of Arrow would turn it into a type that GeoParquet 1.1 does not know.
    index = columns.get_field_index(GEOMETRY)
    return columns.set(index, columns.field(index).remove_metadata()).append(pa.field(_BOX, box, nullable=False))


def _batches(
    tables: Iterable[FeatureTable], layer: PolygonLayer, columns: pa.Schema, extent: NDArray[np.float64]
) -> Iterator[pa.RecordBatch]:
    """Yield record batches with a box per feature; extend `extent` by the boxes."""
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
    """Combine batches: a strip may yield few features, and small row groups are slow to read."""
    import pyarrow as pa  # noqa: PLC0415 - see above

    pending: list[pa.RecordBatch] = []
    features = size_bytes = 0
    for batch in batches:
        if pending and (features + len(batch) > BATCH_FEATURES or size_bytes + batch.nbytes > BATCH_BYTES):
            yield pa.Table.from_batches(pending)
            pending, features, size_bytes = [], 0, 0
        pending.append(batch)
        features, size_bytes = features + len(batch), size_bytes + batch.nbytes
    if pending:
        yield pa.Table.from_batches(pending)


def _metadata(layer: PolygonLayer, extent: NDArray[np.float64]) -> dict[str, Any]:
    """Return the file's `geo` entry."""
    geometry: dict[str, Any] = {
        "encoding": "WKB",
        "geometry_types": ["MultiPolygon" if layer.multi else "Polygon"],
        # If omitted, it would mean longitude and latitude.
        "crs": None if layer.crs is None else to_pyproj(layer.crs).to_json_dict(),
        "orientation": "counterclockwise",
        "edges": "planar",
        "covering": {"bbox": {side: [_BOX, side] for side in _SIDES}},
    }
    if np.isfinite(extent).all():
        geometry["bbox"] = extent.tolist()
    return {"version": "1.1.0", "primary_column": GEOMETRY, "columns": {GEOMETRY: geometry}}


_DISK_FULL_BYTES = 2**20
"""With less free space the disk counts as full: SQLite writes whole pages."""
GDAL_FEATURE_BYTES = 2**31 - 2**20
"""FlatGeobuf counts the bytes of a feature, including its columns, in 31 bits."""
_SEPARATED = ".geojsons"
"""The extension whose records start with the character RS, as in RFC 8142; GDAL does the same."""


def write_flatgeobuf(path: Path, layer: PolygonLayer, tables: Iterable[FeatureTable]) -> None:
    """Write FlatGeobuf with its spatial index, features along a Hilbert curve. Raises the same as `write_gdal`.

    GDAL keeps about a hundred bytes per feature in memory until the end.
    """
    options = {"SPATIAL_INDEX": "YES", "TITLE": layer.name, "DESCRIPTION": layer.description}
    write_gdal(path, layer, tables, driver="FlatGeobuf", layer_options=options)


def write_geojson(path: Path, layer: PolygonLayer, tables: Iterable[FeatureTable]) -> None:
    """Write one FeatureCollection as in RFC 7946. Raises the same as `write_gdal`.

    Rings are already right-handed and cut at the 180th meridian. GDAL's own RFC 7946 option would refuse coordinates
    without a CRS, and half a pixel beyond a pole.
    """
    options = {"COORDINATE_PRECISION": str(layer.decimals)}
    write_gdal(path, layer, tables, driver="GeoJSON", layer_options=options, crs=None)


def write_geojson_sequence(path: Path, layer: PolygonLayer, tables: Iterable[FeatureTable]) -> None:
    """Write one feature per line, after the character RS for `.geojsons`. Raises the same as `write_gdal`."""
    separator = "YES" if path.suffix.lower() == _SEPARATED else "NO"
    options = {"RS": separator, "COORDINATE_PRECISION": str(layer.decimals)}
    write_gdal(path, layer, tables, driver="GeoJSONSeq", layer_options=options, crs="EPSG:4326")


def write_gdal(
    path: Path,
    layer: PolygonLayer,
    tables: Iterable[FeatureTable],
    *,
    driver: str,
    layer_options: Mapping[str, str],
    dataset_options: Mapping[str, str] | None = None,
    feature_bytes: int | None = None,
    settings: Mapping[str, str] | None = None,
    crs: str | None = "layer",
) -> None:
    """Write a file with one of GDAL's drivers.

    `feature_bytes` is the driver's limit per feature, by default GDAL_FEATURE_BYTES; `crs` is the CRS given to GDAL, by
    default the layer's. Raises OSError, OutputError, and whatever the tables raise.
    """
    import pyarrow as pa  # noqa: PLC0415 - formats that do not need it start faster
    import pyogrio  # noqa: PLC0415 - half a second; other formats do not need it

    stream = _BatchStream(bounded(tables, layer, feature_bytes or GDAL_FEATURE_BYTES), layer)
    batches = iter(stream)
    next(batches)  # from here on it catches an interruption, which Arrow's C stream would lose
    try:
        with _settings(settings or {}), _plain_path(path) as target:
            pyogrio.write_arrow(
                pa.RecordBatchReader.from_batches(schema(layer), batches),
                target,
                layer=layer.name,
                driver=driver,
                geometry_type="MultiPolygon" if layer.multi else "Polygon",
                crs=crs if crs != "layer" else layer.crs and wkt(layer.crs),
                dataset_options=dict(dataset_options or {}),
                layer_options=dict(layer_options),
            )
    except Exception as error:
        if stream.failure is None:
            raise _os_error(path.parent, error, driver) from error
    if stream.failure is not None:  # Arrow's C stream passes on only a text, or nothing
        raise stream.failure from None


def copy_gdal(
    path: Path,
    layer: PolygonLayer,
    target_path: Path,
    *,
    driver: str,
    layer_options: Mapping[str, str],
    settings: Mapping[str, str] | None = None,
) -> None:
    """Copy a layer into another file that has no layer of that name. Raises OSError."""
    import pyogrio  # noqa: PLC0415 - see write_gdal

    try:
        with (
            _settings(settings or {}),
            _plain_path(path) as source,
            _plain_path(target_path) as target,
            pyogrio.open_arrow(source, layer=layer.name, use_pyarrow=False) as (_, features),
        ):
            pyogrio.write_arrow(
                features,
                target,
                layer=layer.name,
                driver=driver,
                geometry_type="MultiPolygon" if layer.multi else "Polygon",
                crs=None if layer.crs is None else wkt(layer.crs),
                layer_options=dict(layer_options),
            )
    except Exception as error:
        raise _os_error(target_path.parent, error) from error


@contextmanager
def _plain_path(path: Path) -> Iterator[Path]:
    """Yield a path that pyogrio does not alter: it cuts paths at a semicolon or an exclamation mark."""
    if sys.platform == "win32" or not set(";!") & set(str(path)):
        yield path
        return
    with TemporaryDirectory(prefix="geoseg-") as folder:
        link = Path(folder) / "target"
        link.symlink_to(path.parent, target_is_directory=True)
        yield link / path.name


def _os_error(folder: Path, error: Exception, driver: str | None = None) -> OSError:
    """Return the system's error. GDAL reports its last error, which may not be the cause."""
    free = free_space_bytes(folder)
    if free < _DISK_FULL_BYTES:
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if driver == "FlatGeobuf":  # GDAL has removed its half-written files
        needs = "FlatGeobuf needs twice the size of the file"
        return OSError(f"{error}; is the disk full? {needs}, and {free / 1e9:.3g} GB are free")
    return OSError(str(error))


class _BatchStream:
    """The record batches of bounded tables; records the failure, if any."""

    def __init__(self, tables: Iterable[FeatureTable], layer: PolygonLayer) -> None:
        self._tables, self._layer = tables, layer
        self.failure: BaseException | None = None

    def __iter__(self) -> Iterator[pa.RecordBatch | None]:
        try:
            yield None  # see write_gdal
            for table in self._tables:
                yield record_batch(table, self._layer)
        except BaseException as error:
            self.failure = error
            raise


@contextmanager
def _settings(values: Mapping[str, str]) -> Iterator[None]:
    """Apply settings of pyogrio's GDAL, which hold for the whole process, and restore the previous ones."""
    import pyogrio  # noqa: PLC0415 - see write_gdal

    previous = {name: pyogrio.get_gdal_config_option(name) for name in values}
    pyogrio.set_gdal_config_options(dict(values))
    try:
        yield
    finally:
        pyogrio.set_gdal_config_options(previous)
