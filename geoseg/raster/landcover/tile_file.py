"""One finished tile of one output, a part: whole or absent after any crash.

A part is a zip file, stored, with a GeoTIFF for each level that it holds, or several, one below the other. Where a
level's blocks are not cut by the borders of tiles they are the map's own, compressed once, by GDAL, with the map's
creation options: the map is put together by copying them. The first level of which that is not so is kept as plain
pixels, and later levels are made of it. `index.json` says how large the blocks are and how they are stored.
"""

from __future__ import annotations

import io
import itertools
import json
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.io import MemoryFile

from geoseg.atomic import write_durably
from geoseg.errors import OutputError, UsageError, numbered, one_line
from geoseg.legend import NODATA
from geoseg.raster.environment import GDAL_ERRORS, raster_environment
from geoseg.raster.landcover import tiff
from geoseg.raster.landcover.overviews import Pixels, halved, overview_levels, use_compiled
from geoseg.raster.landcover.product import DEFAULTS, Product
from geoseg.raster.windows import Window

_LEVEL_OPTIONS = {"DEFLATE": "ZLEVEL", "ZSTD": "ZSTD_LEVEL", "LZMA": "LZMA_PRESET"}
"""What GDAL's GTiff driver calls the COG driver's LEVEL."""
_PREDICTED = ("DEFLATE", "LZW", "ZSTD")
_PLAIN_BLOCK_PX = 512
_STEP_PX = 16  # TIFF 6.0, section 15
_INDEX = "index.json"


@dataclass(frozen=True, slots=True)
class PartFormat:
    """How the parts of a map are stored; `of` finds it."""

    levels: int
    """Overviews of the map."""
    final_levels: int = 0
    """How many levels, from full resolution on, parts hold in blocks of the map; at most levels + 1."""
    storage: Mapping[str, str] = field(default_factory=lambda: dict(DEFAULTS))
    """What `creation_options` returns."""

    @classmethod
    def of(cls, shape: tuple[int, int], tile_shape: tuple[int, int], storage: Mapping[str, str] = DEFAULTS) -> Self:
        """Return the format for tiles of `tile_shape` of a map of `shape`, (rows, cols)."""
        levels, block_px = overview_levels(*shape), int(storage["BLOCKSIZE"])
        final = 0
        while final <= levels and all(
            tile_px >= length_px or tile_px % (block_px << final) == 0
            for tile_px, length_px in zip(tile_shape, shape, strict=True)
        ):
            final += 1
        return cls(levels, final, storage)

    @property
    def block_px(self) -> int:
        """Edge of the map's blocks."""
        return int(self.storage["BLOCKSIZE"])

    @property
    def rows_at_once(self) -> int | None:
        """How many rows of a tile are worth compressing before the next ones are there; None where only all are."""
        return self.block_px if self.final_levels else None

    @property
    def last_level(self) -> int:
        """The smallest level that a part holds: plain pixels, unless all of the map's levels are in its blocks."""
        return min(self.final_levels, self.levels)


def part_path(folder: Path, product: Product, index: int) -> Path:
    """Return the name of a tile's part."""
    return folder / f"{product.name}_{index:07d}.zip"


def parts_in(folder: Path, product: Product) -> set[int]:
    """Return the tiles whose part is in a folder: one look at it, however many there are."""
    start, end = f"{product.name}_", ".zip"
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        numbers = (each.name[len(start) : -len(end)] for each in entries if _is_between(each.name, start, end))
        return {int(number) for number in numbers if number.isdecimal()}
    return set()


def _is_between(name: str, start: str, end: str) -> bool:
    return name.startswith(start) and name.endswith(end)


