"""Tables of features as Arrow's record batches, geometry in well-known binary."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from geoseg.errors import OutputError
from geoseg.vector.layer import Layer, Table, parts
from geoseg.vector.wkb import to_wkb, wkb_sizes

if TYPE_CHECKING:
    import pyarrow as pa

BATCH_FEATURES = 65_536
BATCH_BYTES = 128 * 1024**2
"""Bounds of one batch: what is in memory twice. A feature that is larger makes a batch of its own."""
FEATURE_BYTES = 2**31 - 1
"""Arrow counts the bytes of a batch's geometry in 32 bits, FlatGeobuf those of a feature in as many."""
GEOMETRY = "geometry"
_MARK = {"ARROW:extension:name": "geoarrow.wkb", "ARROW:extension:metadata": "{}"}


def schema(layer: Layer) -> pa.Schema:
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


def bounded(tables: Iterable[Table], layer: Layer, feature_bytes: int = FEATURE_BYTES) -> Iterator[Table]:
    """Yield the features in tables of bounded size, in order. OutputError for a feature of more than some bytes."""
    for table in tables:
        sizes = wkb_sizes(table.polygons, multi=layer.multi)
        if len(table) and sizes.max() > feature_bytes:
            raise too_large(table, int(sizes.argmax()), layer, feature_bytes)
        yield from parts(table, sizes, BATCH_FEATURES, BATCH_BYTES)


def too_large(table: Table, feature: int, layer: Layer, limit_bytes: int) -> OutputError:
    """Return the error for a feature that a format cannot hold."""
    polygons = table.polygons
    first, last = (polygons.rings[polygons.polygons[polygons.features[feature + end]]] for end in (0, 1))
    name = layer.name_of(int(polygons.codes[feature]))
    return OutputError(
        f"a polygon of {name} has {last - first} vertices, more than the {limit_bytes // 16} that the format holds; "
        "use fewer by --simplify or --min-area, or do without --dissolve"
    )


def record_batch(table: Table, layer: Layer) -> pa.RecordBatch:
    """Return the features of a bounded table in the columns of `schema`."""
    import pyarrow as pa  # noqa: PLC0415 - see schema

    offsets, content = to_wkb(table.polygons, multi=layer.multi)
    geometry = pa.Array.from_buffers(
        pa.binary(), len(table), [None, pa.py_buffer(offsets.astype(np.int32)), pa.py_buffer(content)]
    )
    codes, rows = np.unique(table.polygons.codes, return_inverse=True)
    names = pa.array([layer.name_of(int(code)) for code in codes], pa.string()).take(pa.array(rows))
    columns = [pa.array(table.polygons.codes), names]
    # NaN is no confidence: null in a file.
    columns += [
        pa.array(numbers, from_pandas=name == "confidence")
        for name, numbers in zip(layer.numbers, table.numbers, strict=True)
    ]
    return pa.RecordBatch.from_arrays([*columns, geometry], schema=schema(layer))
