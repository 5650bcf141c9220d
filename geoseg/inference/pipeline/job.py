"""What a pipeline maps, and what all of its threads share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from geoseg.inference.pipeline.bands import Band
from geoseg.inference.pipeline.mailbox import Crew
from geoseg.inference.tile import SceneMapping, TileMap
from geoseg.legend import NODATA
from geoseg.profile import Profile
from geoseg.raster import Scene, Window


@dataclass(frozen=True, slots=True)
class Job:
    """A scene, how it is cut into tiles, and what becomes of a finished tile."""

    mapping: SceneMapping[Scene]
    tile: Callable[[int], Window]
    """The place of a tile, by its index."""
    tile_cols: int
    """How many tiles the scene is wide."""
    write: Callable[[int, TileMap], None]
    """Write a tile, by its index; called in a writer."""
    profile: Profile

    def is_empty(self, index: int) -> bool:
        """Say whether a tile lies beside the area that is mapped, for certain."""
        area = self.mapping.area
        return area is not None and not area.may_touch(self.tile(index))

    def new_tile(self, index: int) -> TileMap:
        """Return memory for what is kept of a tile, not filled."""
        shape, keep = self.tile(index).shape, self.mapping.keep
        shapes = dict.fromkeys(keep, shape) | {"probabilities": (len(self.mapping.output_codes), *shape)}
        return {name: np.empty(shapes[name], np.uint8) for name in keep}

    def finish_tile(self, index: int, tile: TileMap) -> None:
        """Write a tile, without what is beside the area that is mapped."""
        if self.mapping.area is not None:
            beside = ~self.mapping.area.mask(self.tile(index))
            for pixels in tile.values():
                pixels[..., beside] = NODATA
        self.write(index, tile)

    def finish_empty_tile(self, index: int) -> None:
        """Write a tile in which nothing is mapped."""
        tile = self.new_tile(index)
        for pixels in tile.values():
            pixels[...] = NODATA
        self.write(index, tile)


@dataclass(frozen=True, slots=True)
class Crews:
    """The threads that read and write for all devices, and how much they may hold."""

    readers: Crew
    writers: Crew
    ring: int
    """Slabs for each device."""
    tiles: int
    """Tiles of each device that are begun and not yet written: more would not fit the memory."""


def area_of(job: Job, band: Band) -> Window:
    """Return the pixels of a band's tiles."""
    first, last = (job.tile(row * job.tile_cols + col) for row, col in _corners(band))
    return Window(first.row, first.col, last.row_stop - first.row, last.col_stop - first.col)


def _corners(band: Band) -> tuple[tuple[int, int], tuple[int, int]]:
    return (band.rows[0], band.cols[0]), (band.rows[-1], band.cols[-1])
