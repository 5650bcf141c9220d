"""How many pixels have which code in the reference and which in the map: all codes as stored, told apart later."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from geoseg.errors import SceneError

NONE = -(2**31)
"""The code of a pixel that has none: nodata, masked, outside."""
MOST_CODES = 1024
"""Codes of one raster; a raster that has more shows no classes."""

_INVALID = 256
"""Where a table of pairs of bytes counts what is not valid."""
_ALL_VALID = np.empty(0, np.bool_)
_LANES = 4
"""Counters of a cell, side by side, that take turns: one alone would wait for its own last sum, as maps repeat."""
_TWOS = 2**16
_EACH = 0x0101010101010101
"""One in each of eight bytes."""
_ONES, _LOW_BITS, _TOP_BITS, _UPPER_HALVES = (np.uint64(byte * _EACH) for byte in (0x01, 0x7F, 0x80, 0xF0))


@dataclass(frozen=True, slots=True)
class Codes:
    """The codes of one raster in a window."""

    data: NDArray[Any]
    """(row, col) integers as stored."""
    valid: NDArray[np.bool_] | None
    """(row, col), True = valid; None where only `nodata` tells."""
    nodata: int | None
    contested: int = 0
    """Pixels of which the source says several classes."""

    def as_bytes(self) -> Codes | None:
        """Return the same as bytes, which are quicker; None where a code is none."""
        if self.data.dtype == np.uint8:
            return self
        data = self.data if self.valid is None else np.where(self.valid, self.data, 0)
        if data.min() < 0 or data.max() > 255:
            return None
        return Codes(data.astype(np.uint8), self.valid, self.nodata)

    def indexed(self, name: str) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
        """Return (pixel,) places in a list of codes, and the list, which begins with NONE.

        SceneError, naming the raster, for more than MOST_CODES.
        """
        flat = self.data.ravel()
        low, high = int(flat.min()), int(flat.max())
        if high - low < 2**16:
            shifted = flat.astype(np.intp) - low
            present = np.flatnonzero(np.bincount(shifted, minlength=high - low + 1))
            lookup = np.zeros(high - low + 1, np.intp)
            lookup[present] = np.arange(1, len(present) + 1)
            places, found = lookup[shifted], present.astype(np.int64) + low
        else:
            values, inverse = np.unique(flat, return_inverse=True)
            places, found = inverse + 1, values.astype(np.int64)
        if len(found) > MOST_CODES:
            raise SceneError(f"{name} holds more than {MOST_CODES} codes in one place; is it a map of classes?")
        if self.valid is not None:
            places[~self.valid.ravel()] = 0
        return places, np.concatenate([[NONE], np.where(found == self.nodata, NONE, found)])


@dataclass(slots=True)
class Tally:
    """What has been counted so far."""

    pixels: Counter[tuple[int, int]] = field(default_factory=Counter)
    """By code in the reference and in the map."""
    areas: dict[tuple[int, int], float] = field(default_factory=dict)
    """In m2, likewise; empty where all pixels are of one area."""
    contested: int = 0
    """Pixels of which the reference says several classes."""

    def add(self, other: Tally) -> None:
        """Add another tally."""
        self.pixels.update(other.pixels)
        self.contested += other.contested
        for pair, area in other.areas.items():
            self.areas[pair] = self.areas.get(pair, 0.0) + area

    def by_map_code(self) -> dict[int, int]:
        """Return the pixels of each code of the map, with a reference or without."""
        sums: Counter[int] = Counter()
        for (_, code), pixels in self.pixels.items():
            sums[code] += pixels
        return {code: pixels for code, pixels in sums.items() if code != NONE}


def tally(
    reference: Codes | None, mapped: Codes, row_areas: NDArray[np.float64] | None, names: tuple[str, str]
) -> Tally:
    """Count a window. `row_areas` (row,): what a pixel of each row measures, where rows differ.

    `names` of reference and map, for the message of the SceneError where they hold no classes.
    """
    theirs = None if reference is None else reference.as_bytes()
    ours = None if theirs is None else mapped.as_bytes()
    if theirs is not None and ours is not None:
        return _bytes_tally(theirs, ours, row_areas)
    columns, map_codes = mapped.indexed(names[1])
    if reference is None:
        cells, reference_codes = columns, np.array([NONE])
    else:
        rows, reference_codes = reference.indexed(names[0])
        cells = rows * len(map_codes) + columns
    pixels = np.bincount(cells)
    found = np.flatnonzero(pixels)
    areas: NDArray[np.float64] | None = None
    if row_areas is not None:
        weights = np.repeat(row_areas, mapped.data.shape[1])
        areas = np.bincount(cells, weights).astype(np.float64)[found]
    return _named(found, pixels[found], areas, reference_codes, map_codes)


def _bytes_tally(reference: Codes, mapped: Codes, row_areas: NDArray[np.float64] | None) -> Tally:
    """Count pairs of bytes in a table of all that there can be; masked rasters need room for what is not valid."""
    pair = reference, mapped
    values = np.arange(_INVALID if all(each.valid is None for each in pair) else _INVALID + 1)
    table = np.zeros(len(values) ** 2 * _LANES, np.uint32)
    rows, cols = (np.ascontiguousarray(each.data).ravel() for each in pair)
    in_reference, in_map = (_ALL_VALID if each.valid is None else each.valid.ravel() for each in pair)
    found, pixels = _count_bytes(rows, cols, in_reference, in_map, table)
    areas = None if row_areas is None else _weigh_bytes(rows, cols, in_reference, in_map, row_areas, found, table)
    codes = [np.where((values == each.nodata) | (values == _INVALID), NONE, values) for each in pair]
    return _named(found, pixels, areas, *codes)


def _named(
    found: NDArray[np.intp],
    pixels: NDArray[np.int64],
    areas: NDArray[np.float64] | None,
    reference_codes: NDArray[np.int64],
    map_codes: NDArray[np.int64],
) -> Tally:
    """Return what was counted of the cells found in a table (reference, map), with the codes of its rows and cols."""
    rows, cols = np.divmod(found, len(map_codes))
    pairs = list(zip(reference_codes[rows].tolist(), map_codes[cols].tolist(), strict=True))
    counted = Tally()
    for pair, number in zip(pairs, pixels.tolist(), strict=True):
        counted.pixels[pair] += number
    if areas is not None:
        for pair, area in zip(pairs, areas.tolist(), strict=True):
            counted.areas[pair] = counted.areas.get(pair, 0.0) + area
    return counted


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
                table[(row * _INVALID + col) * _LANES] += np.uint32(pixels)
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
