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
_ONE = np.ones(1, np.bool_)
_LANES = 4
"""Tables that take turns: in one alone a cell would wait for its own last sum, and maps repeat themselves."""


@dataclass(frozen=True, slots=True)
class Codes:
    """The codes of one raster in a window."""

    data: NDArray[Any]
    """(row, col) integers as stored."""
    valid: NDArray[np.bool_] | None
    """(row, col), True = valid; None where only `nodata` tells."""
    nodata: int | None

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

    def add(self, other: Tally) -> None:
        """Add another tally."""
        self.pixels.update(other.pixels)
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
    shape = len(reference_codes), len(map_codes)
    pixels = np.bincount(cells, minlength=shape[0] * shape[1]).reshape(shape)
    areas: NDArray[np.float64] | None = None
    if row_areas is not None:
        weights = np.repeat(row_areas, mapped.data.shape[1])
        areas = np.bincount(cells, weights, minlength=shape[0] * shape[1]).astype(np.float64).reshape(shape)
    return _named(pixels, areas, reference_codes, map_codes)


def _bytes_tally(reference: Codes, mapped: Codes, row_areas: NDArray[np.float64] | None) -> Tally:
    """Count pairs of bytes in a table of all that there can be; masked rasters need room for what is not valid."""
    pair = reference, mapped
    values = np.arange(_INVALID if all(each.valid is None for each in pair) else _INVALID + 1)
    table = np.zeros((_LANES, len(values), len(values)), np.uint32)
    rows, cols = (np.ascontiguousarray(each.data).ravel() for each in pair)
    in_reference, in_map = (_ONE if each.valid is None else each.valid.ravel() for each in pair)
    _count_bytes(rows, cols, in_reference, in_map, table)
    pixels, areas = table.sum(axis=0, dtype=np.int64), None
    if row_areas is not None:
        found = np.flatnonzero(pixels)
        places, of_found = np.zeros(pixels.shape, np.int32), np.zeros(len(found))
        places.flat[found] = np.arange(len(found))
        _weigh_bytes(rows, cols, in_reference, in_map, places, row_areas, of_found)
        areas = np.zeros(pixels.shape)
        areas.flat[found] = of_found
    codes = [np.where((values == each.nodata) | (values >= _INVALID), NONE, values) for each in pair]
    return _named(pixels, areas, *codes)


def _named(
    pixels: NDArray[np.int64],
    areas: NDArray[np.float64] | None,
    reference_codes: NDArray[np.int64],
    map_codes: NDArray[np.int64],
) -> Tally:
    counted = Tally()
    for cell in np.flatnonzero(pixels):
        row, col = divmod(int(cell), pixels.shape[1])
        pair = int(reference_codes[row]), int(map_codes[col])
        counted.pixels[pair] += int(pixels[row, col])
        if areas is not None:
            counted.areas[pair] = counted.areas.get(pair, 0.0) + float(areas[row, col])
    return counted


@njit(cache=True, nogil=True)
def _count_bytes(reference: Any, mapped: Any, in_reference: Any, in_map: Any, table: Any) -> None:  # noqa: ANN401
    """Add each pixel to the table (lane, reference, map); a mask of one pixel says that all are valid."""
    all_reference, all_map = len(in_reference) == 1, len(in_map) == 1
    one = np.uint32(1)
    if all_reference and all_map:
        for pixel in range(len(reference)):
            table[pixel & 3, reference[pixel], mapped[pixel]] += one
        return
    for pixel in range(len(reference)):
        row = np.int64(reference[pixel]) if all_reference or in_reference[pixel] else np.int64(_INVALID)
        col = np.int64(mapped[pixel]) if all_map or in_map[pixel] else np.int64(_INVALID)
        table[pixel & 3, row, col] += one


@njit(cache=True, nogil=True)
def _weigh_bytes(  # noqa: PLR0913, PLR0917 - a kernel takes flat arrays
    reference: Any,  # noqa: ANN401
    mapped: Any,  # noqa: ANN401
    in_reference: Any,  # noqa: ANN401
    in_map: Any,  # noqa: ANN401
    places: Any,  # noqa: ANN401
    row_areas: Any,  # noqa: ANN401
    areas: Any,  # noqa: ANN401
) -> None:
    """Add the area of each pixel to that of its pair, of which `places` (reference, map) says where it stands."""
    all_reference, all_map = len(in_reference) == 1, len(in_map) == 1
    width = len(reference) // len(row_areas)
    counts = np.empty(len(areas), np.int64)
    for line in range(len(row_areas)):
        for place in range(len(areas)):
            counts[place] = 0
        for pixel in range(line * width, (line + 1) * width):
            row = np.int64(reference[pixel]) if all_reference or in_reference[pixel] else np.int64(_INVALID)
            col = np.int64(mapped[pixel]) if all_map or in_map[pixel] else np.int64(_INVALID)
            counts[places[row, col]] += 1
        for place in range(len(areas)):
            areas[place] += counts[place] * row_areas[line]
