"""A Cloud Optimized GeoTIFF (COG) assembled from blocks that are already compressed.

The layout is that of GDAL's driver: header, GDAL's text about the layout, directories, then blocks, those of the
smallest overview first, each level row by row, every block between its size and its last four bytes. Georeference,
colors and tags in the directories are taken from a small file that GDAL writes for the same map; sizes and blocks are
filled in.

Format: https://gdal.org/drivers/raster/cog.html
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Self

import numpy as np
import rasterio
import rasterio.shutil
from numpy.typing import NDArray
from rasterio.io import MemoryFile

from geoseg.errors import OutputError
from geoseg.legend import NODATA, Legend
from geoseg.machine import size_text
from geoseg.raster.environment import raster_environment
from geoseg.raster.geobox import GeoBox
from geoseg.raster.landcover import tiff
from geoseg.raster.landcover.overviews import halved_px
from geoseg.raster.landcover.product import Product
from geoseg.raster.names import escape
from geoseg.raster.views import metadata_lines, place_lines

_SMALL_PX = 32
_SMALL = {"BLOCKSIZE": "128", "BIGTIFF": "NO", "NUM_THREADS": "1", "OVERVIEWS": "FORCE_USE_EXISTING"}
_AROUND = b"BLOCK_ORDER=ROW_MAJOR\nBLOCK_LEADER=SIZE_AS_UINT4\nBLOCK_TRAILER=LAST_4_BYTES_REPEATED\n"
"""GDAL's text about blocks framed as they are written here."""
_FRAME_BYTES = 4
_CLASSIC_BYTES = 2**32 - 2**20
"""Size limit of a classic TIFF, minus a margin; GDAL's own limit for data is 4.2 GB."""
_SAFE_BYTES = 2_000_000_000
"""With more uncompressed data than this, IF_SAFER means BigTIFF, as in GDAL."""

_AT_ONCE = 2**20
"""Blocks whose offsets are computed together; each block of the map takes 12 bytes, its size and offset."""

Blocks = NDArray[np.unsignedinteger[Any]]


