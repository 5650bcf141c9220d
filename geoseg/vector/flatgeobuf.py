"""FlatGeobuf (https://flatgeobuf.org): one pass over the features, then the index and the features along a curve.

GDAL keeps a record of a hundred bytes for each feature until the end; here what grows with the file is on the disk.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import IO

import numpy as np
from numpy.typing import NDArray

from geoseg.vector.arrow import FEATURE_BYTES, too_large
from geoseg.vector.boxes import boxes
from geoseg.vector.flatgeobuf_features import feature_sizes, to_flatgeobuf
from geoseg.vector.flatgeobuf_header import header
from geoseg.vector.layer import Layer, Table, parts
from geoseg.vector.packed_rtree import NODE, NODE_SIZE, hilbert_keys, level_sizes, parents, upper_levels
from geoseg.vector.pile import Pile

_PART_FEATURES = 16_384
_PART_BYTES = 8 * 1024**2
"""Small enough for buffers that are used again and again."""
_PILE_BYTES = 128 * 1024**2
"""Features kept in memory until they can be written; what is more goes to a file."""
_RECORDS_BYTES = 16 * 1024**2
_GROUP_BYTES = 64 * 1024**2
_GROUP_FEATURES = 262_144
"""Bounds of what is put in order at once, and of a read of records."""
_RECORD = np.dtype([("box", "<f8", 4), ("start", "<i8"), ("size", "<u4"), ("key", "<u4")])
_COPIED_FEATURES = 4096
_SQUARES = 2**16
"""Cells of the coarse Hilbert curve by which features are grouped."""


def write_flatgeobuf(path: Path, layer: Layer, tables: Iterable[Table]) -> None:
    """Write FlatGeobuf with its spatial index. Raises OSError, OutputError, and whatever the tables raise.

    Features stand along a Hilbert curve through the extent, as the format wants it; those with one place on it in the
    order in which they came.
    """
    with ExitStack() as stack:
        features = stack.enter_context(Pile(path.parent, _PILE_BYTES))
        records = stack.enter_context(_record_file(path.parent))
        count, extent = _collect(tables, layer, features, records)
        with path.open("wb") as file:
            file.write(header(layer, count, extent))
            if count:
                _write_in_order(file, count, _ordered(records, count, extent, path.parent), features)


def _collect(
    tables: Iterable[Table], layer: Layer, features: Pile, records: IO[bytes]
) -> tuple[int, NDArray[np.float64]]:
    """Put every feature and a record of it on the piles; return how many there are, and their extent."""
    count = start = 0
    extent = np.array([np.inf, np.inf, -np.inf, -np.inf])
    for table in tables:
        sizes = feature_sizes(table.polygons)
        if len(table) and sizes.max() > FEATURE_BYTES - 2**20:
            raise too_large(table, int(sizes.argmax()), layer, FEATURE_BYTES)
        for part in parts(table, sizes, _PART_FEATURES, _PART_BYTES):
            offsets, content = to_flatgeobuf(part, layer)
            features.add(content)
            record = np.zeros(len(part), _RECORD)
            record["box"], record["start"], record["size"] = (
                boxes(part.polygons),
                start + offsets[:-1],
                np.diff(offsets),
            )
            records.write(record.tobytes())
            extent[:2] = np.minimum(extent[:2], record["box"][:, :2].min(axis=0))
            extent[2:] = np.maximum(extent[2:], record["box"][:, 2:].max(axis=0))
            count, start = count + len(part), start + int(offsets[-1])
    return count, extent


def _ordered(records: IO[bytes], count: int, extent: NDArray[np.float64], folder: Path) -> Iterator[NDArray[np.void]]:
    """Yield the records along the curve, in groups that follow one another: sorted in memory, or by way of the disk."""
    if count <= _GROUP_FEATURES:
        group = _keyed(_read(records, 0, count), extent)
        yield group[np.argsort(group["key"], kind="stable")]
        return
    starts = _group_starts(records, count, extent)
    with _record_file(folder) as piles:
        ends = _deal(records, count, extent, starts, piles)
        for start, end in zip([0, *ends], ends, strict=False):
            group = _read(piles, start, end - start)
            yield group[np.argsort(group["key"], kind="stable")]


def _group_starts(records: IO[bytes], count: int, extent: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the squares of the coarse curve with which groups begin, the first being 0."""
    number, size_bytes = np.zeros(_SQUARES, np.int64), np.zeros(_SQUARES, np.int64)
    for chunk in _chunks(records, count, extent):
        squares = chunk["key"] >> 16
        number += np.bincount(squares, minlength=_SQUARES)
        size_bytes += np.bincount(squares, chunk["size"], minlength=_SQUARES).astype(np.int64)
    fullness = np.maximum(np.cumsum(number) / _GROUP_FEATURES, np.cumsum(size_bytes) / _GROUP_BYTES)
    return np.concatenate([[0], np.flatnonzero(np.diff(np.floor(fullness).astype(np.int64))) + 1])


