"""A plan as a lazy Dask or xarray array."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import dask.array
import dask.threaded
import numpy as np
from numpy.typing import NDArray

from geoseg.inference.tile import map_tile
from geoseg.legend import NODATA, Legend
from geoseg.machine import in_every_fork
from geoseg.raster import Window, placed_array

if TYPE_CHECKING:
    import xarray

    from geoseg.inference.plan import Plan


def to_dask(plan: Plan) -> dask.array.Array:
    """Return the class codes (row, col) of a plan as a lazy array, uint8, one chunk per tile; see `Plan.to_dask`."""
    scoring = plan.scoring.on_one_device("a lazy array")
    labels_alone = replace(plan, scoring=scoring, mapping=replace(plan.mapping, keep=("labels",)))
    lazy: dask.array.Array = dask.array.map_blocks(
        _chunk,
        plan=labels_alone,
        chunks=(_edges(plan.grid.height_px, plan.tile_height_px), _edges(plan.grid.width_px, plan.tile_width_px)),
        dtype=np.uint8,
        meta=np.empty((0, 0), np.uint8),
        name=f"labels-{plan.fingerprint()}{plan.bundle.function_token}",
    )
    return lazy


def to_xarray(plan: Plan) -> xarray.DataArray:
    """Return the class codes of a plan as a lazy DataArray (y, x); see `Plan.to_xarray`."""
    attributes = _flags(plan.bundle.legend) | {"_FillValue": np.uint8(NODATA), "nodata": NODATA}
    return placed_array(to_dask(plan), plan.scene.geobox, "landcover", attributes)


def _flags(legend: Legend) -> dict[str, object]:
    """Return the classes as CF flag attributes (CF conventions, section 3.5), and the whole legend as JSON."""
    return {
        "long_name": "land cover",
        "flag_values": np.asarray(legend.codes, np.uint8),
        "flag_meanings": " ".join("_".join(name.split()) for name in legend.names),
        "flag_colors": " ".join("#{:02x}{:02x}{:02x}".format(*land_cover.color) for land_cover in legend),
        "legend": json.dumps(legend.to_json()),
    }


def _chunk(plan: Plan, block_info: dict[Any, Any] | None = None) -> NDArray[np.uint8]:
    if block_info is None:
        raise RuntimeError("Dask did not say which chunk to compute")
    (row, row_stop), (col, col_stop) = block_info[None]["array-location"]
    return map_tile(plan.mapping, plan.open_engine(), Window(row, col, row_stop - row, col_stop - col))["labels"]


def _edges(length_px: int, tile_px: int) -> tuple[int, ...]:
    return tuple(min(tile_px, length_px - start) for start in range(0, length_px, tile_px))


def _without_dask_threads() -> None:
    """Make Dask start its own threads in a fork: `compute` would wait for those of the parent."""
    dask.threaded.default_pool = None
    dask.threaded.pools.clear()
    dask.threaded.pools_lock = threading.Lock()


in_every_fork(_without_dask_threads)
