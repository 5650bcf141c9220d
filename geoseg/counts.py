"""Counts of pixels by class code, in one raster, or in two rasters by pairs of codes, for any meaning of the codes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.compiled import njit
from geoseg.errors import SceneError

NONE = -(2**31)
"""The code of pixels without a class: nodata, masked, outside."""
MOST_CODES = 1024
"""Most codes of one raster; a raster with more does not show classes."""

_TABLE_SPAN = 2**16
"""Codes that span less than this are counted in a table, others are sorted."""

_INVALID = 256
"""Row and column of the table for invalid pixels."""

_ALL_VALID = np.empty(0, np.bool_)
_LANES = 4
"""Counters per cell, used in turn: neighboring pixels are often equal, and a single counter would stall on itself."""
_TWOS = 2**16
_EACH = 0x0101010101010101
"""The value 1 in each of eight bytes."""
_ONES, _LOW_BITS, _TOP_BITS, _UPPER_HALVES = (np.uint64(byte * _EACH) for byte in (0x01, 0x7F, 0x80, 0xF0))

Bytes = NDArray[np.uint8]
Mask = NDArray[np.bool_] | None


def count_bytes(codes: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return the number of pixels of each code, (256,); `codes` may have any shape."""
    return np.bincount(codes.ravel(), minlength=256)


def codes_in(codes: NDArray[Any], valid: NDArray[np.bool_] | None = None) -> NDArray[np.int64]:
    """Return the codes of valid pixels in ascending order; `codes` are integers of any dtype and shape."""
    counted = codes.ravel() if valid is None else codes[valid]
    if counted.size and counted.dtype.kind in "iu":
        low, high = int(counted.min()), int(counted.max())
        if high - low < _TABLE_SPAN:
            return np.flatnonzero(np.bincount(counted.astype(np.int64) - low)) + low
    return np.unique(counted).astype(np.int64)


@dataclass(frozen=True, slots=True)
class StoredCodes:
    """The codes of one raster in a window."""

    data: NDArray[Any]
    """(row, col) integers as stored."""
    valid: NDArray[np.bool_] | None
    """(row, col), True = valid; None if only `nodata` marks invalid pixels."""
    nodata: int | None
    contested: int = 0
    """Pixels to which the source assigns several classes."""
    most: int = MOST_CODES
    """Most codes that it may have; with more it is not a map of classes."""

    def as_bytes(self) -> StoredCodes | None:
        """Return the codes as bytes, which are faster; None if a code does not fit."""
        if self.data.dtype == np.uint8:
            return self
        data = self.data if self.valid is None else np.where(self.valid, self.data, 0)
        if data.min() < 0 or data.max() > 255:
            return None
        return StoredCodes(data.astype(np.uint8), self.valid, self.nodata, most=self.most)

    def indexed(self, name: str) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
        """Return (pixel,) indexes into a list of codes, and the list, which starts with NONE.

        SceneError, naming the raster, for more than `most` codes.
        """
        flat = self.data.ravel()
        codes = codes_in(flat)
        if len(codes) > self.most:
            raise SceneError(f"{name} has more than {self.most} codes in one place; is it a map of classes?")
        if codes[-1] - codes[0] < _TABLE_SPAN:
            lookup = np.zeros(codes[-1] - codes[0] + 1, np.intp)
            lookup[codes - codes[0]] = np.arange(1, len(codes) + 1)
            indexes = lookup[flat.astype(np.int64) - codes[0]]
        else:
            indexes = np.searchsorted(codes, flat) + 1
        if self.valid is not None:
            indexes[~self.valid.ravel()] = 0
        return indexes, np.concatenate([[NONE], np.where(codes == self.nodata, NONE, codes)])


@dataclass(slots=True)
class PairCounts:
    """Numbers of pixels by their codes in the reference and in the map."""

    pixels: Counter[tuple[int, int]] = field(default_factory=Counter)
    areas: dict[tuple[int, int], float] = field(default_factory=dict)
    """Area in m2 by the same codes; empty if all pixels have the same area."""
    contested: int = 0
    """Pixels to which the reference assigns several classes."""

    def add(self, other: PairCounts) -> None:
        """Add the counts of other windows."""
        self.pixels.update(other.pixels)
        self.contested += other.contested
        for pair, area in other.areas.items():
            self.areas[pair] = self.areas.get(pair, 0.0) + area


