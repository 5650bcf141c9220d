"""The land-cover raster: finished tiles become parts, and all parts become one file under its final name.

Nothing is ever half-written at that name, and what stood there before stays until the new file is whole.

Blocks are copied from the parts. Parts side by side are a stage. Its tiles, joined into larger ones, are the next
stage, which has blocks of levels that the first has not, and so on up to the smallest overview. With tiles of 4096
pixels and blocks of 512 the second stage reads 1/256 of the map's pixels. Parts whose tiles cut the blocks of the map
itself, or that another run stored in another way, are read whole.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO
from xml.etree import ElementTree as ET

import numpy as np

from geoseg.atomic import output_error, replace_durably, sync_file, write_durably
from geoseg.errors import OutputError, numbered
from geoseg.legend import NODATA
from geoseg.machine import available_cores, is_fork
from geoseg.raster.dataset_cache import root_message
from geoseg.raster.environment import GDAL_ERRORS
from geoseg.raster.geobox import GeoBox
from geoseg.raster.landcover.cog import Blocks, CogHead, CogLayout, check_whole
from geoseg.raster.landcover.overviews import Pixels, halved_px
from geoseg.raster.landcover.product import Product
from geoseg.raster.landcover.sidecars import is_foreign_names, is_foreign_style, names_path, sidecars, style_path
from geoseg.raster.landcover.storage import DEFAULTS
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

LEGEND_TAG = "GEOSEG_LEGEND"
PRODUCT_TAG = "GEOSEG_PRODUCT"
_OF_THE_OLD_MAP = (".ovr", ".msk")
_LARGE_PIXELS = 2**23
"""Of a tile of a later stage, all bands counted: what one thread holds."""
_MOST_THREADS = 4


def files_beside(target: Path) -> list[Path]:
    """Return every path that `place` writes or removes beside the map."""
    return [names_path(target), style_path(target), *(_beside(target, suffix) for suffix in _OF_THE_OLD_MAP)]


def foreign_beside(target: Path) -> list[Path]:
    """Return the files that `place` would replace or remove and that geoseg has not written. Raises OutputError."""
    theirs = [_beside(target, suffix) for suffix in _OF_THE_OLD_MAP]
    try:
        found = [path for path in theirs if path.exists()]
        if is_foreign_names(names_path(target)):
            found.append(names_path(target))
        if is_foreign_style(style_path(target)):
            found.append(style_path(target))
    except OSError as error:
        raise output_error(target, error) from error
    return found


def built_path(folder: Path, product: Product) -> Path:
    """Return where `build_cog` puts the finished COG of a product; what stands there is whole."""
    return folder / f"{product.name}.cog.tif"


def build_cog(  # noqa: PLR0913, PLR0917 each is a noun the reader expects here
    folder: Path,
    product: Product,
    tiles: Sequence[Window],
    geobox: GeoBox,
    tags: Mapping[str, str],
    storage: Mapping[str, str] = DEFAULTS,
) -> Path:
    """Make one COG of the parts in a folder, and return it; `tiles[i]` is the place of part i in the map.

    The COG is written and checked in the folder under another name, and renamed to `built_path` when it is whole on the
    disk; one that stands there already is made again. Labels carry their legend in the color table and the tag
    GEOSEG_LEGEND. `storage` is what `creation_options` returns; parts that were stored otherwise are read and stored
    again. Raises OutputError (missing or damaged parts, full disk); the parts stay in any case.
    """
    form = PartFormat.of(geobox.shape, _tile_shape(tiles, geobox.shape), storage)
    stage = Stage(folder, product, geobox.shape, 0, tiles, form)
    missing = stage.missing()
    if missing:
        raise OutputError(
            f"{folder} lacks {len(missing)} of {numbered(len(tiles), 'tile')} of the {product.name}, the first is "
            f"number {missing[0]}; run the same command again"
        )
    built = built_path(folder, product)
    with _unfinished(built, product) as (unfinished, scratch):
        beside = scratch / "small.tif"
        head = CogHead.of(product, geobox, _with_legend(tags, product), storage, beside)
        write_map(stage, head, unfinished, scratch)
        sync_file(unfinished)
        if names_path(beside).exists():
            replace_durably(names_path(beside), names_path(built))
        replace_durably(unfinished, built)
    return built


@contextmanager
def _unfinished(built: Path, product: Product) -> Iterator[tuple[Path, Path]]:
    """Give the name of an unfinished COG and an empty folder; neither is left behind. Errors become OutputError."""
    unfinished, scratch = (built.with_name(f"{product.name}.{name}") for name in ("unfinished.tif", "scratch"))
    try:
        for path in (built, names_path(built), unfinished):
            path.unlink(missing_ok=True)
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        yield unfinished, scratch
    except OSError as error:
        raise output_error(built, error) from error
    except GDAL_ERRORS as error:
        raise output_error(built, OSError(root_message(error))) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)


def _tile_shape(tiles: Sequence[Window], shape: tuple[int, int]) -> tuple[int, int]:
    """Return rows and columns of which every tile starts at a multiple; those of the map where none starts later."""
    if isinstance(tiles, Tiling):
        return tiles.tile_height_px, tiles.tile_width_px
    return (
        math.gcd(*(tile.row for tile in tiles)) or shape[0],
        math.gcd(*(tile.col for tile in tiles)) or shape[1],
    )


def place(built: Path, product: Product, target: Path) -> None:
    """Move what `build_cog` returned to its final name: the sidecars `.aux.xml` and `.qml` first, the map last.

    The target may be on another disk than the folder of `built`: then the map is copied to a temporary name beside the
    target, which takes its size there too, and renamed when it is on that disk. What stood beside an old map waits in
    the folder of `built`, and is put back if the target cannot be replaced (Windows, with the old map open in QGIS).
    Raises OutputError; then target and sidecars are as before, and `built` is still there to be placed.
    """
    aside = {path: built.with_name(f"{product.name}.aside{number}") for number, path in enumerate(files_beside(target))}
    moved: list[Path] = []
    try:
        for path, old in aside.items():
            _move_aside(path, old)
            moved.append(path)
        for path, content in sidecars(target, product, _place_beside(built)):
            if content is not None:
                write_durably(path, content, built.parent)
        replace_durably(built, target)
    except BaseException as error:
        if built.exists():  # else the new map is there, and only its folder could not be synced
            _put_back(aside, moved)
        if isinstance(error, OSError):
            raise output_error(target, error) from error
        raise
    for leftover in (*aside.values(), names_path(built)):
        with suppress(OSError):  # in the folder of parts, where nobody minds it
            leftover.unlink(missing_ok=True)


def _move_aside(path: Path, old: Path) -> None:
    if old.exists():  # a killed attempt moved it, and may have written a new one
        path.unlink(missing_ok=True)
    elif path.exists():
        replace_durably(path, old)


def _put_back(aside: Mapping[Path, Path], moved: Iterable[Path]) -> None:
    for path in moved:
        with suppress(OSError):
            path.unlink(missing_ok=True)
    for path, old in aside.items():
        with suppress(OSError):
            if old.exists():
                replace_durably(old, path)


def _place_beside(built: Path) -> list[ET.Element]:
    """Return what GDAL keeps beside a GeoTIFF that cannot hold its CRS, such as a rotated pole."""
    try:
        root = ET.fromstring(names_path(built).read_bytes())  # noqa: S314 GDAL has just written it
    except FileNotFoundError:
        return []
    return [element for element in root if element.tag in {"SRS", "GeoTransform"}]


def _beside(target: Path, suffix: str) -> Path:
    return target.with_name(target.name + suffix)


def _with_legend(tags: Mapping[str, str], product: Product) -> dict[str, str]:
    legend = {} if product.legend is None else {LEGEND_TAG: json.dumps(product.legend.to_json())}
    return {**tags, PRODUCT_TAG: product.name, **legend}


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
        there = parts_in(self.folder, self.product)
        return [index for index in range(len(self.tiles)) if index not in there]

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
            encoder = PartEncoder(self.product, pixels.shape[1], form, threads=max(1, threads // len(cut)))
            encoder.add(pixels)
            following.part(index).write_bytes(encoder.content())

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
        np.zeros([math.ceil(halved_px(px, level) / first.form.block_px) for px in first.shape], np.uint32)
        for level in range(first.form.levels + 1)
    ]
