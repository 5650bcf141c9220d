"""The same map as a lazy Dask array, for those who go on in xarray."""

from __future__ import annotations

import os
import threading
from typing import Any, Unpack

import dask.array
import dask.threaded
import numpy as np
from numpy.typing import NDArray

from geoseg.given import plain_arguments
from geoseg.inference.planning import Knobs, plan
from geoseg.inference.plans import Plan
from geoseg.inference.tile import map_tile
from geoseg.interpreter import in_every_fork
from geoseg.raster import Scene, Window


@plain_arguments(Knobs)
def labels(scene: str | os.PathLike[str] | Scene, **knobs: Unpack[Knobs]) -> dask.array.Array:
    """Return the class codes of a scene as a lazy Dask array: (row, col), uint8, 255 = nodata, one chunk a tile.

    Nothing is computed before the array is. The knobs are those of `geoseg.plan`; raises what it raises.
    """
    made = plan(scene, **knobs)
    lazy: dask.array.Array = dask.array.map_blocks(
        _chunk,
        made=made,
        chunks=(_edges(made.grid.height_px, made.tile_height_px), _edges(made.grid.width_px, made.tile_width_px)),
        dtype=np.uint8,
        meta=np.empty((0, 0), np.uint8),
        name=f"labels-{made.fingerprint()}",
    )
    return lazy


def _chunk(made: Plan, block_info: dict[Any, Any] | None = None) -> NDArray[np.uint8]:
    if block_info is None:
        raise RuntimeError("Dask did not say which chunk to compute")
    (row, row_stop), (col, col_stop) = block_info[None]["array-location"]
    return map_tile(made.mapping, made.open_engine(), Window(row, col, row_stop - row, col_stop - col))["labels"]


def _edges(length_px: int, tile_px: int) -> tuple[int, ...]:
    return tuple(min(tile_px, length_px - start) for start in range(0, length_px, tile_px))


def _without_dask_threads() -> None:
    """Have Dask start threads of its own in a fork: `compute` would wait for those of the parent."""
    dask.threaded.default_pool = None
    dask.threaded.pools.clear()
    dask.threaded.pools_lock = threading.Lock()


in_every_fork(_without_dask_threads)