def count_pairs(
    reference: StoredCodes | None, mapped: StoredCodes, pixel_areas: NDArray[np.float64] | None, names: tuple[str, str]
) -> PairCounts:
    """Count the pairs of a window. `pixel_areas` (row,) or (row, col): the area of each pixel, if they differ.

    Without a reference all pixels are pairs with NONE. `names` of reference and map are for the SceneError raised if
    they do not hold classes.
    """
    reference_bytes = None if reference is None else reference.as_bytes()
    map_bytes = None if reference_bytes is None else mapped.as_bytes()
    if reference_bytes is not None and map_bytes is not None and (pixel_areas is None or pixel_areas.ndim == 1):
        return _count_byte_pairs(reference_bytes, map_bytes, pixel_areas)
    columns, map_codes = mapped.indexed(names[1])
    if reference is None:
        cells, reference_codes = columns, np.array([NONE])
    else:
        rows, reference_codes = reference.indexed(names[0])
        cells = rows * len(map_codes) + columns
    pixels = np.bincount(cells)
    nonzero = np.flatnonzero(pixels)
    areas: NDArray[np.float64] | None = None
    if pixel_areas is not None:
        by_row = pixel_areas[:, None] if pixel_areas.ndim == 1 else pixel_areas
        weights = np.broadcast_to(by_row, mapped.data.shape).ravel()
        areas = np.bincount(cells, weights).astype(np.float64)[nonzero]
    return _pair_counts(nonzero, pixels[nonzero], areas, reference_codes, map_codes)


def _count_byte_pairs(reference: StoredCodes, mapped: StoredCodes, row_areas: NDArray[np.float64] | None) -> PairCounts:
    """Count pairs of bytes in a table of all possible pairs, plus a row and a column for masked pixels."""
    pair = reference, mapped
    nonzero, pixels, areas = _table_of_pairs((reference.data, mapped.data), (reference.valid, mapped.valid), row_areas)
    values = np.arange(_INVALID if all(raster.valid is None for raster in pair) else _INVALID + 1)
    codes = [np.where((values == raster.nodata) | (values == _INVALID), NONE, values) for raster in pair]
    return _pair_counts(nonzero, pixels, areas, *codes)


def _pair_counts(
    cells: NDArray[np.intp],
    pixels: NDArray[np.int64],
    areas: NDArray[np.float64] | None,
    reference_codes: NDArray[np.int64],
    map_codes: NDArray[np.int64],
) -> PairCounts:
    """Return the counts of the cells found in a table (reference, map), given the codes of its rows and columns."""
    rows, cols = np.divmod(cells, len(map_codes))
    pairs = list(zip(reference_codes[rows].tolist(), map_codes[cols].tolist(), strict=True))
    counts = PairCounts()
    for pair, number in zip(pairs, pixels.tolist(), strict=True):
        counts.pixels[pair] += number
    if areas is not None:
        for pair, area in zip(pairs, areas.tolist(), strict=True):
            counts.areas[pair] = counts.areas.get(pair, 0.0) + area
    return counts


def _table_of_pairs(
    codes: tuple[Bytes, Bytes], valid: tuple[Mask, Mask], row_areas: NDArray[np.float64] | None
) -> tuple[NDArray[np.intp], NDArray[np.int64], NDArray[np.float64] | None]:
    """Return the cells of a flat table (first code, second code) that have pixels, their counts and areas.

    Both rasters are (row, col). The table has 256 rows and columns, or 257 if one raster has a mask. `row_areas`
    (row,): the area of a pixel in each row; without it no area is returned.
    """
    side = _INVALID if all(mask is None for mask in valid) else _INVALID + 1
    table = np.zeros(side**2 * _LANES, np.uint32)
    rows, cols = (np.ascontiguousarray(stored).ravel() for stored in codes)
    in_rows, in_cols = (_ALL_VALID if mask is None else mask.ravel() for mask in valid)
    nonzero, pixels = _count_bytes(rows, cols, in_rows, in_cols, table)
    areas = None if row_areas is None else _weigh_bytes(rows, cols, in_rows, in_cols, row_areas, nonzero, table)
    return nonzero, pixels, areas


