"""A part: one finished tile of one output, whole or absent after any crash.

A part is an uncompressed zip file with one GeoTIFF per level, or several, one below the other. If tile borders do not
cut a level's blocks, they are the map's final blocks, which GDAL compresses once with the map's creation options: the
map is assembled by copying them. The first level whose blocks are cut is kept as plain pixels, and later levels are
made from it. `index.json` says how large the blocks are and how they are stored.
"""

from __future__ import annotations

import io
import itertools
import json
import os
import re
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
"""GDAL's GTiff names for the COG driver's LEVEL."""
_PREDICTED = ("DEFLATE", "LZW", "ZSTD")
_PLAIN_BLOCK_PX = 512
_STEP_PX = 16  # TIFF 6.0, section 15
_INDEX = "index.json"


@dataclass(frozen=True, slots=True)
class PartFormat:
    """How the parts of a map are stored; `of` determines it."""

    levels: int
    """Number of overviews of the map."""
    final_levels: int = 0
    """Number of levels, from full resolution on, that parts hold as blocks of the map; at most levels + 1."""
    storage: Mapping[str, str] = field(default_factory=lambda: dict(DEFAULTS))
    """The result of `creation_options`."""

    @classmethod
    def of(cls, shape: tuple[int, int], tile_shape: tuple[int, int], storage: Mapping[str, str] = DEFAULTS) -> Self:
        """Return the format for tiles of `tile_shape` in a map of `shape`, both (rows, cols)."""
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
        """Number of rows of a tile worth compressing before the next arrive; None if only the whole tile is."""
        return self.block_px if self.final_levels else None

    @property
    def last_level(self) -> int:
        """The smallest level in a part: plain pixels, unless the part holds all levels as blocks of the map."""
        return min(self.final_levels, self.levels)


def part_path(folder: Path, product: Product, index: int) -> Path:
    """Return the path of a tile's part."""
    return folder / f"{product.name}_{index:07d}.zip"


def parts_in(folder: Path, product: Product) -> set[int]:
    """Return the tiles whose part is in a folder, from a single listing."""
    part = re.compile(rf"{product.name}_(\d+)\.zip")
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        return {int(found[1]) for entry in entries if (found := part.fullmatch(entry.name))}
    return set()


class PartEncoder:
    """The part of a tile, made while its rows arrive: a block is compressed as soon as it is complete."""

    def __init__(self, product: Product, height_px: int, form: PartFormat, threads: int = 1) -> None:
        """Start a tile with `height_px` rows; `form` is the whole map's, `threads` is the number that compress."""
        self._product = product
        self._form = form
        self._threads = threads
        self._compiled = use_compiled(form.levels)
        self._rows_left = height_px
        self._files: dict[str, bytes] = {}
        self._levels = [_LevelInWork() for _ in range(form.last_level + 1)]
        self._stored: dict[str, list[int]] = {}

    def add(self, pixels: Pixels) -> None:
        """Add the next rows, uint8 (band, row, col) or (row, col); do not change them until the last row is added."""
        pixels = pixels[np.newaxis] if pixels.ndim == 2 else pixels
        if pixels.dtype != np.uint8 or pixels.shape[0] != self._product.count:
            raise UsageError(
                f"a part of {self._product.name} is uint8 with {numbered(self._product.count, 'band')}, "
                f"got {pixels.dtype} {pixels.shape}"
            )
        self._rows_left -= pixels.shape[1]
        self._take(0, pixels, is_last=self._rows_left <= 0)

    def content(self) -> bytes:
        """Return the whole part, after the last row has been added."""
        sizes = [level.sizes for level in self._levels[: self._form.final_levels]]
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w") as part:
            for name, file in self._files.items():
                part.writestr(name, file)
            part.writestr(_INDEX, json.dumps({"stored": self._stored, "sizes": sizes}))
        return content.getvalue()

    def write(self, folder: Path, index: int) -> Path:
        """Write the whole part as the part of tile `index`, and return its path. Raises OutputError."""
        path = part_path(folder, self._product, index)
        write_durably(path, self.content())
        return path

    def _take(self, number: int, pixels: Pixels, *, is_last: bool) -> None:
        """Encode the rows of a level that make complete blocks, and pass the halved rows to the next level."""
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
    """Rows waiting for the next ones."""

    def __init__(self) -> None:
        self._waiting: list[Pixels] = []

    @property
    def height_px(self) -> int:
        """Number of rows waiting."""
        return sum(pixels.shape[1] for pixels in self._waiting)

    def with_next(self, pixels: Pixels, step_px: int, *, is_last: bool) -> Pixels:
        """Return waiting and next rows, cut to a multiple of a step unless these are the last; the remainder waits."""
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
    """The state of a level: rows not yet in the part, and what has been encoded."""

    loose: _Rows = field(default_factory=_Rows)
    """Rows of incomplete blocks."""
    single: _Rows = field(default_factory=_Rows)
    """A row whose partner has not arrived."""
    files: int = 0
    sizes: list[int] = field(default_factory=list)
    """Size of each block in bytes, row by row."""