@dataclass(frozen=True, slots=True)
class CogHead:
    """What GDAL writes in front of the blocks of a map, taken from a small file of the same kind."""

    small: tiff.Tiff
    """The directory of the map and, if it has overviews, that of one overview."""

    @classmethod
    def of(
        cls, product: Product, geobox: GeoBox, tags: Mapping[str, str], storage: Mapping[str, str], small_map: Path
    ) -> Self:
        """Have GDAL write the small file in memory.

        If a GeoTIFF cannot hold the CRS, GDAL's `.aux.xml` is kept for `small_map`, whose own file is not created.
        Raises rasterio's errors or OSError.
        """
        head = (*place_lines(geobox), *metadata_lines(tags))
        with (
            raster_environment(),
            MemoryFile(_vrt(_SMALL_PX // 2, product), ext=".vrt") as overview,
            MemoryFile(_vrt(_SMALL_PX, product, head, overview.name), ext=".vrt") as whole,
            MemoryFile(ext=".tif") as small,
        ):
            rasterio.shutil.copy(whole.name, small.name, driver="COG", strict=True, **{**storage, **_SMALL})
            with small.open() as dataset:
                has_more = len(dataset.files) > 1
            if has_more:
                rasterio.shutil.copyfiles(small.name, str(small_map))
                small_map.unlink()
            return cls(tiff.read_tiff(small.getbuffer()))

    def stored(self, block_px: int) -> dict[str, list[int]]:
        """Return how blocks of `block_px` must be stored to be copied into the map, in the form of `tiff.stored`."""
        edge = tiff.integer_field([block_px], self.small.order)
        whole = {**self.small.directories[0], tiff.TILE_WIDTH: edge, tiff.TILE_HEIGHT: edge}
        return tiff.stored(whole, self.small.order)

    def laid_out(self, shape: tuple[int, int], block_px: int, sizes: Sequence[Blocks], bigtiff: str) -> CogLayout:
        """Return the layout of a map of `shape`; `sizes` are the bytes of blocks by level, each (row, col).

        OutputError if `bigtiff`, GDAL's BIGTIFF, is NO but needed.
        """
        (samples,) = tiff.integers(self.small.directories[0][tiff.SAMPLES], self.small.order).tolist()
        plain = sum(level.size for level in sizes) * block_px**2 * samples
        if bigtiff == "YES" or (bigtiff == "IF_SAFER" and plain > _SAFE_BYTES):
            return self._laid_out(shape, block_px, sizes, big=True)
        layout = self._laid_out(shape, block_px, sizes, big=False)
        if layout.total_bytes <= _CLASSIC_BYTES:
            return layout
        if bigtiff == "NO":
            raise OutputError(
                f"the map takes {size_text(layout.total_bytes)}, more than the 4.29 GB of a classic TIFF; run the same "
                "command again without the creation option BIGTIFF=NO, all tiles are kept",
                "creation_options",
            )
        return self._laid_out(shape, block_px, sizes, big=True)

    def _laid_out(self, shape: tuple[int, int], block_px: int, sizes: Sequence[Blocks], *, big: bool) -> CogLayout:
        places = [tiff.numbers(level.shape, self.small.order, big=big) for level in sizes]
        head = self._filled_in(shape, block_px, places, sizes, big=big)
        end = head.length(big=big)
        for level in range(len(sizes) - 1, -1, -1):
            end = _place(sizes[level].reshape(-1), places[level].reshape(-1), end)
        return CogLayout(head, big, tuple(places), end)

    def _filled_in(
        self, shape: tuple[int, int], block_px: int, places: Sequence[Blocks], sizes: Sequence[Blocks], *, big: bool
    ) -> tiff.Tiff:
        small, directories = self.small, []
        for level, (level_places, level_sizes) in enumerate(zip(places, sizes, strict=True)):
            numbers = {
                tiff.WIDTH: halved_px(shape[1], level),
                tiff.HEIGHT: halved_px(shape[0], level),
                tiff.TILE_WIDTH: block_px,
                tiff.TILE_HEIGHT: block_px,
            }
            own = {tag: tiff.integer_field([number], small.order) for tag, number in numbers.items()}
            own[tiff.TILE_OFFSETS] = tiff.integer_field(level_places, small.order, big=big)
            own[tiff.TILE_SIZES] = tiff.integer_field(level_sizes, small.order)
            directories.append({**small.directories[min(level, 1)], **own})
        ghost = small.ghost if _AROUND in small.ghost else b""
        return replace(small, ghost=ghost, directories=tuple(directories))


def _place(sizes: Blocks, places: Blocks, start: int) -> int:
    """Compute the offset of each block into `places`, with the first block's frame at `start`; return their end."""
    for first in range(0, len(sizes), _AT_ONCE):
        some = sizes[first : first + _AT_ONCE].astype(np.int64)
        ends = start + np.cumsum(some + 2 * _FRAME_BYTES)
        places[first : first + _AT_ONCE] = ends - some - _FRAME_BYTES
        start = int(ends[-1])
    return start


@dataclass(frozen=True, slots=True)
class CogLayout:
    """The place of everything in a file."""

    head: tiff.Tiff
    big: bool
    """Whether it is a BigTIFF."""
    places: tuple[Blocks, ...]
    """Offset of the first byte of each block, by level, (row, col)."""
    total_bytes: int

    def write_head(self, file: BinaryIO) -> None:
        """Write everything before the blocks."""
        file.seek(0)
        file.writelines(self.head.pieces(big=self.big))

    def write_blocks(self, file: BinaryIO, level: int, row: int, col: int, blocks: Sequence[memoryview]) -> None:
        """Write adjacent blocks of one row, which are contiguous in the file, each with its frame."""
        file.seek(int(self.places[level][row, col]) - _FRAME_BYTES)
        file.write(b"".join(_framed(blocks)))


def _framed(blocks: Sequence[memoryview]) -> Iterator[bytes | memoryview]:
    for block in blocks:
        yield len(block).to_bytes(_FRAME_BYTES, "little")
        yield block
        yield bytes(block[-_FRAME_BYTES:]).rjust(_FRAME_BYTES, b"\0")


def check_whole(path: Path, layout: CogLayout) -> None:
    """Raise OSError or one of rasterio's errors unless GDAL finds the blocks of a COG where they were written.

    Blocks were checked by their CRC when they were copied, and a failed write raises at once. So only the first and the
    last block of each level are decoded, to see that GDAL understands the directories.
    """
    if path.stat().st_size != layout.total_bytes:
        raise OSError("the file ends too early")
    with raster_environment():
        for level, places in enumerate(layout.places):
            open_options = {"overview_level": level - 1} if level else {}
            with rasterio.open(path, **open_options) as dataset:
                for row, col, window in _corners(dataset):
                    offset = int(dataset.get_tag_item(f"BLOCK_OFFSET_{col}_{row}", "TIFF", bidx=1) or 0)
                    if offset != places[row, col]:
                        raise OSError("some blocks are missing")
                    dataset.read(window=window)


def _corners(dataset: rasterio.io.DatasetReader) -> Iterator[tuple[int, int, rasterio.windows.Window]]:
    """Yield row, column and window of the first and the last block."""
    height, width = dataset.block_shapes[0]
    last = (dataset.height - 1) // height, (dataset.width - 1) // width
    for row, col in dict.fromkeys(((0, 0), last)):
        yield row, col, dataset.block_window(1, row, col)


def _vrt(side_px: int, product: Product, head: Sequence[str] = (), overview: str = "") -> bytes:
    """Return an empty VRT with the product's bands; `head` holds place and tags, `overview` names an overview's VRT."""
    lines = [f'<VRTDataset rasterXSize="{side_px}" rasterYSize="{side_px}">\n', *head]
    for band, description in enumerate(product.bands, start=1):
        lines += [
            f'<VRTRasterBand dataType="Byte" band="{band}">\n<Description>{escape(description)}</Description>\n',
            f"<NoDataValue>{NODATA}</NoDataValue>\n{_colors(product.legend)}",
            *([_overview(overview, band)] if overview else []),
            "</VRTRasterBand>\n",
        ]
    return "".join([*lines, "</VRTDataset>\n"]).encode()


def _overview(name: str, band: int) -> str:
    source = f"<SourceFilename>{escape(name)}</SourceFilename><SourceBand>{band}</SourceBand>"
    return f"<Overview>{source}</Overview>\n"


def _colors(legend: Legend | None) -> str:
    if legend is None:
        return "<ColorInterp>Gray</ColorInterp>\n"
    table = [(0, 0, 0, 0)] * (NODATA + 1)
    for land_cover in legend:
        table[land_cover.code] = (*land_cover.color, 255)
    entries = "".join(f'<Entry c1="{r}" c2="{g}" c3="{b}" c4="{a}"/>' for r, g, b, a in table)
    return f"<ColorInterp>Palette</ColorInterp>\n<ColorTable>{entries}</ColorTable>\n"
