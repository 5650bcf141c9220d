"""The areas of a split: whole scenes, or windows of scenes that share no pixel. Loads no raster library."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geoseg.raster import Window
from geoseg.typed import checked

PARTS = ("train", "valid", "test")
"""The parts of a split."""
RULES = ("published", "folders", "all", "mixture")
"""The rules of a split that take no share."""
DEFAULT_SEED = 21
"""The seed of every random draw, in training and evaluation, so both split a data set the same way."""


@dataclass(frozen=True, slots=True)
@checked
class Area:
    """A scene, or a window of one, in a part of a split."""

    pair_id: str
    window: Window | None = None
    """In the scene's own pixels, inside it; None for the whole scene."""

    def overlaps(self, other: Area) -> bool:
        """Return whether two areas share a pixel."""
        if self.pair_id != other.pair_id:
            return False
        return self.window is None or other.window is None or self.window.intersection(other.window) is not None

    def order(self) -> tuple[str, int, int]:
        """Return the sort key of an area."""
        return (self.pair_id, -1, -1) if self.window is None else (self.pair_id, self.window.row, self.window.col)


def covered(keep: Sequence[Window], holes: Iterable[Window] = ()) -> tuple[Window, ...]:
    """Return the pixels that are in any of `keep` and in none of `holes`, as disjoint windows, row by row."""
    if not keep:
        return ()
    holes = tuple(holes)
    row_edges = sorted({edge for window in (*keep, *holes) for edge in (window.row, window.row_stop)})
    col_edges = sorted({edge for window in (*keep, *holes) for edge in (window.col, window.col_stop)})
    rows, cols = ({edge: place for place, edge in enumerate(edges)} for edges in (row_edges, col_edges))
    is_in = np.zeros((len(row_edges) - 1, len(col_edges) - 1), np.bool_)
    for windows, value in ((keep, True), (holes, False)):
        for window in windows:
            is_in[rows[window.row] : rows[window.row_stop], cols[window.col] : cols[window.col_stop]] = value
    return tuple(
        Window(row_edges[top], col_edges[left], row_edges[bottom] - row_edges[top], col_edges[right] - col_edges[left])
        for top, bottom, left, right in _merged(is_in)
    )


def _merged(is_in: NDArray[np.bool_]) -> list[tuple[int, int, int, int]]:
    """Return (top, bottom, left, right) of runs along rows, joined with the equal runs below."""
    done: list[tuple[int, int, int, int]] = []
    open_runs: dict[tuple[int, int], int] = {}
    for row, line in enumerate((*is_in, np.zeros(is_in.shape[1], np.bool_))):
        turns = np.flatnonzero(np.diff(np.r_[False, line, False].astype(np.int8)))
        runs = set(zip(turns[::2].tolist(), turns[1::2].tolist(), strict=True))
        ended = [run for run in open_runs if run not in runs]
        done += [(open_runs.pop(run), row, *run) for run in ended]
        for run in runs:
            open_runs.setdefault(run, row)
    return sorted(done)
