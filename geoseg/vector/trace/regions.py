"""Regions of equal class, found from runs of equal pixels: three to seven times as fast as from pixels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from geoseg.compiled import njit


def framed(strips: Iterable[NDArray[Any]], background: int) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield (raster row of the frame's row 1, frame) for strips (row, col) in order.

    A frame has a column of background left and right, in row 0 the last row of the strip above (background above the
    raster), and in the last strip a row of background below, which closes all open regions.
    """
    first_row = 0
    above: NDArray[Any] | None = None
    coming = iter(strips)
    strip = next(coming, None)
    while strip is not None:
        following = next(coming, None)
        rows, cols = strip.shape
        frame = np.empty((rows + 1 + (following is None), cols + 2), strip.dtype)
        frame[:, [0, -1]] = background
        frame[0] = background if above is None else above
        frame[1 : rows + 1, 1:-1] = strip
        if following is None:
            frame[-1] = background
        above = frame[-1].copy()
        yield first_row, frame
        first_row += rows
        strip = following


@dataclass(frozen=True, slots=True)
class Regions:
    """The 4-connected regions with a pixel in a strip, or still open above it."""

    run_rows: NDArray[np.int32]
    """(row + 1,) offsets into the runs; row 0 is the last of the strip above."""
    run_cols: NDArray[np.int32]
    """(run,) first column of each run; the frame's column is 0. A run ends where the next starts."""
    run_regions: NDArray[np.int32]
    """(run,) the region of each run, -1 for background."""
    codes: NDArray[np.int32]
    """(region,) class. Regions are in the order of their first pixels."""
    area_px: NDArray[np.int64]
    """(region,) pixels so far."""
    last_row: NDArray[np.int64]
    """(region,) the raster's row of its last pixel so far."""
    carried: NDArray[np.int32]
    """(region of the previous strip,) its number here: two that were separate above may be joined now."""

    @classmethod
    def none(cls) -> Self:
        """Return the regions above the first row of a raster: one run of background."""
        empty = np.empty(0, np.int32)
        return cls(
            np.array([0, 1], np.int32), np.zeros(1, np.int32), np.full(1, -1, np.int32), empty,
            np.empty(0, np.int64), np.empty(0, np.int64), empty,
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.codes)

    def carry(self, keep: NDArray[np.bool_]) -> Self:
        """Return the regions for the next strip: the last row of runs, and only the regions to keep, renumbered.

        `keep` is (region,) and includes at least the open ones; the order does not change.
        """
        last = slice(self.run_rows[-2], self.run_rows[-1])
        numbers = np.cumsum(keep, dtype=np.int32) - np.int32(1)
        runs = self.run_regions[last]
        return type(self)(
            np.array([0, len(runs)], np.int32), self.run_cols[last].copy(),
            np.where(runs < 0, runs, numbers[runs]) if len(numbers) else runs.copy(), self.codes[keep],
            self.area_px[keep], self.last_row[keep], np.empty(0, np.int32),
        )  # fmt: skip

    @property
    def open(self) -> NDArray[np.bool_]:
        """(region,) whether it reaches the last row of the strip, so that it may continue in the next."""
        is_open = np.zeros(len(self) + 1, np.bool_)  # the last entry takes the background's -1
        is_open[self.run_regions[self.run_rows[-2] :]] = True
        return is_open[:-1]


