"""One finished tile of one output as a small GeoTIFF, a part: whole or absent after any crash."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from affine import Affine
from rasterio.io import MemoryFile
from rasterio.windows import Window as RasterioWindow

from geoseg.atomic import write_durably
from geoseg.errors import UsageError
from geoseg.legend import NODATA, Legend
from geoseg.raster.environment import raster_environment
from geoseg.raster.landcover.overviews import Pixels, halved_px, pyramid
from geoseg.raster.windows import Window

ProductName = Literal["labels", "confidence", "probabilities"]


@dataclass(frozen=True, slots=True)
class Product:
    """One output raster; 255 is nodata in all of them.

    Labels hold class codes and have a legend; confidence and probabilities hold percent, 0 to 100.
    """

    name: ProductName
    bands: tuple[str, ...]
    """Band descriptions, in their order."""
    legend: Legend | None = None

    def __post_init__(self) -> None:
        if not self.bands:
            raise UsageError(f"the product {self.name} needs at least one band, got none")
        if (self.name == "labels") != (self.legend is not None):
            raise UsageError(f"labels have a legend and nothing else has, got {self.name} with legend {self.legend}")

    @property
    def count(self) -> int:
        """Number of bands."""
        return len(self.bands)


def labels(legend: Legend) -> Product:
    """One band of class codes."""
    return Product("labels", ("land cover",), legend)


def confidence() -> Product:
    """One band: the probability of the class that won, in percent."""
    return Product("confidence", ("confidence (percent)",))


def probabilities(names: tuple[str, ...]) -> Product:
    """One band of percent for each class that the model knows, in its order."""
    return Product("probabilities", names)


BLOCK_PX = 256


def level_windows(height_px: int, width_px: int, levels: int) -> tuple[Window, ...]:
    """Return where each level of a tile lies in its part: the tile on top, each below the last, on whole blocks."""
    windows, row = [], 0
    for level in range(levels + 1):
        windows.append(Window(row, 0, halved_px(height_px, level), halved_px(width_px, level)))
        row += -(-windows[-1].height // BLOCK_PX) * BLOCK_PX
    return tuple(windows)


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
            for window, level in zip(windows, pyramid(pixels, levels, classes=product.legend is not None), strict=True):
                dataset.write(level, window=RasterioWindow(window.col, window.row, window.width, window.height))
        return bytes(memory.getbuffer())