class PartEncoder:
    """The part of a tile, made while rows of the tile come: a block is compressed as soon as it is whole."""

    def __init__(self, product: Product, height_px: int, form: PartFormat, threads: int = 1) -> None:
        """Begin with a tile of so many rows; `form` is that of the whole map, `threads` compress."""
        self._product = product
        self._form = form
        self._threads = threads
        self._compiled = use_compiled(form.levels)
        self._rows_left = height_px
        self._files: dict[str, bytes] = {}
        self._levels = [_LevelInWork() for _ in range(form.last_level + 1)]
        self._stored: dict[str, list[int]] = {}

    def add(self, pixels: Pixels) -> None:
        """Take the next rows, uint8 (band, row, col) or (row, col); they are not to change before the last one came."""
        pixels = pixels[np.newaxis] if pixels.ndim == 2 else pixels
        if pixels.dtype != np.uint8 or pixels.shape[0] != self._product.count:
            raise UsageError(
                f"a part of {self._product.name} is uint8 with {numbered(self._product.count, 'band')}, "
                f"got {pixels.dtype} {pixels.shape}"
            )
        self._rows_left -= pixels.shape[1]
        self._take(0, pixels, is_last=self._rows_left <= 0)

    def content(self) -> bytes:
        """Return the whole part, when the last row has come."""
        sizes = [level.sizes for level in self._levels[: self._form.final_levels]]
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w") as part:
            for name, file in self._files.items():
                part.writestr(name, file)
            part.writestr(_INDEX, json.dumps({"stored": self._stored, "sizes": sizes}))
        return content.getvalue()

    def write(self, folder: Path, index: int) -> Path:
        """Write the whole part as that of tile `index`, and return the file. Raises OutputError."""
        path = part_path(folder, self._product, index)
        write_durably(path, self.content())
        return path

    def _take(self, number: int, pixels: Pixels, *, is_last: bool) -> None:
        """Encode the rows of a level that make whole blocks, and hand half of them to the next level."""
        level, is_final = self._levels[number], number < self._form.final_levels
        height_px = level.loose.height_px + pixels.shape[1]
        ready = level.loose.with_next(pixels, self._form.block_px if is_final else height_px + 1, is_last=is_last)
        if ready.size:
            self._encode(number, ready, is_final=is_final)
        if number == self._form.last_level:
            return
        pairs = level.single.with_next(pixels, 2, is_last=is_last)
        if pairs.size:
            half = halved(pairs, classes=self._product.legend is not None, compiled=self._compiled)
            self._take(number + 1, half, is_last=is_last)

    def _encode(self, number: int, pixels: Pixels, *, is_final: bool) -> None:
        level = self._levels[number]
        with _geotiff(pixels, self._form, self._threads, is_final=is_final) as file:
            self._files[_name(number, level.files)] = bytes(file)
            level.files += 1
            if is_final:
                head = tiff.read_tiff(file)
                self._stored = tiff.stored(head.directories[0], head.order)
                level.sizes += tiff.integers(head.directories[0][tiff.TILE_SIZES], head.order).tolist()


class _Rows:
    """Rows that wait for the next ones."""

    def __init__(self) -> None:
        self._waiting: list[Pixels] = []

    @property
    def height_px(self) -> int:
        """How many there are."""
        return sum(pixels.shape[1] for pixels in self._waiting)

    def with_next(self, pixels: Pixels, step_px: int, *, is_last: bool) -> Pixels:
        """Return them and the next rows, as many as are a multiple of a step, all with the last; the others wait."""
        height_px = self.height_px + pixels.shape[1]
        ready = height_px if is_last else height_px // step_px * step_px
        self._waiting.append(pixels)
        if not ready:
            return pixels[:, :0]
        whole = pixels if len(self._waiting) == 1 else np.concatenate(self._waiting, axis=1)
        self._waiting = [whole[:, ready:]] if ready < height_px else []
        return whole[:, :ready]


@dataclass(slots=True)
class _LevelInWork:
    """What of a level is not in the part yet, and what is."""

    loose: _Rows = field(default_factory=_Rows)
    """Rows of blocks that are not whole."""
    single: _Rows = field(default_factory=_Rows)
    """A row whose pair has not come."""
    files: int = 0
    sizes: list[int] = field(default_factory=list)
    """Bytes of each block, row by row."""


def _name(level: int, number: int = 0) -> str:
    """Return the name of a file of a level, which has several, from the top down, where its rows came one by one."""
    return f"{level}.{number}.tif" if number else f"{level}.tif"


def _files(part: zipfile.ZipFile, level: int) -> Iterator[bytes]:
    """Yield the files of a level from the top down. KeyError where there is none."""
    yield part.read(_name(level))
    there = set(part.namelist())
    for number in itertools.count(1):
        if _name(level, number) not in there:
            return
        yield part.read(_name(level, number))


