"""Small rasters for every test of this room."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.crs import CRS

from geoseg.raster import GeoBox, Window
from geoseg.raster.landcover import Product, build_cog, place

UTM = CRS.from_epsg(32618)
NORTH_UP = Affine(0.5, 0, 5e5, 0, -0.5, 4e6)

MakeRaster = Callable[..., Path]


@pytest.fixture
def make_raster(tmp_path: Path) -> MakeRaster:
    """Return a function that writes data (band, row, col) as a raster and returns its path."""

    def make(data: np.ndarray, name: str = "scene.tif", **profile: Any) -> Path:
        path = tmp_path / name
        mask = profile.pop("mask", None)
        place = {"crs": UTM, "transform": NORTH_UP, "driver": "GTiff", **profile}
        count, height, width = data.shape
        with rasterio.open(path, "w", count=count, height=height, width=width, dtype=data.dtype, **place) as dataset:
            dataset.write(data)
            if mask is not None:
                dataset.write_mask(mask)
        return path

    return make


def noise(*shape: int, dtype: str = "uint8", seed: int = 0) -> np.ndarray:
    """Return incompressible random pixels."""
    return np.random.default_rng(seed).integers(0, 255, shape).astype(dtype)


def assemble(  # a whole map at once, as a run builds and places it
    folder: Path, product: Product, tiles: Sequence[Window], geobox: GeoBox, target: Path, tags: Mapping[str, str]
) -> None:
    place(build_cog(folder, product, tiles, geobox, tags), product, target)
