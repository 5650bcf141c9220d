"""What a Dask worker does for one tile: map it, write its parts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from geoseg.errors import GeosegError
from geoseg.inference.plans import Plan
from geoseg.inference.run import Run, checkpoint
from geoseg.inference.tile import map_tile
from geoseg.model import OutOfMemory
from geoseg.raster.landcover import write_part


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
    run: Run

    def __call__(self, index: int) -> TileDone:
        """Map one tile and write its parts, each atomically."""
        tile = self.plan.tile(index)
        check = checkpoint(self.run)
        check()
        try:
            mapped = map_tile(self.plan.mapping, self.plan.open_engine(), tile, check)
        except OutOfMemory:
            raise GeosegError(
                f"the rows of a tile of {tile.width} x {tile.height} pixels do not fit the device's memory; "
                "take a smaller `tile`, or fewer `workers`"
            ) from None
        for product in self.plan.products:
            write_part(self.folder, product, index, mapped[product.name], self.plan.overview_levels)
        return TileDone(index, tile.size)
