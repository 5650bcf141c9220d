"""Small scenes for the tests to damage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.transform import from_origin


def noise(height: int, width: int, seed: int = 0, bands: int = 3) -> NDArray[np.uint8]:
    """Return smooth random pixels (band, row, col), none of them 0."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(1, 240, (bands, height // 8 + 1, width // 8 + 1), dtype=np.uint8)
    pixels = coarse.repeat(8, axis=1).repeat(8, axis=2)[:, :height, :width]
    return pixels + rng.integers(0, 15, pixels.shape, dtype=np.uint8)


def write_scene(path: Path, pixels: NDArray[Any] | None = None, **profile: Any) -> Path:
    """Write pixels (band, row, col), 3 x 100 x 130 of noise by default, as a tiled GeoTIFF in UTM."""
    pixels = noise(100, 130) if pixels is None else pixels
    settings: dict[str, Any] = {
        "driver": "GTiff",
        "dtype": pixels.dtype.name,
        "count": pixels.shape[0],
        "height": pixels.shape[1],
        "width": pixels.shape[2],
        "crs": "EPSG:32631",
        "transform": from_origin(500_000, 5_400_000, 0.5, 0.5),
        "tiled": True,
        "blockxsize": 64,
        "blockysize": 64,
    } | profile
    gcps, gcp_crs = settings.pop("gcps", None), settings["crs"]
    if gcps:
        del settings["transform"], settings["crs"]
    with rasterio.open(path, "w", **settings) as dataset:
        if gcps:
            dataset.gcps = gcps, rasterio.crs.CRS.from_user_input(gcp_crs)
        dataset.write(pixels)
    return path
