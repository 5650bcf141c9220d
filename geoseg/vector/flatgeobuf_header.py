"""The header of a FlatGeobuf file: a flatbuffer of header.fbs (https://github.com/flatgeobuf/flatgeobuf)."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geoseg.vector.layer import Layer
from geoseg.vector.packed_rtree import NODE_SIZE
from geoseg.vector.reproject import wkt

MAGIC = b"fgb\x03fgb\x01"
_POLYGON, _MULTIPOLYGON = 3, 6
_INT, _DOUBLE, _STRING = 5, 10, 11


def header(layer: Layer, features: int, extent: NDArray[np.float64]) -> bytes:
    """Return what stands before the index: magic bytes and header, a multiple of 8 bytes. No extent, no index for none.

    `extent` is least x, least y, greatest x, greatest y.
    """
    columns = [("code", _INT), ("name", _STRING), *((name, _DOUBLE) for name in layer.numbers)]
    root = _Table(
        {
            0: _Text(layer.name),
            1: _Doubles(tuple(extent.tolist())) if features else None,
            2: _Scalar("<B", _MULTIPOLYGON if layer.multi else _POLYGON),
            7: _Tables(tuple(_Table({0: _Text(name), 1: _Scalar("<B", kind)}) for name, kind in columns)),
            8: _Scalar("<Q", features),
            9: _Scalar("<H", NODE_SIZE if features else 0),
            10: _crs(layer),
            12: _Text(layer.description) if layer.description else None,
        }
    )
    buffer = bytearray(8)  # its size, and the way to the root
    root.write(buffer, 4)
    buffer += bytes(-len(buffer) % 8)
    struct.pack_into("<I", buffer, 0, len(buffer) - 4)
    return MAGIC + bytes(buffer)


def _crs(layer: Layer) -> _Table | None:
    if layer.crs is None:
        return None
    authority = layer.crs.to_authority()
    fields: dict[int, _Field | None] = {4: _Text(wkt(layer.crs))}
    if authority is not None:
        name, code = authority
        fields[0] = _Text(name)
        # A code of letters has a field of its own, the sixth.
        fields |= {1: _Scalar("<i", int(code))} if code.isdecimal() else {5: _Text(code)}
    return _Table(fields)


@dataclass(frozen=True, slots=True)
class _Scalar:
    form: str
    value: int


@dataclass(frozen=True, slots=True)
class _Text:
    value: str

    def write(self, buffer: bytearray, link: int) -> None:
        _link(buffer, link, 4)
        text = self.value.encode()
        buffer += struct.pack("<I", len(text)) + text + b"\0"


@dataclass(frozen=True, slots=True)
class _Doubles:
    values: Sequence[float]

    def write(self, buffer: bytearray, link: int) -> None:
        buffer += bytes((4 - len(buffer)) % 8)  # so that the values after the count stand at a multiple of 8
        _link(buffer, link, 4)
        buffer += struct.pack(f"<I{len(self.values)}d", len(self.values), *self.values)


@dataclass(frozen=True, slots=True)
class _Tables:
    values: Sequence[_Table]

    def write(self, buffer: bytearray, link: int) -> None:
        _link(buffer, link, 4)
        buffer += struct.pack("<I", len(self.values))
        first = len(buffer)
        buffer += bytes(4 * len(self.values))
        for place, table in enumerate(self.values):
            table.write(buffer, first + 4 * place)


@dataclass(frozen=True, slots=True)
class _Table:
    fields: dict[int, _Field | None]

    def write(self, buffer: bytearray, link: int) -> None:
        """Append the list of fields, the table, then what it leads to; leave the way to it at `link`."""
        present = {number: field for number, field in sorted(self.fields.items()) if field is not None}
        # The largest first: each then stands at a multiple of its size, the table itself at 4 before a multiple of 8.
        order = sorted(present, key=lambda number: -_size(present[number]))
        places, at = {}, 4
        for number in order:
            places[number], at = at, at + _size(present[number])
        count = max(present) + 1
        fields = struct.pack(f"<{2 + count}H", 4 + 2 * count, at, *(places.get(number, 0) for number in range(count)))
        buffer += bytes((4 - len(buffer) - len(fields)) % 8) + fields
        table = len(buffer)
        _link(buffer, link, 1)
        buffer += struct.pack("<i", len(fields)) + bytes(at - 4)
        for number in order:
            field = present[number]
            if isinstance(field, _Scalar):
                struct.pack_into(field.form, buffer, table + places[number], field.value)
            else:
                field.write(buffer, table + places[number])


_Field = _Scalar | _Text | _Doubles | _Tables | _Table


def _size(field: _Field) -> int:
    return struct.calcsize(field.form) if isinstance(field, _Scalar) else 4


def _link(buffer: bytearray, link: int, alignment: int) -> None:
    """Pad the buffer, and leave at `link` the way to its end."""
    buffer += bytes(-len(buffer) % alignment)
    struct.pack_into("<I", buffer, link, len(buffer) - link)
