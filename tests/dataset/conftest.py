"""Small data sets, created afresh for every test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.crs import CRS

from geoseg.legend import DEEPGLOBE

UTM = CRS.from_epsg(32618)
NORTH_UP = Affine(10, 0, 5e5, 0, -10, 4e6)
COLORS = np.array([land_cover.color for land_cover in DEEPGLOBE], np.uint8)

MakeTile = Callable[..., np.ndarray]


def write_raster(path: Path, data: np.ndarray, driver: str | None = None, **profile: Any) -> Path:
    """Write (band, row, col) as a georeferenced GeoTIFF, or as a PNG or JPEG without georeference, by its suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kinds = {".png": "PNG", ".jpg": "JPEG", ".bmp": "BMP", ".gif": "GIF"}
    driver = driver or kinds.get(path.suffix, "GTiff")
    place = {} if driver in kinds.values() else {"crs": UTM, "transform": NORTH_UP}
    count, height, width = data.shape
    shape = {"count": count, "height": height, "width": width, "dtype": data.dtype}
    with rasterio.open(path, "w", driver=driver, **{**place, **shape, **profile}) as dataset:
        dataset.write(data)
    return path


def patchwork(shape: tuple[int, int], classes: int, seed: int = 0, patch_px: int = 8) -> np.ndarray:
    """Return codes (row, col) from 0 to classes - 1, in squares."""
    rows, cols = (-(-side // patch_px) for side in shape)
    coarse = np.random.default_rng(seed).integers(0, classes, (rows, cols))
    return np.kron(coarse, np.ones((patch_px, patch_px), int))[: shape[0], : shape[1]].astype(np.uint8)


def noise(*shape: int, dtype: str = "uint8", seed: int = 0, high: int = 250) -> np.ndarray:
    """Return incompressible random pixels, none of them 0."""
    return np.random.default_rng(seed).integers(1, high, shape).astype(dtype)


@pytest.fixture
def make_tile() -> MakeTile:
    """Return a function that writes NNN_sat.jpg and NNN_mask.png into a folder and returns the codes."""

    def make(folder: Path, name: str, shape: tuple[int, int] = (96, 80), seed: int | None = None) -> np.ndarray:
        seed = sum(name.encode()) if seed is None else seed
        codes = patchwork(shape, len(DEEPGLOBE), seed)
        write_raster(folder / f"{name}_sat.jpg", noise(3, *shape, seed=seed))
        write_raster(folder / f"{name}_mask.png", COLORS[codes].transpose(2, 0, 1))
        return codes

    return make


@pytest.fixture
def make_pair(tmp_path: Path) -> Callable[..., np.ndarray]:
    """Return a function that writes images/NAME.tif and labels/NAME.tif on one grid and returns the labels."""

    def make(name: str, shape: tuple[int, int] = (128, 160), *, east_px: int = 0, seed: int = 0, **profile: Any) -> Any:
        place = {"transform": NORTH_UP @ Affine.translation(east_px, 0), **profile}
        codes = patchwork(shape, 3, seed) + 1
        write_raster(
            tmp_path / "images" / f"{name}.tif", noise(4, *shape, dtype="uint16", seed=seed, high=4000), **place
        )
        write_raster(tmp_path / "labels" / f"{name}.tif", codes[None], **{"nodata": 0, **place})
        return codes

    return make
