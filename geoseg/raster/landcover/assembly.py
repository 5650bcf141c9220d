"""The parts of a map become one file: blocks are copied, and the levels that no part holds are made of one that all do.

Parts side by side are a stage. Its tiles, joined into larger ones, are the next stage, which has blocks of levels
that the first has not, and so on up to the smallest overview. With tiles of 4096 pixels and blocks of 512 the second
stage reads 1/256 of the map's pixels. Parts whose tiles cut the blocks of the map itself, or that another run stored
in another way, are read whole.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np

from geoseg.legend import NODATA
from geoseg.machine import available_cores, is_fork
from geoseg.raster.landcover.cog import Blocks, CogHead, CogLayout, check_whole
from geoseg.raster.landcover.overviews import Pixels, halved_px
from geoseg.raster.landcover.product import Product
from geoseg.raster.landcover.tile_file import (
    PartFormat,
    encoded_part,
    part_path,
    read_blocks,
    read_index,
    read_level,
)
from geoseg.raster.windows import Tiling, Window

_LARGE_PIXELS = 2**23
"""Of a tile of a later stage, all bands counted: what one thread holds."""
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
    """Its levels are counted from the stage's first."""

    @property
    def is_last(self) -> bool:
        """Whether nothing smaller is left to be made."""
        return self.form.final_levels > self.form.levels

    def missing(self) -> list[int]:
        """Return the tiles whose part is not there."""
        return [index for index in range(len(self.tiles)) if not self.part(index).is_file()]

    def part(self, index: int) -> Path:
        """Return the file of a part."""
        return part_path(self.folder, self.product, index)

    def note_sizes(self, sizes: Sequence[Blocks], wanted: Mapping[str, list[int]]) -> bool:
        """Write the bytes of the blocks that are the map's to `sizes`; False if some are not stored as `wanted`."""
        if self.form.final_levels == 0:
            return True
        for number, tile in enumerate(self.tiles):
            index = read_index(self.part(number))
            if index.stored != wanted:
                return False
            for level, of_level in enumerate(index.sizes):
                rows, cols = self.blocks_of(tile, level)
                shape = rows.stop - rows.start, cols.stop - cols.start
                sizes[self.first_level + level][rows, cols] = of_level.reshape(shape)
        return True

    def blocks_of(self, tile: Window, level: int) -> tuple[slice, slice]:
        """Return the rows and columns of the blocks that a tile has of a level, counted from the stage's first."""
        window, block_px = _halved_window(tile, level), self.form.block_px
        return (
            slice(window.row // block_px, math.ceil(window.row_stop / block_px)),
            slice(window.col // block_px, math.ceil(window.col_stop / block_px)),
        )

    def copy_blocks(self, layout: CogLayout, file: BinaryIO) -> None:
        """Copy the blocks of all levels that are the map's to their places."""
        final = min(self.form.final_levels, self.form.levels + 1)
        for index, tile in enumerate(self.tiles):
            for level, blocks in enumerate(read_blocks(self.part(index), final)):
                rows, cols = self.blocks_of(tile, level)
                count = cols.stop - cols.start
                for place, row in enumerate(range(rows.start, rows.stop)):
                    side_by_side = blocks[place * count : (place + 1) * count]
                    layout.write_blocks(file, self.first_level + level, row, cols.start, side_by_side)

    def next(self, scratch: Path) -> Stage:
        """Make the stage that follows, its parts in a new folder in `scratch`."""
        first = self.form.last_level
        folder = scratch / f"{self.product.name}_from{self.first_level + first}"
        folder.mkdir()
        shape = halved_px(self.shape[0], first), halved_px(self.shape[1], first)
        edge_px = _large_edge(self.form.block_px, self.product.count)
        form = PartFormat.of(shape, (edge_px, edge_px), self.form.storage)
        cut = Tiling(*shape, edge_px, edge_px)
        following = Stage(folder, self.product, shape, self.first_level + first, cut, form)
        touching = _touching((_halved_window(tile, first) for tile in self.tiles), cut)
        threads = _threads(self.form.storage)

        def make(index: int) -> None:
            pixels = np.full((self.product.count, *cut[index].shape), NODATA, np.uint8)
            for source in touching[index]:
                self._paste(source, first, cut[index], pixels)
            part = encoded_part(self.product, pixels, form, threads=max(1, threads // len(cut)))
            following.part(index).write_bytes(part)

        with ThreadPoolExecutor(threads, "geoseg-overviews") as pool:
            list(pool.map(make, range(len(cut))))
        return following

    def _paste(self, index: int, level: int, place: Window, pixels: Pixels) -> None:
        """Read what a part has of a place and put it there."""
        window = _halved_window(self.tiles[index], level)
        shared = window.intersection(place)
        if shared is None:
            return
        target = shared.relative_to(place)
        pixels[:, target.rows, target.cols] = read_level(self.part(index), level, shared.relative_to(window))


def _large_edge(block_px: int, bands: int) -> int:
    """Return the edge of the tiles of a later stage: a block, doubled while one thread can hold it."""
    edge_px = block_px
    while bands * (2 * edge_px) ** 2 <= _LARGE_PIXELS:
        edge_px *= 2
    return edge_px


def _halved_window(tile: Window, level: int) -> Window:
    return Window(tile.row >> level, tile.col >> level, halved_px(tile.height, level), halved_px(tile.width, level))


def _touching(sources: Iterable[Window], cut: Tiling) -> list[list[int]]:
    """Return for each tile of a cut which windows share a pixel with it, by their places."""
    found: list[list[int]] = [[] for _ in range(len(cut))]
    for index, window in enumerate(sources):
        for row in range(window.row // cut.tile_height_px, (window.row_stop - 1) // cut.tile_height_px + 1):
            for col in range(window.col // cut.tile_width_px, (window.col_stop - 1) // cut.tile_width_px + 1):
                found[row * cut.cols + col].append(index)
    return found


def _threads(storage: Mapping[str, str]) -> int:
    if is_fork():
        return 1
    asked = storage.get("NUM_THREADS", "ALL_CPUS")
    return min(available_cores(), _MOST_THREADS) if asked == "ALL_CPUS" else int(asked)


def write_map(stage: Stage, head: CogHead, target: Path, scratch: Path) -> None:
    """Write the map whose first stage this is to `target`, an unfinished name; `scratch` is an empty folder.

    Raises OSError, OutputError or one of rasterio's errors; then `target` may be there, and is to be removed.
    """
    wanted, sizes = head.stored(stage.form.block_px), _no_sizes(stage)
    if not stage.note_sizes(sizes, wanted):
        stage = replace(stage, form=replace(stage.form, final_levels=0))
    stages = [stage]
    while not stages[-1].is_last:
        stages.append(stages[-1].next(scratch))
        stages[-1].note_sizes(sizes, wanted)
    layout = head.laid_out(stage.shape, stage.form.block_px, sizes, stage.form.storage["BIGTIFF"])
    with target.open("wb") as file:
        layout.write_head(file)
        for written in stages:
            written.copy_blocks(layout, file)
    check_whole(target, layout)


def _no_sizes(first: Stage) -> list[Blocks]:
    """Return room for the bytes of every block of a map, by level, each (row, col)."""
    return [
        np.zeros([math.ceil(halved_px(px, level) / first.form.block_px) for px in first.shape], np.int64)
        for level in range(first.form.levels + 1)
    ]
