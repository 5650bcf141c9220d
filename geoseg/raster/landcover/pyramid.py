"""Overviews of one tile, halved level by level in numpy; a pixel of a level depends on its own four and nothing else.

So the overviews of tiles, put side by side, are the overviews of the map, whatever the tiles.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from geoseg.legend import NODATA
from geoseg.raster.landcover.product import ProductName
from geoseg.raster.windows import Window

SMALLEST_PX = 512
BLOCK_PX = 256
_ROWS_AT_ONCE = 256

Pixels = NDArray[np.uint8]


def overview_levels(height_px: int, width_px: int) -> int:
    """Return how often a raster is halved until its long side is at most 512 pixels.

    A tile whose first row and column are multiples of 2**levels has overviews that fit those of its neighbours.
    """
    levels = 0
    while max(halved_px(height_px, levels), halved_px(width_px, levels)) > SMALLEST_PX:
        levels += 1
    return levels


def halved_px(length_px: int, times: int) -> int:
    """Return a length halved, rounded up, as GDAL sizes its overviews."""
    return -(-length_px >> times)


def level_windows(height_px: int, width_px: int, levels: int) -> tuple[Window, ...]:
    """Return where each level of a tile lies in its part: the tile on top, each below the last, on whole blocks."""
    windows, row = [], 0
    for level in range(levels + 1):
        windows.append(Window(row, 0, halved_px(height_px, level), halved_px(width_px, level)))
        row += -(-windows[-1].height // BLOCK_PX) * BLOCK_PX
    return tuple(windows)


def pyramid(pixels: Pixels, levels: int, name: ProductName) -> list[Pixels]:
    """Return a tile (band, row, col) and its overviews: the most frequent class for labels, else the mean.

    Nodata counts for nothing.
    """
    halve = _most_frequent if name == "labels" else _mean
    found = [pixels]
    for _ in range(levels):
        found.append(_halved(found[-1], halve))
    return found


def _halved(pixels: Pixels, halve: Callable[[Pixels, Pixels, Pixels, Pixels], Pixels]) -> Pixels:
    bands, height, width = pixels.shape
    small = np.empty((bands, halved_px(height, 1), halved_px(width, 1)), np.uint8)
    # A strip at a time: a dozen temporary arrays of a whole level would be larger than the tile.
    for row in range(0, small.shape[1], _ROWS_AT_ONCE):
        strip = pixels[:, 2 * row : 2 * (row + _ROWS_AT_ONCE)]
        odd = (strip.shape[1] % 2, strip.shape[2] % 2)
        if any(odd):
            strip = np.pad(strip, ((0, 0), (0, odd[0]), (0, odd[1])), constant_values=NODATA)
        small[:, row : row + _ROWS_AT_ONCE] = halve(
            strip[:, ::2, ::2], strip[:, ::2, 1::2], strip[:, 1::2, ::2], strip[:, 1::2, 1::2]
        )
    return small


def _most_frequent(first: Pixels, second: Pixels, third: Pixels, fourth: Pixels) -> Pixels:
    """Return the most frequent class of four, the first of them on a tie; never a class that is not among them."""
    found = fourth.copy()
    for candidate in (third, second, first):
        np.copyto(found, candidate, where=candidate != NODATA)
    # From here each winner overrules the last: a pair among the later ones, then a pair with an earlier one.
    np.copyto(found, third, where=(third == fourth) & (third != NODATA))
    np.copyto(found, second, where=((second == third) | (second == fourth)) & (second != NODATA))
    np.copyto(found, first, where=((first == second) | (first == third) | (first == fourth)) & (first != NODATA))
    return found


def _mean(*four: Pixels) -> Pixels:
    total = np.zeros(four[0].shape, np.uint16)
    count = np.zeros(four[0].shape, np.uint16)
    for pixels in four:
        valid = pixels != NODATA
        total += np.where(valid, pixels, np.uint8(0))
        count += valid
    mean = (total + count // 2) // np.maximum(count, 1)
    return np.where(count > 0, mean, NODATA).astype(np.uint8)
