"""The job of a pipeline: bands of missing tiles for devices to sweep, and the state that its threads share."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import Protocol

from geoseg.inference.pipeline.mailbox import Crew
from geoseg.inference.tile import SceneMapping, TileMap, empty_map
from geoseg.legend import NODATA
from geoseg.profile import Profile
from geoseg.raster import Scene, Window


@dataclass(frozen=True, slots=True)
class Band:
    """A rectangle of missing tiles. A device runs the windows that touch it from the top down.

    Windows across the border of two bands run in both.
    """

    rows: range
    """Rows of tiles."""
    cols: range
    """Columns of tiles."""

    def tiles(self, tile_cols: int) -> Iterator[int]:
        """Yield the indexes of its tiles, row by row, in a scene that is `tile_cols` tiles wide."""
        return (row * tile_cols + col for row in self.rows for col in self.cols)

    def below(self, row: int) -> Band | None:
        """Return the part of the band from a row of tiles on, or None."""
        return replace(self, rows=range(row, self.rows.stop)) if row < self.rows.stop else None

    def halves(self) -> tuple[Band, Band]:
        """Return its left and its right half."""
        middle = self.cols.start + len(self.cols) // 2
        return (replace(self, cols=range(self.cols.start, middle)), replace(self, cols=range(middle, self.cols.stop)))


def bands(missing: Iterable[int], tile_cols: int, most_cols: int, most_rows: int) -> list[Band]:
    """Cut missing tiles into bands of at most `most_cols` columns and `most_rows` rows of tiles, from the top down.

    Each missing tile is in one band, and no other tile is in any. Runs of equal columns in consecutive rows form one
    band, so that no window between them runs twice.
    """
    result: list[Band] = []
    open_bands: dict[range, Band] = {}
    for row, indexes in itertools.groupby(sorted(missing), lambda index: index // tile_cols):
        continued: dict[range, Band] = {}
        for cols in _runs([index % tile_cols for index in indexes], most_cols):
            above = open_bands.get(cols)
            if above is not None and above.rows.stop == row and len(above.rows) < most_rows:
                del open_bands[cols]
                continued[cols] = replace(above, rows=range(above.rows.start, row + 1))
            else:
                continued[cols] = Band(range(row, row + 1), cols)
        result.extend(open_bands.values())
        open_bands = continued
    result.extend(open_bands.values())
    return sorted(result, key=lambda band: (band.rows.start, band.cols.start))


def _runs(cols: list[int], most: int) -> Iterator[range]:
    """Yield runs of consecutive columns, cut into pieces of nearly equal size."""
    first = 0
    for index in range(1, len(cols) + 1):
        if index < len(cols) and cols[index] == cols[index - 1] + 1:
            continue
        count = index - first
        pieces = math.ceil(count / most)
        for piece in range(pieces):
            yield range(cols[first] + count * piece // pieces, cols[first] + count * (piece + 1) // pieces)
        first = index


class TileWriter(Protocol):
    """Writes one tile; called by one writer thread at a time."""

    def add(self, rows: TileMap) -> None:
        """Take the next rows of the tile, from the top down; they are not modified until the tile is written."""

    def finish(self) -> None:
        """Write the tile after its last rows were added."""


@dataclass(frozen=True, slots=True)
class Job:
    """A scene, its tiles, and what to do with a finished tile."""

    mapping: SceneMapping[Scene]
    tile: Callable[[int], Window]
    """Gives the place of a tile, by its index."""
    tile_cols: int
    """Width of the scene in tiles."""
    begin: Callable[[int, Window], TileWriter]
    """Starts to write a tile, given its index and place; called in a writer thread."""
    profile: Profile
    rows_at_once: int | None = None
    """Rows of a tile that go to its writer at a time; None for all at once."""

    def is_empty(self, index: int) -> bool:
        """Return whether a tile certainly lies outside the mapped area."""
        area = self.mapping.area
        return area is not None and not area.may_touch(self.tile(index))

    def rows_of(self, tile: TileMap, place: Window, rows: range) -> TileMap:
        """Return some rows of a tile at a place, set to nodata outside the mapped area."""
        part = {name: pixels[..., rows.start : rows.stop, :] for name, pixels in tile.items()}
        if self.mapping.area is not None:
            outside = ~self.mapping.area.mask(Window(place.row + rows.start, place.col, len(rows), place.width))
            for pixels in part.values():
                pixels[..., outside] = NODATA
        return part

    def write_empty_tile(self, index: int) -> None:
        """Write a tile of nodata only."""
        place = self.tile(index)
        writer = self.begin(index, place)
        writer.add(empty_map(self.mapping, place))
        writer.finish()


@dataclass(frozen=True, slots=True)
class Crews:
    """The threads that read and write for all devices, and the limits on what they hold."""

    readers: Crew
    writers: Crew
    ring: int
    """Slabs per device."""
    tiles: int
    """Most tiles per device that are started and not yet written: more would not fit in memory."""
    pool: Executor | None = None
    """Scores windows if the device is this machine's cores."""
    scorers: int = 0
    """Number of threads of the pool."""

    @property
    def is_of_cores(self) -> bool:
        """Whether the only device is this machine's cores: waiting for it then counts as scoring."""
        return self.pool is not None


def area_of(job: Job, band: Band) -> Window:
    """Return the pixels of a band's tiles."""
    tiles = [*band.tiles(job.tile_cols)]
    first, last = job.tile(tiles[0]), job.tile(tiles[-1])
    return Window(first.row, first.col, last.row_stop - first.row, last.col_stop - first.col)
