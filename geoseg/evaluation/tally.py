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
_LANES = 2
"""Tables that take turns: one cell would wait for its own last sum."""


@dataclass(frozen=True, slots=True)
class Codes:
    """The codes of one raster in a window."""

    data: NDArray[Any]
    """(row, col) integers as stored."""
    valid: NDArray[np.bool_] | None
    """(row, col), True = valid; None where only `nodata` tells."""
    nodata: int | None

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
    if row_areas is None and reference is not None and reference.data.dtype == mapped.data.dtype == np.uint8:
        return _bytes_tally(reference, mapped)
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


def _bytes_tally(reference: Codes, mapped: Codes) -> Tally:
    """Count pairs of bytes in a table of all that there can be; masked rasters need room for what is not valid."""
    pair = reference, mapped
    values = np.arange(_INVALID if all(each.valid is None for each in pair) else _INVALID + 1)
    table = np.zeros((_LANES, len(values), len(values)), np.int64)
    rows, cols = (np.ascontiguousarray(each.data).ravel() for each in pair)
    in_reference, in_map = (_ONE if each.valid is None else each.valid.ravel() for each in pair)
    _count_bytes(rows, cols, in_reference, in_map, table)
    codes = [np.where((values == each.nodata) | (values >= _INVALID), NONE, values) for each in pair]
    return _named(table.sum(axis=0), None, *codes)


def _named(
    pixels: NDArray[np.int64],
    areas: NDArray[np.float64] | None,
    reference_codes: NDArray[np.int64],
    map_codes: NDArray[np.int64],
) -> Tally:
    counted = Tally()
    for row, col in zip(*np.nonzero(pixels), strict=True):
        pair = int(reference_codes[row]), int(map_codes[col])
        counted.pixels[pair] += int(pixels[row, col])
        if areas is not None:
            counted.areas[pair] = counted.areas.get(pair, 0.0) + float(areas[row, col])
    return counted


@njit(cache=True, nogil=True)
def _count_bytes(reference: Any, mapped: Any, in_reference: Any, in_map: Any, table: Any) -> None:  # noqa: ANN401
    """Add each pixel to the table (lane, reference, map); a mask of one pixel says that all are valid."""
    all_reference, all_map = len(in_reference) == 1, len(in_map) == 1
    if all_reference and all_map:
        for pixel in range(len(reference)):
            table[pixel & 1, reference[pixel], mapped[pixel]] += 1
        return
    for pixel in range(len(reference)):
        row = np.int64(reference[pixel]) if all_reference or in_reference[pixel] else np.int64(_INVALID)
        col = np.int64(mapped[pixel]) if all_map or in_map[pixel] else np.int64(_INVALID)
        table[pixel & 1, row, col] += 1
