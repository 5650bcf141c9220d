"""Write one Cloud Optimized GeoTIFF, and make sure that it is whole.

Format: https://gdal.org/drivers/raster/cog.html
"""

from __future__ import annotations

import struct
from pathlib import Path

import rasterio.shutil

from geoseg.errors import OutputError
from geoseg.raster.environment import GDAL_ERRORS, raster_environment
from geoseg.raster.handles import root_message
from geoseg.raster.tiff import tile_extents

_OPTIONS = {
    "BLOCKSIZE": "512",
    "COMPRESS": "DEFLATE",
    "OVERVIEWS": "FORCE_USE_EXISTING",
    "NUM_THREADS": "ALL_CPUS",
    "BIGTIFF": "IF_SAFER",
}
_WAY_OUT = "if the disk is full, free some space; the same command goes on from here"


def write_cog(source: Path, target: Path) -> None:
    """Copy a raster and its overviews into a COG. Raises OutputError unless every block of it is in the file."""
    try:
        with raster_environment():
            rasterio.shutil.copy(str(source), str(target), driver="COG", strict=True, **_OPTIONS)
        check_whole(target)
    except (*GDAL_ERRORS, struct.error) as error:
        raise OutputError(f"cannot write {target}: {root_message(error)}; {_WAY_OUT}") from error


def check_whole(path: Path) -> None:
    """Raise OSError or struct.error unless every block that a tiled TIFF lists lies inside the file."""
    size = path.stat().st_size
    for offsets, counts in tile_extents(path):
        if len(offsets) == 0 or len(offsets) != len(counts) or not (offsets > 0).all() or not (counts > 0).all():
            raise OSError("some blocks are missing")
        if int((offsets + counts).max()) > size:
            raise OSError("the file ends too early")
