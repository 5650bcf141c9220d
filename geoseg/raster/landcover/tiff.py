"""The directories of a TIFF file as plain values: read from a file by GDAL, and written in front of new blocks.

Formats: TIFF 6.0, section 2; BigTIFF (https://www.awaresystems.be/imaging/tiff/bigtiff.html).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Order = Literal["<", ">"]
Numbers = NDArray[np.unsignedinteger[Any]]

WIDTH, HEIGHT, BITS, COMPRESSION, SAMPLES, PLANES, PREDICTOR = 256, 257, 258, 259, 277, 284, 317
TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_SIZES = 322, 323, 324, 325

_STORED = (BITS, COMPRESSION, SAMPLES, PLANES, PREDICTOR, TILE_WIDTH, TILE_HEIGHT)
_ASSUMED = {SAMPLES: [1], PLANES: [1], PREDICTOR: [1]}
"""Defaults for tags that a file omits."""
_BYTE, _SHORT, _LONG, _LONG8 = 1, 3, 4, 16
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_INTEGERS = {_BYTE: "u1", _SHORT: "u2", _LONG: "u4", _LONG8: "u8"}
_CLASSIC, _BIG = 42, 43


@dataclass(frozen=True, slots=True)
class Field:
    """The value of a tag."""

    kind: int
    """TIFF's number for the type."""
    data: bytes | memoryview
    """In the byte order of the file. Offsets of blocks are a view, since a huge map has a hundred million."""

    @property
    def count(self) -> int:
        """Number of values."""
        return len(self.data) // _SIZES[self.kind]


Directory = Mapping[int, Field]


@dataclass(frozen=True, slots=True)
class Tiff:
    """The part of a file before its blocks."""

    order: Order
    ghost: bytes
    """GDAL's text between the header and the first directory of a COG."""
    directories: tuple[Directory, ...]

    def pieces(self, *, big: bool) -> Iterator[bytes | memoryview]:
        """Yield the file up to its first block: all directories with their values, then the offsets of blocks."""
        return _Writer(self.order, big=big).write(self)

    def length(self, *, big: bool) -> int:
        """Return the number of bytes before the first block."""
        return sum(len(piece) for piece in self.pieces(big=big))


def read_tiff(content: bytes | memoryview) -> Tiff:
    """Read the header and the directories. Raises ValueError, struct.error or KeyError if it is not a TIFF."""
    order: Order = "<" if bytes(content[:2]) == b"II" else ">"
    (version,) = struct.unpack_from(f"{order}H", content, 2)
    if version not in {_CLASSIC, _BIG}:
        raise ValueError("not a TIFF")
    big = version == _BIG
    at, place = (8, f"{order}Q") if big else (4, f"{order}I")
    (first,) = struct.unpack_from(place, content, at)
    directories, following = [], first
    while following:
        directory, following = _read_directory(content, following, order, big=big)
        directories.append(directory)
    return Tiff(order, bytes(content[16 if big else 8 : first]).rstrip(b"\0"), tuple(directories))


def _read_directory(content: bytes | memoryview, at: int, order: Order, *, big: bool) -> tuple[dict[int, Field], int]:
    """Return a directory and the offset of the next, 0 after the last."""
    count, entry, place = (
        (f"{order}Q", f"{order}HHQ", f"{order}Q") if big else (f"{order}H", f"{order}HHI", f"{order}I")
    )
    (entries,) = struct.unpack_from(count, content, at)
    at += struct.calcsize(count)
    fields = {}
    for _ in range(entries):
        tag, kind, values = struct.unpack_from(entry, content, at)
        at += struct.calcsize(entry)
        size = values * _SIZES[kind]
        start = at if size <= struct.calcsize(place) else struct.unpack_from(place, content, at)[0]
        fields[tag] = Field(kind, bytes(content[start : start + size]))
        at += struct.calcsize(place)
    return fields, struct.unpack_from(place, content, at)[0]


