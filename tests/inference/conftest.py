from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from rasterio.transform import from_origin

from geoseg.raster import Scene, Window

MakeScene = Callable[..., Scene]


@pytest.fixture(scope="session")
def make_scene(tmp_path_factory: pytest.TempPathFactory) -> MakeScene:
    """Return a function that writes a random scene (band, row, col) with some invalid pixels and opens it."""
    folder = tmp_path_factory.mktemp("scenes")

    def make(height: int, width: int, *, seed: int = 0, invalid: float = 0.2, **profile: Any) -> Scene:
        path = folder / f"{height}x{width}-{seed}-{invalid}-{len(list(folder.iterdir()))}.tif"
        return Scene.open(write_scene(path, random_pixels(height, width, seed, invalid), **profile))

    return make


def random_pixels(height: int, width: int, seed: int, invalid: float) -> NDArray[np.uint8]:
    """Return pixels (3, row, col) in which single pixels and a whole corner are 0, which is nodata."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(1, 256, (3, height, width), dtype=np.uint8)
    pixels[:, rng.random((height, width)) < invalid / 4] = 0
    if invalid:
        pixels[:, : int(height * invalid), : int(width * 0.7)] = 0
    return pixels


def write_scene(path: Path, pixels: NDArray[Any], **profile: Any) -> Path:
    """Write pixels (band, row, col) as a GeoTIFF in UTM with 0.5 m pixels and nodata 0."""
    count, height, width = pixels.shape
    settings: dict[str, Any] = {
        "driver": "GTiff",
        "dtype": pixels.dtype.name,
        "count": count,
        "height": height,
        "width": width,
        "crs": "EPSG:32631",
        "transform": from_origin(500_000, 5_400_000, 0.5, 0.5),
        "nodata": 0,
    } | profile
    with rasterio.open(path, "w", **settings) as dataset:
        dataset.write(pixels)
    return path


class WholeTiles:
    """Tiles that receive their rows in order and go to `write` once complete."""

    def __init__(self, write: Callable[[int, dict[Any, NDArray[np.uint8]]], object]) -> None:
        self.write = write

    def begin(self, index: int, place: Window) -> _Tile:
        return _Tile(self.write, index, place)


class _Tile:
    def __init__(self, write: Callable[[int, Any], object], index: int, place: Window) -> None:
        self._write, self._index, self._place = write, index, place
        self._rows: list[dict[Any, NDArray[np.uint8]]] = []

    def add(self, rows: dict[Any, NDArray[np.uint8]]) -> None:
        self._rows.append(rows)

    def finish(self) -> None:
        whole = {name: np.concatenate([rows[name] for rows in self._rows], axis=-2) for name in self._rows[0]}
        assert all(pixels.shape[-2:] == self._place.shape for pixels in whole.values())
        self._write(self._index, whole)
