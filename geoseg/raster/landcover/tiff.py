"""Where the blocks of a tiled TIFF lie in its file, read without GDAL.

Format: TIFF 6.0, section 2, and the BigTIFF extension of it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

_ORDERS = {b"II": "<", b"MM": ">"}
_BIG = 43
_TILE_OFFSETS, _TILE_BYTE_COUNTS = 324, 325
_TYPES = {3: "u2", 4: "u4", 16: "u8"}

Numbers = NDArray[np.int64]


def tile_extents(path: Path) -> Iterator[tuple[Numbers, Numbers]]:
    """Yield the offset and the size in bytes of every tile, one pair of arrays for each image in the file.

    Raises OSError or struct.error when the file is not a TIFF or ends within a directory.
    """
    with path.open("rb") as file:
        head = file.read(16)
        if head[:2] not in _ORDERS:
            raise OSError(f"{path} does not start as a TIFF does")
        order = _ORDERS[head[:2]]
        big = struct.unpack(f"{order}H", head[2:4])[0] == _BIG
        position = struct.unpack(f"{order}Q", head[8:16])[0] if big else struct.unpack(f"{order}I", head[4:8])[0]
        while position:
            entries, position = _directory(file, position, order, big=big)
            yield (
                _numbers(file, order, entries.get(_TILE_OFFSETS)),
                _numbers(file, order, entries.get(_TILE_BYTE_COUNTS)),
            )


def _directory(
    file: BinaryIO, position: int, order: str, *, big: bool
) -> tuple[dict[int, tuple[int, int, bytes]], int]:
    """Return tag -> (type, count, raw value or offset) and where the next directory is."""
    count, entry, follow = (
        (f"{order}Q", f"{order}HHQ8s", f"{order}Q") if big else (f"{order}H", f"{order}HHI4s", f"{order}I")
    )
    file.seek(position)
    entries: dict[int, tuple[int, int, bytes]] = {}
    for _ in range(_read(file, count)[0]):
        tag, kind, length, raw = struct.unpack(entry, file.read(struct.calcsize(entry)))
        entries[tag] = kind, length, raw
    return entries, _read(file, follow)[0]


def _numbers(file: BinaryIO, order: str, entry: tuple[int, int, bytes] | None) -> Numbers:
    if entry is None:
        return np.zeros(0, np.int64)
    kind, length, raw = entry
    stored = np.dtype(order + _TYPES[kind])
    content = raw
    if length * stored.itemsize > len(raw):
        here = file.tell()
        file.seek(struct.unpack(f"{order}{'Q' if len(raw) == 8 else 'I'}", raw)[0])
        content = file.read(length * stored.itemsize)
        file.seek(here)
    return np.frombuffer(content, stored, length).astype(np.int64)


def _read(file: BinaryIO, form: str) -> tuple[int, ...]:
    return struct.unpack(form, file.read(struct.calcsize(form)))
