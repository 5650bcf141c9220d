"""Where the light regions of a strip meet others, and along how many sides of pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numba import njit
from numpy.typing import NDArray

from geoseg.vector.numbered import Numbered


@dataclass(frozen=True, slots=True)
class Borders:
    """Sides of pixels shared by two regions, one entry for each direction, in the order of `regions` and `others`."""

    regions: NDArray[np.int32]
    """(border,) in the numbers of a strip."""
    others: NDArray[np.int32]
    """(border,) in the numbers of the raster."""
    lengths: NDArray[np.int64]
    """(border,) 0 where they touch at a corner only."""

    @classmethod
    def none(cls) -> Self:
        """Return the borders above the raster."""
        return cls(np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0, np.int64))

    def carry(self, light: NDArray[np.bool_], still_open: NDArray[np.bool_]) -> Self:
        """Return those of the light regions still open, called by their places among the open ones.

        `light` and `still_open` are (region,).
        """
        kept = (light & still_open)[self.regions]
        places = np.cumsum(still_open, dtype=np.int32) - np.int32(1)
        return type(self)(places[self.regions[kept]], self.others[kept], self.lengths[kept])


def find_borders(
    strip: Numbered,
    cols: int,
    light: NDArray[np.bool_],
    side_weights: tuple[int, int],
    connectivity: int,
    above: Borders,
) -> Borders:
    """Return the borders of the light regions in a strip, with what is known of them from the strips above.

    `light` is (region,); `side_weights` are the lengths of a pixel's side along a row and along a column. With
    connectivity 8 there are also borders of no length, where regions touch at a corner: of light ones with any, and of
    any with those of their own class.
    """
    regions = strip.regions
    corner = int(connectivity == 8)
    found = 0
    for _ in range(2):  # count, then write
        sources, targets = np.empty(found, np.int32), np.empty(found, np.int32)
        lengths = np.empty(found, np.int64)
        found = _meet(
            regions.run_rows,
            regions.run_cols,
            regions.run_regions,
            cols + 2,
            regions.codes,
            light,
            corner,
            *side_weights,
            sources,
            targets,
            lengths,
        )
    return _added_up(
        np.append(regions.carried[above.regions], sources),
        np.append(above.others, strip.numbers[targets]),
        np.append(above.lengths, lengths),
    )


def _added_up(regions: NDArray[np.int32], others: NDArray[np.int32], lengths: NDArray[np.int64]) -> Borders:
    """Return one entry for each pair."""
    if not len(regions):
        return Borders(regions, others, lengths)
    pairs = regions.astype(np.int64) << 32 | others
    order = np.argsort(pairs, kind="stable")
    pairs = pairs[order]
    first = np.flatnonzero(np.diff(pairs, prepend=-1))
    return Borders(regions[order[first]], others[order[first]], np.add.reduceat(lengths[order], first))


@njit(cache=True, nogil=True)
def _meet(
    run_rows: Any,
    run_cols: Any,
    run_regions: Any,
    width: int,
    codes: Any,
    light: Any,
    corner: int,
    along_a_row: int,
    along_a_column: int,
    sources: Any,
    targets: Any,
    lengths: Any,
) -> int:
    """Write where runs meet, once for each light region of the two, as far as there is room; return how often they do.

    With `corner` 1, not 0, they meet at corners too.
    """
    found = 0
    for row in range(1, len(run_rows) - 1):
        above = run_rows[row - 1]
        row_start = run_rows[row]
        row_stop = run_rows[row + 1]
        for run in range(row_start, row_stop):
            region = run_regions[run]
            if region < 0:
                continue
            start = run_cols[run]
            stop = run_cols[run + 1]  # there is one: the frame's right column is background
            while above + 1 < row_start and run_cols[above + 1] <= start - corner:
                above += 1
            over = above
            beside = True  # first the next run of the row, then those above
            while beside or (over < row_start and run_cols[over] < stop + corner):
                if beside:
                    other = run_regions[run + 1]
                    length = along_a_column
                    beside = False
                else:
                    other = run_regions[over]
                    over_stop = run_cols[over + 1] if over + 1 < row_start else width
                    length = along_a_row * max(0, min(stop, over_stop) - max(start, run_cols[over]))
                    over += 1
                if other < 0 or other == region:
                    continue
                for source, target in ((region, other), (other, region)):
                    if light[source] or codes[source] == codes[target]:
                        if found < len(sources):
                            sources[found] = source
                            targets[found] = target
                            lengths[found] = length
                        found += 1
    return found
