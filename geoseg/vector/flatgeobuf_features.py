"""Features as FlatGeobuf's flatbuffers, straight from the flat arrays.

The tables are those of feature.fbs and header.fbs (https://github.com/flatgeobuf/flatgeobuf/tree/master/src/fbs), the
encoding is https://flatbuffers.dev/internals/. All but the properties is made of words of 4 bytes; a feature begins at
a multiple of 8 bytes, its coordinates stand at multiples of 8, as in the files of other writers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from geoseg.vector.layer import Layer, Table
from geoseg.vector.polygons import Polygons

_PROPERTIES_AT = 8
"""The word at which a feature's properties begin, after size, root, table and count."""
_VERTEX_WORDS = 4


def to_flatgeobuf(table: Table, layer: Layer) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Return (feature + 1,) offsets and the bytes of all features, each with its size in front."""
    polygons = table.polygons
    fixed, fixed_sizes = _numbers(table)
    codes, rows = np.unique(polygons.codes, return_inverse=True)
    names, name_offsets = _names([layer.name_of(int(code)) for code in codes])
    property_sizes = fixed_sizes + np.diff(name_offsets)[rows]
    words = np.zeros(len(table) + 1, np.int64)
    np.cumsum(_words(polygons, property_sizes, multi=layer.multi), out=words[1:])
    content = np.empty(words[-1], np.uint32)
    _fill(
        (polygons.features, polygons.polygons, polygons.rings),
        np.ascontiguousarray(polygons.xy).reshape(-1).view(np.uint32),
        (fixed, fixed_sizes, rows, names, name_offsets),
        layer.multi,
        (words, content, content.view(np.uint8)),
    )
    return words * 4, content.view(np.uint8)


def feature_sizes(polygons: Polygons) -> NDArray[np.int64]:
    """Return (feature,) about how many bytes each feature takes: its coordinates."""
    vertices = np.diff(polygons.rings[polygons.polygons[polygons.features]])
    return np.asarray(vertices * (_VERTEX_WORDS * 4))


def _numbers(table: Table) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return (feature, byte) code and numbers with the index of their columns, and (feature,) how many bytes count."""
    names = [str(place) for place in range(len(table.numbers))]
    # Column 1 is the name, which follows; the confidence is last, so that a feature without it is shorter.
    fields: list[tuple[str, str]] = [("code_column", "<u2"), ("code", "<i4")]
    for name in names:
        fields += [(f"column {name}", "<u2"), (name, "<f8")]
    rows = np.zeros(len(table), np.dtype(fields))
    rows["code"] = table.polygons.codes
    for place, name in enumerate(names):
        rows[f"column {name}"] = place + 2
        rows[name] = table.numbers[place]
    sizes = np.full(len(table), rows.dtype.itemsize, np.int64)
    if table.polygons.confidence is not None:
        sizes[np.isnan(table.polygons.confidence)] -= 10
    return rows.view(np.uint8).reshape(len(table), rows.dtype.itemsize), sizes


def _names(names: list[str]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the property of each name, one after the other, and (name + 1,) where they begin."""
    texts = [name.encode() for name in names]
    properties = [b"\x01\x00" + len(text).to_bytes(4, "little") + text for text in texts]
    offsets = np.cumsum([0, *map(len, properties)], dtype=np.int64)
    return np.frombuffer(b"".join(properties), np.uint8), offsets


def _words(polygons: Polygons, property_sizes: NDArray[np.int64], *, multi: bool) -> NDArray[np.int64]:
    """Return (feature,) words of 4 bytes that `_fill` will write, an even number."""
    rings = np.diff(polygons.polygons)
    vertices = np.diff(polygons.rings[polygons.polygons])
    ends = np.where(rings > 1, rings + 1, 0)
    blocks = np.zeros(len(rings) + 1, np.int64)
    np.cumsum(5 + ends + ends % 2 + 1 + _VERTEX_WORDS * vertices, out=blocks[1:])
    start = _PROPERTIES_AT + (property_sizes + 7) // 8 * 2
    parts = 8 + np.diff(polygons.features) if multi else 0
    return np.asarray(start + parts + parts % 2 + np.diff(blocks[polygons.features]))


@njit(cache=True, nogil=True)
def _fill(shape: Any, vertices: Any, properties: Any, multi: bool, target: Any) -> None:  # noqa: FBT001 - numba types them
    features, _, _ = shape
    words, out, out_bytes = target
    for feature in range(len(features) - 1):
        start = words[feature]
        at = _properties(properties, feature, out, out_bytes, start + _PROPERTIES_AT)
        out[start] = (words[feature + 1] - start) * 4 - 4
        out[start + 1] = 12  # to the table
        out[start + 2] = 8 | 12 << 16  # sizes of the list of fields and of the table
        out[start + 3] = 4 | 8 << 16  # where in it: geometry, properties
        out[start + 4] = 8  # back to the list of fields
        out[start + 5] = (at + (5 if multi else 2) - start - 5) * 4
        out[start + 6] = 4
        if not multi:
            _polygon(shape, vertices, features[feature], out, at)
            continue
        parts = features[feature + 1] - features[feature]
        out[at] = 20 | 8 << 16
        out[at + 1] = out[at + 2] = out[at + 3] = 0
        out[at + 4] = 4 << 16  # the eighth field: parts
        out[at + 5] = 20
        out[at + 6] = 4
        out[at + 7] = parts
        entry = at + 8
        at = entry + parts
        if parts % 2:
            out[at] = 0
            at += 1
        for part in range(parts):
            out[entry + part] = (at + 2 - entry - part) * 4
            at = _polygon(shape, vertices, features[feature] + part, out, at)


@njit(cache=True, nogil=True)
def _properties(properties: Any, feature: int, out: Any, out_bytes: Any, at: int) -> Any:
    """Write the properties at a word, their size in the word before; return the word after them."""
    fixed, fixed_sizes, rows, names, name_offsets = properties
    first, last = name_offsets[rows[feature]], name_offsets[rows[feature] + 1]
    size = fixed_sizes[feature] + last - first
    end = at + (size + 7) // 8 * 2
    out[at - 1] = size
    out[end - 2] = out[end - 1] = 0  # what the properties leave of it is padding
    byte = at * 4
    for place in range(fixed_sizes[feature]):
        out_bytes[byte + place] = fixed[feature, place]
    byte += fixed_sizes[feature]
    for place in range(last - first):
        out_bytes[byte + place] = names[first + place]
    return end


@njit(cache=True, nogil=True)
def _polygon(shape: Any, vertices: Any, polygon: int, out: Any, at: int) -> Any:
    """Write a polygon's list of fields and table at a word; return the word after it."""
    _, polygons, rings = shape
    first, last = polygons[polygon], polygons[polygon + 1]
    holes = last - first > 1
    out[at] = 8 | 12 << 16
    out[at + 1] = (8 if holes else 0) | 4 << 16  # where in the table: ends of rings, coordinates
    out[at + 2] = 8
    out[at + 4] = 4
    xy = at + 5
    if holes:
        out[xy] = last - first
        for ring in range(first, last):
            out[xy + 1 + ring - first] = rings[ring + 1] - rings[first]
        xy += 1 + last - first
        if xy % 2 == 0:
            out[xy] = 0
            xy += 1
    out[at + 3] = (xy - at - 3) * 4
    count = (rings[last] - rings[first]) * _VERTEX_WORDS
    out[xy] = count // 2
    source = rings[first] * _VERTEX_WORDS
    for word in range(count):
        out[xy + 1 + word] = vertices[source + word]
    return xy + 1 + count