def integers(field: Field, order: Order) -> NDArray[np.int64]:
    """Return the values of an integer field."""
    return np.frombuffer(field.data, f"{order}{_INTEGERS[field.kind]}").astype(np.int64)


def integer_field(values: Sequence[int] | Numbers, order: Order, *, big: bool = False) -> Field:
    """Return integers as a field; a view if the array already has the file's type, see `numbers`."""
    kind = _LONG8 if big else _LONG
    stored = np.ascontiguousarray(values, f"{order}{_INTEGERS[kind]}")
    return Field(kind, stored.reshape(-1).view(np.uint8).data)


def numbers(shape: tuple[int, ...], order: Order, *, big: bool) -> Numbers:
    """Return an empty array of integers in the file's type."""
    return np.empty(shape, f"{order}{_INTEGERS[_LONG8 if big else _LONG]}")


def stored(directory: Directory, order: Order) -> dict[str, list[int]]:
    """Return the tags that must be equal for a block of one file to be valid in another: by number, for JSON."""
    values_by_tag = {tag: integers(directory[tag], order).tolist() for tag in _STORED if tag in directory}
    return {str(tag): values for tag, values in values_by_tag.items() if values != _ASSUMED.get(tag)}


class _Writer:
    """Writer of numbers and offsets for one kind of TIFF, classic or BigTIFF."""

    def __init__(self, order: Order, *, big: bool) -> None:
        self.order: Order = order
        self.big = big
        self.place = f"{order}Q" if big else f"{order}I"
        self.inline = struct.calcsize(self.place)
        self.count = f"{order}Q" if big else f"{order}H"

    def write(self, tiff: Tiff) -> Iterator[bytes | memoryview]:
        mark = b"II" if self.order == "<" else b"MM"
        head = struct.pack(f"{self.order}HHH", _BIG, 8, 0) if self.big else struct.pack(f"{self.order}H", _CLASSIC)
        first = _even(len(mark) + len(head) + self.inline + len(tiff.ghost))
        content = bytearray(mark + head + struct.pack(self.place, first) + tiff.ghost)
        content.extend(bytes(first - len(content)))
        late: list[tuple[int, bytes | memoryview]] = []
        for number, directory in enumerate(tiff.directories):
            late += self._add(content, directory, is_last=number == len(tiff.directories) - 1)
        end = len(content)
        for at, data in late:
            struct.pack_into(self.place, content, at, end)
            end += _even(len(data))
        yield bytes(content)
        for _, data in late:
            yield data
            yield bytes(len(data) % 2)

    def _add(self, content: bytearray, directory: Directory, *, is_last: bool) -> list[tuple[int, bytes | memoryview]]:
        """Add a directory and its values; return the arrays about blocks, each with the position of its pointer."""
        start = len(content)
        end = start + struct.calcsize(self.count) + len(directory) * (4 + 2 * self.inline)
        content.extend(bytes(end + self.inline - start))
        struct.pack_into(self.count, content, start, len(directory))
        at, late = start + struct.calcsize(self.count), []
        for tag, field in sorted(directory.items()):
            struct.pack_into(f"{self.order}HH{self.place[-1]}", content, at, tag, field.kind, field.count)
            at += 4 + self.inline
            if len(field.data) <= self.inline:
                content[at : at + len(field.data)] = field.data
            elif tag in {TILE_OFFSETS, TILE_SIZES}:
                late.append((at, field.data))
            else:
                self._put(content, at, field.data)
            at += self.inline
        struct.pack_into(self.place, content, end, 0 if is_last else len(content))
        return late

    def _put(self, content: bytearray, at: int, data: bytes | memoryview) -> None:
        """Append data at a word boundary, and store its offset at `at`."""
        struct.pack_into(self.place, content, at, len(content))
        content.extend(data)
        content.extend(bytes(len(data) % 2))


def _even(length: int) -> int:
    return length + length % 2
