"""A part: one finished tile of one product with its overviews, as a small GeoTIFF, whole or absent after any crash."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from affine import Affine
from rasterio.io import MemoryFile
from rasterio.windows import Window as RasterioWindow

from geoseg.atomic import write_durably
from geoseg.errors import UsageError
from geoseg.legend import NODATA
from geoseg.raster.environment import raster_environment
from geoseg.raster.landcover.product import Product
from geoseg.raster.landcover.pyramid import BLOCK_PX, Pixels, level_windows, pyramid

_ANYWHERE = Affine.scale(2, -2)
"""Rasterio warns of every file without a transform."""


def part_path(folder: Path, product: Product, index: int) -> Path:
    """Return the name of a tile's part."""
    return folder / f"{product.name}_{index:07d}.tif"


def write_part(folder: Path, product: Product, index: int, pixels: Pixels, levels: int) -> Path:
    """Write the pixels of tile `index`, uint8 (band, row, col) or (row, col), with its overviews; return the file.

    `levels` is `overview_levels` of the whole map. The file has no place on Earth and holds its overviews below the
    tile; only `assemble` reads it. Raises OutputError when it cannot be written, as on a full disk.
    """
    pixels = pixels[np.newaxis] if pixels.ndim == 2 else pixels
    if pixels.dtype != np.uint8 or pixels.shape[0] != product.count:
        raise UsageError(
            f"a part of {product.name} is uint8 with {product.count} bands, got {pixels.dtype} {pixels.shape}"
        )
    path = part_path(folder, product, index)
    write_durably(path, _encoded(product, pixels, levels))
    return path


def _encoded(product: Product, pixels: Pixels, levels: int) -> bytes:
    windows = level_windows(pixels.shape[1], pixels.shape[2], levels)
    profile = {
        "driver": "GTiff",
        "count": product.count,
        "dtype": "uint8",
        "height": windows[-1].row_stop,
        "width": pixels.shape[2],
        "nodata": NODATA,
        "transform": _ANYWHERE,
        "tiled": True,
        "blockxsize": BLOCK_PX,
        "blockysize": BLOCK_PX,
        "compress": "deflate",
        "zlevel": 1,
        "interleave": "band",
        "sparse_ok": True,
        "bigtiff": "if_safer",
    }
    with raster_environment(), MemoryFile() as memory:
        with memory.open(**profile) as dataset:
            for window, level in zip(windows, pyramid(pixels, levels, product.name), strict=True):
                dataset.write(level, window=RasterioWindow(window.col, window.row, window.width, window.height))
        return bytes(memory.getbuffer())