def find_regions(strip: NDArray[Any], background: int, above: Regions, first_row: int) -> Regions:
    """Find the regions of a framed strip, whose row 1 is the raster's `first_row`; regions open `above` continue."""
    top = slice(above.run_rows[-2], above.run_rows[-1])
    carried_runs = above.run_rows[-1] - above.run_rows[-2]
    run_rows = np.empty(len(strip) + 1, np.int32)
    count_runs(strip, carried_runs, run_rows)
    run_cols = np.empty(run_rows[-1], np.int32)
    run_regions = np.empty(run_rows[-1], np.int32)
    run_cols[:carried_runs] = above.run_cols[top]
    run_regions[:carried_runs] = above.run_regions[top]
    parents = np.empty(len(above) + len(run_cols), np.int32)
    provisional_count = _join_runs(strip, background, run_rows, run_cols, run_regions, parents, len(above))
    numbers = parents[:provisional_count]
    count = number(numbers)
    codes = np.empty(count, np.int32)
    area_px = np.zeros(count, np.int64)
    last_row = np.zeros(count, np.int64)
    carried = numbers[: len(above)].copy()
    codes[carried] = above.codes
    np.add.at(area_px, carried, above.area_px)
    np.maximum.at(last_row, carried, above.last_row)
    _measure(strip, run_rows, run_cols, run_regions, numbers, codes, area_px, last_row, first_row)
    return Regions(run_rows, run_cols, run_regions, codes, area_px, last_row, carried)


@njit(cache=True, nogil=True)
def count_runs(strip: Any, carried_runs: int, run_rows: Any) -> None:
    """Fill in the offsets of runs, (row + 1,): those carried in row 0, then those of each row of the frame."""
    run_rows[0] = 0
    run_rows[1] = carried_runs
    for row in range(1, strip.shape[0]):
        count = 1
        for col in range(1, strip.shape[1]):
            count += strip[row, col] != strip[row, col - 1]
        run_rows[row + 1] = run_rows[row] + count


@njit(cache=True, nogil=True)
def _join_runs(
    strip: Any, background: int, run_rows: Any, run_cols: Any, run_regions: Any, parents: Any, found: int
) -> int:
    """Write the runs and their regions, still separate if they meet later; return the number of regions started."""
    for region in range(found):
        parents[region] = region
    width = strip.shape[1]
    for row in range(1, strip.shape[0]):
        above = run_rows[row - 1]
        above_stop = run_rows[row]
        run = above_stop
        col = 0
        while col < width:
            code = strip[row, col]
            stop = col + 1
            while stop < width and strip[row, stop] == code:
                stop += 1
            region = -1
            if code != background:
                while above + 1 < above_stop and run_cols[above + 1] <= col:
                    above += 1
                over = above
                while over < above_stop and run_cols[over] < stop:
                    if strip[row - 1, run_cols[over]] == code:
                        other = run_regions[over]
                        while parents[other] != other:
                            parents[other] = parents[parents[other]]
                            other = parents[other]
                        if region < 0 or region == other:
                            region = other
                        elif other < region:
                            parents[region] = other
                            region = other
                        else:
                            parents[other] = region
                    over += 1
                if region < 0:
                    region = found
                    parents[region] = region
                    found += 1
            run_cols[run] = col
            run_regions[run] = region
            run += 1
            col = stop
    return found


@njit(cache=True, nogil=True)
def number(parents: Any) -> int:
    """Turn parents into numbers without gaps, in the order of first pixels; a parent never comes after its child."""
    count = 0
    for region in range(len(parents)):
        if parents[region] == region:
            parents[region] = count
            count += 1
        else:
            parents[region] = parents[parents[region]]
    return count


@njit(cache=True, nogil=True)
def _measure(
    strip: Any, run_rows: Any, run_cols: Any, run_regions: Any, numbers: Any, codes: Any, area_px: Any,
    last_row: Any, first_row: int,
) -> None:  # fmt: skip
    for row in range(strip.shape[0]):
        for run in range(run_rows[row], run_rows[row + 1]):
            if run_regions[run] < 0:
                continue
            region = numbers[run_regions[run]]
            run_regions[run] = region
            if row == 0:
                continue
            stop = run_cols[run + 1] if run + 1 < run_rows[row + 1] else strip.shape[1]
            codes[region] = strip[row, run_cols[run]]
            area_px[region] += stop - run_cols[run]
            last_row[region] = first_row + row - 1
