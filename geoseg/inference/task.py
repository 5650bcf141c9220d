"""What a Dask worker does for one tile: map it, write its parts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geoseg.inference.plan import Plan
from geoseg.inference.run import checkpoint
from geoseg.inference.tile import TileMap, map_tile
from geoseg.raster.landcover import Product, write_part


@dataclass(frozen=True, slots=True)
class TileDone:
    """A tile whose parts are whole on the disk."""

    index: int
    pixels: int


@dataclass(frozen=True, slots=True)
class TileTask:
    """A function of a tile's index; a plain value, so it travels to threads, processes and machines."""

    plan: Plan
    folder: Path
    """Where the parts go; every worker sees it."""
    run: str
    """The run's name in the process that started it."""

    def __call__(self, index: int) -> TileDone:
        """Map one tile and write its parts, each atomically."""
        tile = self.plan.tile(index)
        mapped = map_tile(self.plan.mapping, self.plan.engine.open(), tile, checkpoint(self.run))
        for product in self.plan.products:
            write_part(self.folder, product, index, _pixels(mapped, product), self.plan.overview_levels)
        return TileDone(index, tile.size)


def _pixels(mapped: TileMap, product: Product) -> NDArray[np.uint8]:
    pixels = {"labels": mapped.labels, "confidence": mapped.confidence, "probabilities": mapped.probabilities}
    wanted = pixels[product.name]
    if wanted is None:
        raise RuntimeError(f"the tile was mapped without its {product.name}")
    return wanted
