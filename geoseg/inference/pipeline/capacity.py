"""How wide a band is, and how many slabs and tiles are in memory at once: planned before a thread starts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

from geoseg.inference.pipeline.slabs import ChunkShape, ring_size, slab_bytes
from geoseg.inference.tile import SceneMapping
from geoseg.raster import Scene

_WIDEST_PX = 65536
_SHARE = 0.5
"""Of the memory that is free: a pipeline that takes more leaves too little for what else runs."""


@dataclass(frozen=True, slots=True)
class Capacity:
    """What one device's part of a pipeline holds."""

    cols: int
    """Columns of tiles of a band."""
    ring: int
    """Slabs."""
    tiles: int
    """Tiles that are begun and not written."""
    memory_bytes: int
    """Of slabs, and of tiles with what writing one takes."""

    @classmethod
    def of(
        cls,
        mapping: SceneMapping[Scene],
        tile: tuple[int, int],
        *,
        workers: int,
        devices: int,
        free_bytes: int,
    ) -> Self:
        """Return the widest bands whose slabs and tiles fit the memory: windows on their borders run twice."""
        most = max(1, _WIDEST_PX // tile[1])
        most = min(most, math.ceil(mapping.grid.width_px / tile[1]))
        widths = (cls._with(mapping, tile, cols, workers) for cols in range(most, 0, -1))
        return next(
            (found for found in widths if devices * found.memory_bytes <= _SHARE * free_bytes),
            cls._with(mapping, tile, 1, workers),
        )

    @classmethod
    def _with(cls, mapping: SceneMapping[Scene], tile: tuple[int, int], cols: int, workers: int) -> Self:
        grid, scene = mapping.grid, mapping.scene
        width_px = min(cols * tile[1] + 2 * grid.window_px, max(grid.width_px, grid.window_px))
        ring = ring_size(ChunkShape.of(scene), width_px, grid.stride_px, workers)
        bands = sum(len(mapping.output_codes) if name == "probabilities" else 1 for name in mapping.keep)
        tiles = max(2 * cols, cols + workers)
        # a tile that is written has its overviews and its encoded bytes beside it
        held = bands * tile[0] * min(tile[1], grid.width_px) * (tiles + workers)
        return cls(cols, ring, tiles, ring * slab_bytes(mapping, width_px) + held)
