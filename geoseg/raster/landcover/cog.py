"""Write one Cloud Optimized GeoTIFF, and make sure that it is whole.

Format: https://gdal.org/drivers/raster/cog.html
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import rasterio
import rasterio.shutil
from rasterio.io import DatasetReader
from rasterio.windows import Window

from geoseg.errors import OutputError
from geoseg.raster.environment import GDAL_ERRORS, gdal_threads, raster_environment
from geoseg.raster.handles import root_message
from geoseg.raster.landcover.creation import DEFAULTS
from geoseg.raster.landcover.tiff import tile_extents
from geoseg.raster.windows import tiles

_READ_PX = 512
_OPTIONS = {"OVERVIEWS": "FORCE_USE_EXISTING"}
_SETTINGS: dict[str, Any] = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",  # listing the folder for each part took ten times its reading
}


def write_cog(source: Path, target: Path, storage: Mapping[str, str] = DEFAULTS) -> None:
    """Copy a raster and its overviews into a COG. Raises OutputError unless every block of it is in the file.

    `storage` is what `creation_options` returns.
    """
    try:
        with raster_environment(**_SETTINGS):
            rasterio.shutil.copy(str(source), str(target), driver="COG", strict=True, **_storage(storage), **_OPTIONS)
            check_whole(target)
    except (*GDAL_ERRORS, struct.error) as error:
        raise OutputError(
            f"cannot write {target}: {root_message(error)}; if the disk is full, free some space and run the same "
            f"command again; if a part is damaged, remove {target.parent} first"
        ) from error


def _storage(asked: Mapping[str, str]) -> dict[str, str]:
    """Return creation options with no more threads than GDAL may have here."""
    return {**asked, "NUM_THREADS": "1"} if gdal_threads() == "1" else dict(asked)


def check_whole(path: Path) -> None:
    """Raise one of rasterio's errors, OSError or struct.error unless every block of a COG is there and can be decoded.

    Decoding takes a tenth of the time of writing.
    """
    size = path.stat().st_size
    for offsets, counts in tile_extents(path):
        if len(offsets) == 0 or len(offsets) != len(counts) or not (offsets > 0).all() or not (counts > 0).all():
            raise OSError("some blocks are missing")
        if int((offsets + counts).max()) > size:
            raise OSError("the file ends too early")
    with rasterio.open(path, num_threads=gdal_threads()) as dataset:
        levels = len(dataset.overviews(1))
        _decode(dataset)
    for level in range(levels):
        with rasterio.open(path, overview_level=level, num_threads=gdal_threads()) as dataset:
            _decode(dataset)


def _decode(dataset: DatasetReader) -> None:
    for window in tiles(dataset.height, dataset.width, _READ_PX, 16 * _READ_PX):
        dataset.read(window=Window(window.col, window.row, window.width, window.height))
