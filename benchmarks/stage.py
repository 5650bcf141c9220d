"""Inference alone: a plan's tiles read, scored, blended and labeled as in `Plan.run`, with nothing written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from geoseg.inference import Plan, map_tile, run_sweep
from geoseg.profile import Profile
from geoseg.raster import Window


def stage(made: Plan, tiles: Sequence[int] | None = None, labels: NDArray[np.uint8] | None = None) -> None:
    """Map some tiles, by default all of them, and throw the labels away, or paste them into those of the scene."""
    chosen = range(made.tile_count) if tiles is None else tiles
    if not made.is_swept:
        engine = made.open_engine()
        for index in chosen:
            Pasted(made.tile(index), labels).add(map_tile(made.mapping, engine, made.tile(index)))
        return
    run_sweep(made, chosen, lambda _index, place: Pasted(place, labels), lambda _index: None, Profile())


def windows_of(made: Plan, tiles: Sequence[int]) -> int:
    """Return the number of windows of some tiles that form one rectangle."""
    first, last = made.tile(min(tiles)), made.tile(max(tiles))
    area = Window(first.row, first.col, last.row_stop - first.row, last.col_stop - first.col)
    return len(made.grid.rows_touching(area)) * len(made.grid.cols_touching(area))


@dataclass(slots=True)
class Pasted:
    """A tile whose labels are pasted into the scene's, if there are any."""

    place: Window
    labels: NDArray[np.uint8] | None
    rows: int = field(default=0)

    def add(self, rows: dict[str, NDArray[np.uint8]]) -> None:
        """Receive the next rows."""
        found = rows["labels"]
        if self.labels is not None:
            first = self.place.row + self.rows
            self.labels[first : first + len(found), self.place.cols] = found
        self.rows += len(found)

    def finish(self) -> None:
        """Do nothing."""
