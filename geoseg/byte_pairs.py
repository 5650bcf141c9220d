"""Pairs of bytes counted in one table of all that there can be: the quick half of `geoseg.counts`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.compiled import njit

INVALID = 256
"""Row and column of the table for what is not valid."""

_ALL_VALID = np.empty(0, np.bool_)
_LANES = 4
"""Counters of a cell, side by side, that take turns: one alone would wait for its own last sum, as maps repeat."""
_TWOS = 2**16
_EACH = 0x0101010101010101
"""One in each of eight bytes."""
_ONES, _LOW_BITS, _TOP_BITS, _UPPER_HALVES = (np.uint64(byte * _EACH) for byte in (0x01, 0x7F, 0x80, 0xF0))

Bytes = NDArray[np.uint8]
Mask = NDArray[np.bool_] | None


def table_of_pairs(
    codes: tuple[Bytes, Bytes], valid: tuple[Mask, Mask], row_areas: NDArray[np.float64] | None
) -> tuple[NDArray[np.intp], NDArray[np.int64], NDArray[np.float64] | None]:
    """Return the cells of a flat table (first code, second code) that have pixels, how many, and their area.

    Both rasters are (row, col). The table has 256 rows and columns, or 257 where one has a mask. `row_areas` (row,):
    what a pixel of each row measures; without it no area is returned.
    """
    side = INVALID if all(mask is None for mask in valid) else INVALID + 1
    table = np.zeros(side**2 * _LANES, np.uint32)
    rows, cols = (np.ascontiguousarray(each).ravel() for each in codes)
    in_rows, in_cols = (_ALL_VALID if mask is None else mask.ravel() for mask in valid)
    found, pixels = _count_bytes(rows, cols, in_rows, in_cols, table)
    areas = None if row_areas is None else _weigh_bytes(rows, cols, in_rows, in_cols, row_areas, found, table)
    return found, pixels, areas


@njit(cache=True, nogil=True)
def _count_bytes(reference: Any, mapped: Any, in_reference: Any, in_map: Any, table: Any) -> Any:  # noqa: ANN401
    """Return the cells of the table that have pixels, and how many; the table is left as it came, all zeros."""
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
def _weigh_bytes(  # noqa: PLR0913, PLR0917 - a kernel takes flat arrays
    reference: Any,  # noqa: ANN401
    mapped: Any,  # noqa: ANN401
    in_reference: Any,  # noqa: ANN401
    in_map: Any,  # noqa: ANN401
    row_areas: Any,  # noqa: ANN401
    found: Any,  # noqa: ANN401
    table: Any,  # noqa: ANN401
) -> Any:  # noqa: ANN401
    """Return the areas of the cells found, added row by row; the table comes and is left all zeros."""
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
def _add(reference: Any, mapped: Any, in_reference: Any, in_map: Any, table: Any) -> None:  # noqa: ANN401
    """Add each pixel to its cell of the table, flat (reference, map, lane); an empty mask says that all are valid."""
    one = np.uint32(1)
    if not len(in_reference) and not len(in_map):
        for pixel in range(len(reference)):
            table[reference[pixel] * (INVALID * _LANES) + mapped[pixel] * _LANES + pixel % _LANES] += one
        return
    for pixel in range(len(reference)):
        row, col = np.intp(reference[pixel]), np.intp(mapped[pixel])
        if len(in_reference) and not in_reference[pixel]:
            row = np.intp(INVALID)
        if len(in_map) and not in_map[pixel]:
            col = np.intp(INVALID)
        table[(row * (INVALID + 1) + col) * _LANES + pixel % _LANES] += one


@njit(cache=True, nogil=True)
def _add_eights(reference: Any, mapped: Any, table: Any) -> int:  # noqa: ANN401
    """Add valid pixels eight at a time, as long as their codes are 0 to 14 or 255; return how many were added.

    One more than such a code is four bits, a pair eight: two pixels are one cell of a table of 2**16.
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
                table[(row * INVALID + col) * _LANES] += np.uint32(pixels)
    return added


@njit(cache=True, nogil=True)
def _and_one(eight: Any) -> Any:  # noqa: ANN401
    """Add one to each of eight bytes; 255 becomes 0."""
    return ((eight & _LOW_BITS) + _ONES) ^ (eight & _TOP_BITS)


@njit(cache=True, nogil=True)
def _sum(table: Any, cell: int) -> int:  # noqa: ANN401
    pixels = 0
    for lane in range(_LANES):
        pixels += table[cell * _LANES + lane]
    return pixels
