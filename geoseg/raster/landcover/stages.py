"""Stages of a map: sets of parts, each with some of its levels, and the smaller levels made from them.

A stage is a set of parts side by side. Joining its tiles into larger ones gives the next stage, with blocks of levels
that the first lacks, and so on up to the smallest overview. With tiles of 4096 pixels and blocks of 512 the second
stage reads 1/256 of the map's pixels. It is made row by row while tiles are still being mapped, so that little is left
to do after the last one. Parts whose tiles cut the blocks of the map itself, or that were stored with other options,
are read whole.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from geoseg.atomic import output_error
from geoseg.legend import NODATA
from geoseg.machine import available_cores, is_fork
from geoseg.raster.environment import GDAL_ERRORS
from geoseg.raster.landcover.cog import Blocks, CogLayout
from geoseg.raster.landcover.overviews import Pixels, halved_px
from geoseg.raster.landcover.product import Product
from geoseg.raster.landcover.tile_file import (
    PartEncoder,
    PartFormat,
    part_path,
    parts_in,
    read_blocks,
    read_index,
    read_level,
)
from geoseg.raster.windows import Tiling, Window

_LARGE_PIXELS = 2**23
"""Largest tile of a later stage, over all bands, that one thread holds."""
_MOST_THREADS = 4


@dataclass(frozen=True, slots=True)
class Stage:
    """Parts side by side that hold some levels of a map."""

    folder: Path
    product: Product
    shape: tuple[int, int]
    """(rows, cols) of the map at the stage's first level."""
    first_level: int
    tiles: Sequence[Window]
    """In pixels of the first level; `tiles[i]` is the place of part i."""
    form: PartFormat
    """Its levels count from the stage's first."""

    @property
    def is_last(self) -> bool:
        """Whether no smaller level is left to make."""
        return self.form.final_levels > self.form.levels

    def missing(self) -> list[int]:
        """Return the tiles whose part is missing."""
        present = parts_in(self.folder, self.product)
        return [index for index in range(len(self.tiles)) if index not in present]

    def part(self, index: int) -> Path:
        """Return the file of a part."""
        return part_path(self.folder, self.product, index)

    def note_sizes(self, sizes: Sequence[Blocks], wanted: Mapping[str, list[int]]) -> bool:
        """Write the sizes of the map's blocks in this stage to `sizes`; False if some are not stored as `wanted`."""
        if self.form.final_levels == 0:
            return True
        for number, tile in enumerate(self.tiles):
            index = read_index(self.part(number))
            if index.stored != wanted:
                return False
            for level, level_sizes in enumerate(index.sizes):
                rows, cols = self.blocks_of(tile, level)
                shape = rows.stop - rows.start, cols.stop - cols.start
                sizes[self.first_level + level][rows, cols] = level_sizes.reshape(shape)
        return True

    def blocks_of(self, tile: Window, level: int) -> tuple[slice, slice]:
        """Return the rows and columns of a tile's blocks at a level, which counts from the stage's first."""
        window, block_px = _halved_window(tile, level), self.form.block_px
        return (
            slice(window.row // block_px, math.ceil(window.row_stop / block_px)),
            slice(window.col // block_px, math.ceil(window.col_stop / block_px)),
        )

    def copy_blocks(self, layout: CogLayout, file: BinaryIO) -> None:
        """Copy the map's blocks of all levels in this stage to their places."""
        final = min(self.form.final_levels, self.form.levels + 1)
        for index, tile in enumerate(self.tiles):
            for level, blocks in enumerate(read_blocks(self.part(index), final)):
                rows, cols = self.blocks_of(tile, level)
                count = cols.stop - cols.start
                for index_in_tile, row in enumerate(range(rows.start, rows.stop)):
                    side_by_side = blocks[index_in_tile * count : (index_in_tile + 1) * count]
                    layout.write_blocks(file, self.first_level + level, row, cols.start, side_by_side)

    def paste(self, index: int, level: int, place: Window, pixels: Pixels) -> None:
        """Copy the pixels that a part has in the window `place` into `pixels`."""
        window = _halved_window(self.tiles[index], level)
        shared = window.intersection(place)
        if shared is None:
            return
        target = shared.relative_to(place)
        pixels[:, target.rows, target.cols] = read_level(self.part(index), level, shared.relative_to(window))


class NextStage:
    """The stage after another, made while the parts of that stage arrive, or after all have."""

    def __init__(self, stage: Stage, scratch: Path) -> None:
        """Start, with a new folder in `scratch`."""
        first = stage.form.last_level
        folder = scratch / f"{stage.product.name}_from{stage.first_level + first}"
        folder.mkdir(parents=True)
        shape = halved_px(stage.shape[0], first), halved_px(stage.shape[1], first)
        edge_px = _large_edge(stage.form.block_px, stage.product.count)
        self._cut = Tiling(*shape, edge_px, edge_px)
        form = PartFormat.of(shape, (edge_px, edge_px), stage.form.storage)
        self.stage = stage
        self._result = Stage(folder, stage.product, shape, stage.first_level + first, self._cut, form)
        self._level = first
        self._threads = _threads(stage.form.storage)
        self._threads_a_tile = max(1, self._threads // self._cut.cols)
        self._touching = _touching((_halved_window(tile, first) for tile in stage.tiles), self._cut)
        self._encoders: dict[int, PartEncoder] = {}
        """By tile in progress."""
        self._rows_done = [0] * len(self._cut)
        """Rows of each tile that are in its encoder or written."""
        self._coming = deque(_rows_of_tiles(stage.tiles))

    def go_on(self, finished: Container[int]) -> None:
        """Process the next row of the stage's tiles if all of them are `finished`. Raises OutputError."""
        if not self._coming or not all(index in finished for index in self._coming[0]):
            return
        place = _halved_window(self.stage.tiles[self._coming.popleft()[0]], self._level)
        rows = range(place.row // self._cut.tile_height_px, (place.row_stop - 1) // self._cut.tile_height_px + 1)
        try:
            for index in range(rows.start * self._cut.cols, rows.stop * self._cut.cols):
                self._make(index, place.row_stop)
        except GDAL_ERRORS as error:
            raise output_error(self._result.folder, error) from error

    def finish(self) -> Stage:
        """Make the remaining tiles once all parts exist, and return the stage."""
        left = [index for index, tile in enumerate(self._cut) if self._rows_done[index] < tile.height]
        with ThreadPoolExecutor(self._threads, "geoseg-overviews") as pool:
            list(pool.map(lambda index: self._make(index, self._cut.height_px), left))
        return self._result

    def _make(self, index: int, stop: int) -> None:
        """Add a tile's rows up to `stop`, counted from the top of the map; write the tile once it is complete."""
        tile, rows_done = self._cut[index], self._rows_done[index]
        place = Window(tile.row + rows_done, tile.col, min(stop, tile.row_stop) - tile.row - rows_done, tile.width)
        pixels = np.full((self.stage.product.count, *place.shape), NODATA, np.uint8)
        for source in self._touching[index]:
            self.stage.paste(source, self._level, place, pixels)
        encoder = self._encoders.pop(index, None)
        encoder = encoder or PartEncoder(self.stage.product, tile.height, self._result.form, self._threads_a_tile)
        encoder.add(pixels)
        self._rows_done[index] += place.height
        if self._rows_done[index] == tile.height:
            self._result.part(index).write_bytes(encoder.content())
        else:
            self._encoders[index] = encoder


def _rows_of_tiles(tiles: Sequence[Window]) -> Iterator[range]:
    """Yield the indexes of each row of tiles, top down."""
    cols = sum(1 for _ in itertools.takewhile(lambda tile: tile.row == tiles[0].row, tiles))
    return (range(first, min(first + cols, len(tiles))) for first in range(0, len(tiles), cols))


def _large_edge(block_px: int, bands: int) -> int:
    """Return the tile edge of a later stage: a block, doubled as long as one thread can hold the tile."""
    edge_px = block_px
    while bands * (2 * edge_px) ** 2 <= _LARGE_PIXELS:
        edge_px *= 2
    return edge_px


def _halved_window(tile: Window, level: int) -> Window:
    return Window(tile.row >> level, tile.col >> level, halved_px(tile.height, level), halved_px(tile.width, level))


def _touching(sources: Iterable[Window], cut: Tiling) -> list[list[int]]:
    """Return, for each tile of `cut`, the indexes of the windows that share a pixel with it."""
    sources_by_tile: list[list[int]] = [[] for _ in range(len(cut))]
    for index, window in enumerate(sources):
        for row in range(window.row // cut.tile_height_px, (window.row_stop - 1) // cut.tile_height_px + 1):
            for col in range(window.col // cut.tile_width_px, (window.col_stop - 1) // cut.tile_width_px + 1):
                sources_by_tile[row * cut.cols + col].append(index)
    return sources_by_tile


def _threads(storage: Mapping[str, str]) -> int:
    if is_fork():
        return 1
    requested = storage.get("NUM_THREADS", "ALL_CPUS")
    return min(available_cores(), _MOST_THREADS) if requested == "ALL_CPUS" else int(requested)