def _name(level: int, number: int = 0) -> str:
    """Return the name of a level's file; a level whose rows arrived in pieces has several, top down."""
    return f"{level}.{number}.tif" if number else f"{level}.tif"


def _files(part: zipfile.ZipFile, level: int) -> Iterator[bytes]:
    """Yield the files of a level, top down. KeyError if there are none."""
    yield part.read(_name(level))
    names = set(part.namelist())
    for number in itertools.count(1):
        if _name(level, number) not in names:
            return
        yield part.read(_name(level, number))


@contextmanager
def _geotiff(pixels: Pixels, form: PartFormat, threads: int, *, is_final: bool) -> Iterator[memoryview]:
    """Yield a GeoTIFF of pixels (band, row, col); the map's final blocks are padded with nodata to full size."""
    bands, height, width = pixels.shape
    block_px = form.block_px if is_final else min(_PLAIN_BLOCK_PX, _up(max(height, width), _STEP_PX))
    if is_final and (height % block_px or width % block_px):
        whole = np.full((bands, _up(height, block_px), _up(width, block_px)), NODATA, np.uint8)
        whole[:, :height, :width] = pixels
        pixels = whole
    shape = {"count": bands, "height": pixels.shape[1], "width": pixels.shape[2]}
    # A dummy transform: without one, or with pixels of size 1, rasterio warns, on the terminal if interrupted.
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
    """Return the options that make GDAL's GTiff driver compress as its COG driver would."""
    compression = storage["COMPRESS"]
    options = {"COMPRESS": compression, "BIGTIFF": "IF_SAFER"}
    if "LEVEL" in storage:
        options[_LEVEL_OPTIONS[compression]] = storage["LEVEL"]
    if compression in _PREDICTED and storage.get("PREDICTOR", "NO") != "NO":
        options["PREDICTOR"] = "2"
    return options


@dataclass(frozen=True, slots=True)
class PartIndex:
    """The description of a part's blocks, available without reading them."""

    stored: Mapping[str, list[int]]
    """How blocks are stored, in the form of `tiff.stored`; empty if no level is final."""
    sizes: tuple[NDArray[np.int64], ...]
    """Per final level: size of each block in bytes, flat, row by row."""


def read_index(path: Path) -> PartIndex:
    """Read the index of a part. Raises OutputError if it is damaged."""
    with _opened(path) as part:
        index = json.loads(part.read(_INDEX))
        return PartIndex(dict(index["stored"]), tuple(np.asarray(sizes, np.int64) for sizes in index["sizes"]))


def read_blocks(path: Path, levels: int) -> Iterator[list[memoryview]]:
    """Yield the compressed blocks of each level from full resolution on, row by row; their CRC is checked.

    Raises OutputError if the part is damaged.
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
    """Return pixels of a level, uint8 (band, row, col); `window` is relative to the part's first pixel.

    Raises OutputError if the part is damaged.
    """
    pieces: list[Pixels] = []
    first = 0
    with _opened(path) as part, raster_environment():
        for file in _files(part, level):
            with MemoryFile(file) as memory, memory.open() as dataset:
                own = Window(first, window.col, dataset.height, window.width)
                shared = own.intersection(window)
                if shared is not None:
                    inside = shared.shifted(-first, 0)
                    pieces.append(dataset.read(window=inside.to_rasterio()))
                first += dataset.height
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces, axis=1)


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(path) as part:
            yield part
    except (*GDAL_ERRORS, zipfile.BadZipFile, zlib.error, EOFError, KeyError, ValueError, struct.error) as error:
        if isinstance(error, OSError) and error.strerror is not None:
            fault = f"cannot be read ({error.strerror}); check its permissions and its disk, or"
        else:
            fault = f"is damaged ({one_line(error, None)});"
        raise OutputError(f"{path} {fault} remove it and run the same command again") from error