def _deal(
    records: IO[bytes], count: int, extent: NDArray[np.float64], starts: NDArray[np.int64], piles: IO[bytes]
) -> list[int]:
    """Deal the records out to a stretch of a file for each group; return where each ends."""
    sizes = np.zeros(len(starts), np.int64)
    for chunk in _chunks(records, count, extent):
        sizes += np.bincount(np.searchsorted(starts, chunk["key"] >> 16, side="right") - 1, minlength=len(starts))
    ends = np.cumsum(sizes)
    filled = ends - sizes
    for chunk in _chunks(records, count, extent):
        groups = np.searchsorted(starts, chunk["key"] >> 16, side="right") - 1
        order = np.argsort(groups, kind="stable")
        cuts = np.searchsorted(groups[order], np.arange(len(starts) + 1))
        for group in np.flatnonzero(np.diff(cuts)):
            pile = chunk[order[cuts[group] : cuts[group + 1]]]
            piles.seek(int(filled[group]) * _RECORD.itemsize)
            piles.write(pile.tobytes())
            filled[group] += len(pile)
    return [int(end) for end in ends]


def _chunks(records: IO[bytes], count: int, extent: NDArray[np.float64]) -> Iterator[NDArray[np.void]]:
    for start in range(0, count, _GROUP_FEATURES):
        yield _keyed(_read(records, start, min(_GROUP_FEATURES, count - start)), extent)


def _read(records: IO[bytes], start: int, count: int) -> NDArray[np.void]:
    records.seek(start * _RECORD.itemsize)
    return np.frombuffer(bytearray(records.read(count * _RECORD.itemsize)), _RECORD)


def _keyed(records: NDArray[np.void], extent: NDArray[np.float64]) -> NDArray[np.void]:
    records["key"] = hilbert_keys(records["box"], extent)
    return records


def _write_in_order(file: IO[bytes], count: int, groups: Iterable[NDArray[np.void]], features: Pile) -> None:
    """Write index and features: leaves and features as the groups come, the levels above them at the end."""
    sizes = level_sizes(count)
    index = file.tell()
    leaf = index + sum(sizes[1:]) * NODE.itemsize
    at = first = index + sum(sizes) * NODE.itemsize
    above: list[NDArray[np.float64]] = []
    waiting = np.empty((0, 4))  # boxes that do not yet fill a node: groups do not end at multiples of its size
    for group in groups:
        leaves = np.empty(len(group), NODE)
        leaves["box"] = group["box"]
        leaves["offset"] = at - first + np.cumsum(group["size"], dtype=np.int64) - group["size"]
        file.seek(leaf)
        file.write(leaves.tobytes())
        file.seek(at)
        at += _copy(features, group, file)
        leaf += leaves.nbytes
        waiting = np.concatenate([waiting, group["box"]])
        full = len(waiting) // NODE_SIZE * NODE_SIZE
        if full:
            above.append(parents(waiting[:full]))
        waiting = waiting[full:]
    if len(waiting):
        above.append(parents(waiting))
    file.seek(index)
    file.write(upper_levels(np.concatenate(above), count).tobytes())


def _copy(features: Pile, group: NDArray[np.void], file: IO[bytes]) -> int:
    """Write the features of a group one after the other; return their bytes."""
    sizes = group["size"].astype(np.int64)
    for first in range(0, len(group), _COPIED_FEATURES):
        some = slice(first, first + _COPIED_FEATURES)
        file.write(features.taken(group["start"][some], sizes[some]))
    return int(sizes.sum())


def _record_file(folder: Path) -> IO[bytes]:
    return SpooledTemporaryFile(_RECORDS_BYTES, dir=str(folder))
