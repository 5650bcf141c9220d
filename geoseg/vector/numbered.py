"""Regions numbered over the whole raster, in the order in which they are begun: the same numbers at each reading."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.vector.frame import framed
from geoseg.vector.runs import Regions, find_regions


@dataclass(frozen=True, slots=True)
class Numbered:
    """The regions of a framed strip, and what they are called in the whole raster."""

    first_row: int
    """The raster's row that is the frame's row 1."""
    regions: Regions
    numbers: NDArray[np.int32]
    """(region,) ascending."""
    numbers_above: NDArray[np.int32]
    """(region of the strip before,) as they were called there."""
    begun: int
    """Numbers given so far."""
    dtype: np.dtype[Any]
    """Of the strip."""

    @property
    def last_row(self) -> int:
        """The raster's row that is the frame's last: in the last strip the row of background below the raster."""
        return self.first_row + len(self.regions.run_rows) - 3


def number_regions(strips: Iterable[NDArray[Any]], background: int) -> Iterator[Numbered]:
    """Yield the regions of each strip (row, col); below the last one is a row of background."""
    above = Regions.none()
    numbers_above = np.empty(0, np.int32)
    begun = 0
    for first_row, frame in framed(strips, background):
        regions = find_regions(frame, background, above, first_row)
        known = int(regions.carried.max(initial=-1)) + 1
        numbers = np.arange(begun - known, begun - known + len(regions), dtype=np.int32)
        numbers[:known] = begun
        np.minimum.at(numbers, regions.carried, numbers_above)
        begun += len(regions) - known
        yield Numbered(first_row, regions, numbers, numbers_above, begun, frame.dtype)
        still_open = regions.open
        above = regions.carry(still_open)
        numbers_above = numbers[still_open]


def run_lengths(regions: Regions, cols: int) -> NDArray[np.int32]:
    """Return (run,) the columns of each run below row 0 of a frame, its columns of background included."""
    first_cols = regions.run_cols[regions.run_rows[1] :]
    stops = np.append(first_cols[1:], np.int32(0))
    stops[regions.run_rows[2:] - regions.run_rows[1] - 1] = cols + 2
    return stops - first_cols
