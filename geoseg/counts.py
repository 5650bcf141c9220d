"""How many pixels have which class code, in one raster or in two as pairs of codes. What a code means is told later."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import SceneError

NONE = -(2**31)
"""The code of a pixel that has none: nodata, masked, outside."""
MOST_CODES = 1024
"""Codes of one raster; a raster that has more shows no classes."""

_TABLE_SPAN = 2**16
"""Codes no farther apart than this are counted in a table, others are sorted."""


def count_bytes(codes: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return (256,) pixels by code; `codes` has any shape."""
    return np.bincount(codes.ravel(), minlength=256)


def codes_in(codes: NDArray[Any], valid: NDArray[np.bool_] | None = None) -> NDArray[np.int64]:
    """Return the codes that valid pixels have, ascending; whole numbers of any type and shape."""
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
    """(row, col), True = valid; None where only `nodata` tells."""
    nodata: int | None
    contested: int = 0
    """Pixels of which the source says several classes."""

    def as_bytes(self) -> StoredCodes | None:
        """Return the same as bytes, which are quicker; None where a code does not fit."""
        if self.data.dtype == np.uint8:
            return self
        data = self.data if self.valid is None else np.where(self.valid, self.data, 0)
        if data.min() < 0 or data.max() > 255:
            return None
        return StoredCodes(data.astype(np.uint8), self.valid, self.nodata)

    def indexed(self, name: str) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
        """Return (pixel,) places in a list of codes, and the list, which begins with NONE.

        SceneError, naming the raster, for more than MOST_CODES.
        """
        flat = self.data.ravel()
        found = codes_in(flat)
        if len(found) > MOST_CODES:
            raise SceneError(f"{name} holds more than {MOST_CODES} codes in one place; is it a map of classes?")
        if found[-1] - found[0] < _TABLE_SPAN:
            lookup = np.zeros(found[-1] - found[0] + 1, np.intp)
            lookup[found - found[0]] = np.arange(1, len(found) + 1)
            places = lookup[flat.astype(np.int64) - found[0]]
        else:
            places = np.searchsorted(found, flat) + 1
        if self.valid is not None:
            places[~self.valid.ravel()] = 0
        return places, np.concatenate([[NONE], np.where(found == self.nodata, NONE, found)])


@dataclass(slots=True)
class PairCounts:
    """Pixels by their code in the reference and in the map."""

    pixels: Counter[tuple[int, int]] = field(default_factory=Counter)
    areas: dict[tuple[int, int], float] = field(default_factory=dict)
    """In m2, likewise; empty where all pixels are of one area."""
    contested: int = 0
    """Pixels of which the reference says several classes."""

    def add(self, other: PairCounts) -> None:
        """Add the pixels of other windows."""
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


def count_pairs(
    reference: StoredCodes | None,
    mapped: StoredCodes,
    pixel_areas: NDArray[np.float64] | None,
    names: tuple[str, str],
) -> PairCounts:
    """Count a window. `pixel_areas` (row,) or (row, col): what each pixel measures, where they differ.

    Without a reference all pixels are pairs with NONE. `names` of reference and map, for the message of the SceneError
    where they hold no classes.
    """
    theirs = None if reference is None else reference.as_bytes()
    ours = None if theirs is None else mapped.as_bytes()
    if theirs is not None and ours is not None and (pixel_areas is None or pixel_areas.ndim == 1):
        return _bytes_counted(theirs, ours, pixel_areas)
    columns, map_codes = mapped.indexed(names[1])
    if reference is None:
        cells, reference_codes = columns, np.array([NONE])
    else:
        rows, reference_codes = reference.indexed(names[0])
        cells = rows * len(map_codes) + columns
    pixels = np.bincount(cells)
    found = np.flatnonzero(pixels)
    areas: NDArray[np.float64] | None = None
    if pixel_areas is not None:
        by_row = pixel_areas[:, None] if pixel_areas.ndim == 1 else pixel_areas
        weights = np.broadcast_to(by_row, mapped.data.shape).ravel()
        areas = np.bincount(cells, weights).astype(np.float64)[found]
    return _named(found, pixels[found], areas, reference_codes, map_codes)


def _bytes_counted(reference: StoredCodes, mapped: StoredCodes, row_areas: NDArray[np.float64] | None) -> PairCounts:
    """Count pairs of bytes in a table of all that there can be; masked rasters need room for what is not valid."""
    from geoseg.byte_pairs import INVALID, table_of_pairs  # noqa: PLC0415 - numba, which counting one raster needs not

    pair = reference, mapped
    found, pixels, areas = table_of_pairs((reference.data, mapped.data), (reference.valid, mapped.valid), row_areas)
    values = np.arange(INVALID if all(each.valid is None for each in pair) else INVALID + 1)
    codes = [np.where((values == each.nodata) | (values == INVALID), NONE, values) for each in pair]
    return _named(found, pixels, areas, *codes)


def _named(
    found: NDArray[np.intp],
    pixels: NDArray[np.int64],
    areas: NDArray[np.float64] | None,
    reference_codes: NDArray[np.int64],
    map_codes: NDArray[np.int64],
) -> PairCounts:
    """Return what was counted of the cells found in a table (reference, map), with the codes of its rows and cols."""
    rows, cols = np.divmod(found, len(map_codes))
    pairs = list(zip(reference_codes[rows].tolist(), map_codes[cols].tolist(), strict=True))
    counted = PairCounts()
    for pair, number in zip(pairs, pixels.tolist(), strict=True):
        counted.pixels[pair] += number
    if areas is not None:
        for pair, area in zip(pairs, areas.tolist(), strict=True):
            counted.areas[pair] = counted.areas.get(pair, 0.0) + area
    return counted