@njit(cache=True, nogil=True)
def _count_bytes(reference: Any, mapped: Any, in_reference: Any, in_map: Any, table: Any) -> Any:
    """Return the cells of the table that have pixels, and their counts; resets the table to zeros."""
    counted = 0 if len(in_reference) or len(in_map) else _add_eights(reference, mapped, table)
    _add(reference[counted:], mapped[counted:], in_reference, in_map, table)
    sums = np.zeros(len(table) // _LANES, np.int64)
    for cell in range(len(sums)):
        sums[cell] = _sum(table, cell)
    found = np.flatnonzero(sums)
    for each in found:
        table[each * _LANES : (each + 1) * _LANES] = 0
    return found, sums[found]


@njit(cache=True, nogil=True)
def _weigh_bytes(
    reference: Any, mapped: Any, in_reference: Any, in_map: Any, row_areas: Any, found: Any, table: Any
) -> Any:
    """Return the areas of the cells found, summed row by row; the table is all zeros before and after."""
    areas = np.zeros(len(found))
    width = len(reference) // len(row_areas)
    for row in range(len(row_areas)):
        line = slice(row * width, (row + 1) * width)
        _add(reference[line], mapped[line], in_reference[line], in_map[line], table)
        for index, cell in enumerate(found):
            pixels = _sum(table, cell)
            if pixels:
                areas[index] += pixels * row_areas[row]
                table[cell * _LANES : (cell + 1) * _LANES] = 0
    return areas


@njit(cache=True, nogil=True)
def _add(reference: Any, mapped: Any, in_reference: Any, in_map: Any, table: Any) -> None:
    """Add each pixel to its cell of the table, flat (reference, map, lane); an empty mask means all are valid."""
    one = np.uint32(1)
    if not len(in_reference) and not len(in_map):
        for pixel in range(len(reference)):
            table[reference[pixel] * (_INVALID * _LANES) + mapped[pixel] * _LANES + pixel % _LANES] += one
        return
    for pixel in range(len(reference)):
        row, col = np.intp(reference[pixel]), np.intp(mapped[pixel])
        if len(in_reference) and not in_reference[pixel]:
            row = np.intp(_INVALID)
        if len(in_map) and not in_map[pixel]:
            col = np.intp(_INVALID)
        table[(row * (_INVALID + 1) + col) * _LANES + pixel % _LANES] += one


@njit(cache=True, nogil=True)
def _add_eights(reference: Any, mapped: Any, table: Any) -> int:
    """Add valid pixels eight at a time, as long as their codes are 0 to 14 or 255; return how many were added.

    Such a code plus one fits in four bits, and a pair in eight: two pixels index a table of 2**16 cells.
    """
    whole = len(reference) // 8 * 8
    theirs, ours = reference[:whole].view(np.uint64), mapped[:whole].view(np.uint64)
    twos, one = np.zeros(_TWOS * _LANES, np.uint32), np.uint32(1)
    added = 0
    for eight in range(len(theirs)):
        rows, cols = _and_one(theirs[eight]), _and_one(ours[eight])
        if (rows | cols) & _UPPER_HALVES:
            break
        pairs = rows << np.uint64(4) | cols
        for lane in range(_LANES):
            twos[np.intp((pairs >> np.uint64(16 * lane)) % np.uint64(_TWOS)) * _LANES + lane] += one
        added += 8
    for two in range(_TWOS):
        pixels = _sum(twos, two)
        if pixels:
            for pair in (two >> 8, two & 255):
                row, col = ((pair >> 4) - 1) & 255, ((pair & 15) - 1) & 255
                table[(row * _INVALID + col) * _LANES] += np.uint32(pixels)
    return added


@njit(cache=True, nogil=True)
def _and_one(eight: Any) -> Any:
    """Add one to each of eight bytes; 255 becomes 0."""
    return ((eight & _LOW_BITS) + _ONES) ^ (eight & _TOP_BITS)


@njit(cache=True, nogil=True)
def _sum(table: Any, cell: int) -> int:
    pixels = 0
    for lane in range(_LANES):
        pixels += table[cell * _LANES + lane]
    return pixels
