"""Complete tile files of a map."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from geoseg.raster.landcover import PartEncoder, PartFormat, Product


def write_part(folder: Path, product: Product, index: int, pixels: NDArray[Any], form: PartFormat) -> Path:
    """Write the pixels of tile `index`, (band, row, col) or (row, col), and return the file."""
    encoder = PartEncoder(product, pixels.shape[-2], form)
    encoder.add(pixels)
    return encoder.write(folder, index)
