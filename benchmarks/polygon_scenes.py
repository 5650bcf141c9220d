"""The land-cover maps to turn into polygons, made once and kept in a folder.

    python benchmarks/polygon_scenes.py FOLDER NAME

Runs as a separate process, so that it is not measured. All are GeoTIFFs of bytes in UTM, nodata 255, with a different
seed for each size. A noisy map is the largest of six smoothed fields of noise; the smoothing determines the number of
regions. It repeats without a seam, so larger maps are made by tiling it.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

_CLASSES = 6
_NODATA = 255
_TRANSFORM = (0.5, 0.0, 400_000.0, 0.0, -0.5, 5_000_000.0)
_CLEAN_GSD_M = 2.0
"""Coarse enough that a synthetic landscape has some thousand regions in 4096 x 4096 pixels."""


@dataclass(frozen=True, slots=True)
class Map:
    """A map to make: `rows` x `cols`, from a texture of `texture_px` x `texture_px`."""

    rows: int
    cols: int
    texture_px: int
    smoothing_px: float
    """0 means the truth of a synthetic landscape instead of noise."""


MAPS = {
    "noisy4096": Map(4096, 4096, 4096, 4.8),  # about 120 000 regions, 4.2 M vertices
    "noisy8192": Map(8192, 8192, 8192, 9.6),  # about 126 000 regions, 8.4 M vertices
    "clean4096": Map(4096, 4096, 4096, 0),  # about 3 400 regions, 0.5 M vertices
    "square16384": Map(16_384, 16_384, 4096, 9.6),
    "tall65536": Map(65_536, 16_384, 4096, 9.6),
    "noisy512": Map(512, 512, 512, 4.8),
    "clean512": Map(512, 512, 512, 0),
    "square1024": Map(1024, 1024, 512, 9.6),
    "tall4096": Map(4096, 1024, 512, 9.6),
    "tiny": Map(64, 64, 64, 2.0),
}


def scene(folder: Path, name: str) -> Path:
    """Return the map's path; make the map if it does not exist yet."""
    path = folder / f"{name}.tif"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        print(f"making {path.name}, kept for the next time", file=sys.stderr, flush=True)
        subprocess.run([sys.executable, __file__, str(folder), name], check=True)
    return path


def _make(folder: Path, name: str) -> None:
    import rasterio
    from affine import Affine
    from rasterio.windows import Window

    made = MAPS[name]
    texture = _noise(made) if made.smoothing_px else _landscape(made)
    profile = {"driver": "GTiff", "dtype": "uint8", "count": 1, "nodata": _NODATA, "crs": "EPSG:32631"}
    blocks = {"tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate", "zlevel": 1}
    unfinished = folder / f"{name}.unfinished.tif"
    with rasterio.open(
        unfinished, "w", height=made.rows, width=made.cols, transform=Affine(*_TRANSFORM), **profile, **blocks
    ) as dataset:
        step = min(512, made.texture_px)
        for row in range(0, made.rows, step):
            begin = row % made.texture_px
            strip = np.tile(texture[begin : begin + step], made.cols // made.texture_px)
            dataset.write(strip, 1, window=Window(0, row, made.cols, step))
    unfinished.replace(folder / f"{name}.tif")


def _noise(made: Map) -> npt.NDArray[np.uint8]:
    from scipy import ndimage

    random = np.random.default_rng(made.texture_px)
    shape = (made.texture_px, made.texture_px)
    highest = np.full(shape, -np.inf, np.float32)
    texture = np.zeros(shape, np.uint8)
    for code in range(_CLASSES):
        field = random.standard_normal(shape, dtype=np.float32)
        field = ndimage.gaussian_filter(field, made.smoothing_px, mode="wrap", truncate=3)
        higher = field > highest
        texture[higher] = code
        highest[higher] = field[higher]
    return texture


def _landscape(made: Map) -> npt.NDArray[np.uint8]:
    from geoseg.synthetic import Landscape

    return Landscape(7, made.rows, made.cols, _CLEAN_GSD_M).render()[1]


if __name__ == "__main__":
    _make(Path(sys.argv[1]), sys.argv[2])
