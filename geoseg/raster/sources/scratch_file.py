"""A GeoTIFF on the disk for temporary files: complete, or an error says that the disk is full.

GDAL writes the last blocks when a file is closed, and does not report failures.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import rasterio
from rasterio.io import DatasetReader

from geoseg.atomic import free_space_bytes
from geoseg.errors import OutputError, SceneError
from geoseg.raster.environment import GDAL_ERRORS, raster_environment

_FULL_BYTES = 2**20
"""With less free space a disk counts as full."""


@contextmanager
def temporary_copy(path: Path, of: str) -> Iterator[None]:
    """Check that the body writes a complete GeoTIFF, with its overviews; `of` says what it is a copy of.

    OutputError if the disk for temporary files is full. Other read and write errors are raised unchanged.
    """
    try:
        yield
        is_whole = _is_whole(path)
    except (SceneError, *GDAL_ERRORS):
        if free_space_bytes(path.parent) >= _FULL_BYTES:
            raise
        is_whole = False
    if not is_whole:
        raise OutputError(
            f"the disk for temporary files is full: a copy of {of} does not fit in {path.parent.parent}; free some "
            "space, or set TMPDIR to a folder with more space"
        )


def _is_whole(path: Path) -> bool:
    """Return whether every block of a GeoTIFF and its overviews lies within the file. Raises rasterio's errors."""
    size = path.stat().st_size
    with raster_environment():
        with rasterio.open(path, sharing=False) as dataset:
            if not _has_all_blocks(dataset, size):
                return False
            levels = len(dataset.overviews(1))
        for level in range(levels):
            with rasterio.open(path, sharing=False, overview_level=level) as overview:
                if not _has_all_blocks(overview, size):
                    return False
    return True


def _has_all_blocks(dataset: DatasetReader, size: int) -> bool:
    height, width = dataset.block_shapes[0]
    rows, cols = range(-(-dataset.height // height)), range(-(-dataset.width // width))
    bands = dataset.indexes if dataset.profile.get("interleave") == "band" else (1,)
    return all(0 < _end(dataset, *block) <= size for block in itertools.product(bands, rows, cols))


def _end(dataset: DatasetReader, band: int, row: int, col: int) -> int:
    """Return where a block ends in the file; 0 for one that was never written."""
    first, length = (
        int(dataset.get_tag_item(f"BLOCK_{what}_{col}_{row}", "TIFF", bidx=band) or 0) for what in ("OFFSET", "SIZE")
    )
    return first + length if first and length else 0