@contextmanager
def _geotiff(pixels: Pixels, form: PartFormat, threads: int, *, is_final: bool) -> Iterator[memoryview]:
    """Give a GeoTIFF of pixels (band, row, col): of whole blocks, filled up with nodata, where those are the map's."""
    bands, height, width = pixels.shape
    block_px = form.block_px if is_final else min(_PLAIN_BLOCK_PX, _up(max(height, width), _STEP_PX))
    if is_final and (height % block_px or width % block_px):
        whole = np.full((bands, _up(height, block_px), _up(width, block_px)), NODATA, np.uint8)
        whole[:, :height, :width] = pixels
        pixels = whole
    shape = {"count": bands, "height": pixels.shape[1], "width": pixels.shape[2]}
    # A place, which nobody reads: without one, and of pixels of 1, rasterio warns, in an interruption on the terminal.
    profile = {"driver": "GTiff", "dtype": "uint8", "transform": Affine.scale(2, -2), **shape}
    blocks = {"tiled": True, "blockxsize": block_px, "blockysize": block_px, "interleave": "pixel"}
    if threads > 1:
        blocks["num_threads"] = threads
    with raster_environment(), MemoryFile() as memory:
        with memory.open(**profile, **blocks, **_gtiff_options(form.storage)) as dataset:
            dataset.write(pixels)
        yield memory.getbuffer()


def _up(length_px: int, step_px: int) -> int:
    return -(-length_px // step_px) * step_px


def _gtiff_options(storage: Mapping[str, str]) -> dict[str, str]:
    """Return how GDAL's GTiff driver is told to compress as its COG driver would."""
    compression = storage["COMPRESS"]
    options = {"COMPRESS": compression, "BIGTIFF": "IF_SAFER"}
    if "LEVEL" in storage:
        options[_LEVEL_OPTIONS[compression]] = storage["LEVEL"]
    if compression in _PREDICTED and storage.get("PREDICTOR", "NO") != "NO":
        options["PREDICTOR"] = "2"
    return options


@dataclass(frozen=True, slots=True)
class PartIndex:
    """What a part says of its blocks without being read."""

    stored: Mapping[str, list[int]]
    """How, as `tiff.stored` says it; empty where no level is final."""
    sizes: tuple[NDArray[np.int64], ...]
    """By level that is final: bytes of each block, flat, row by row."""


def read_index(path: Path) -> PartIndex:
    """Read what a part says of its blocks. Raises OutputError where it is damaged."""
    with _opened(path) as part:
        index = json.loads(part.read(_INDEX))
        return PartIndex(dict(index["stored"]), tuple(np.asarray(sizes, np.int64) for sizes in index["sizes"]))


def read_blocks(path: Path, levels: int) -> Iterator[list[memoryview]]:
    """Yield the compressed blocks of each level from full resolution on, row by row; checked by their CRC.

    Raises OutputError where a part is damaged.
    """
    with _opened(path) as part:
        for level in range(levels):
            yield [block for file in _files(part, level) for block in _blocks(memoryview(file))]


def _blocks(file: memoryview) -> Iterator[memoryview]:
    head = tiff.read_tiff(file)
    places, sizes = (
        tiff.integers(head.directories[0][tag], head.order).tolist() for tag in (tiff.TILE_OFFSETS, tiff.TILE_SIZES)
    )
    return (file[start : start + size] for start, size in zip(places, sizes, strict=True))


def read_level(path: Path, level: int, window: Window) -> Pixels:
    """Return pixels of a level, uint8 (band, row, col); `window` is counted from the first of the part.

    Raises OutputError where the part is damaged.
    """
    found: list[Pixels] = []
    first = 0
    with _opened(path) as part, raster_environment():
        for file in _files(part, level):
            with MemoryFile(file) as memory, memory.open() as dataset:
                own = Window(first, window.col, dataset.height, window.width)
                shared = own.intersection(window)
                if shared is not None:
                    inside = shared.shifted(-first, 0)
                    found.append(dataset.read(window=inside.to_rasterio()))
                first += dataset.height
        return found[0] if len(found) == 1 else np.concatenate(found, axis=1)


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(path) as part:
            yield part
    except (*GDAL_ERRORS, zipfile.BadZipFile, zlib.error, EOFError, KeyError, ValueError, struct.error) as error:
        raise OutputError(
            f"{path} is damaged ({one_line(error, None)}); remove it and run the same command again"
        ) from error
