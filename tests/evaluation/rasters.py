"""Maps and references for the tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray

from geoseg.legend import Legend

UTM: dict[str, Any] = {"crs": "EPSG:32631", "transform": Affine(10, 0, 400_000, 0, -10, 5_000_000)}
NODATA = 255


def write(
    path: Path, pixels: NDArray[Any], *, legend: Legend | None = None, nodata: float | None = NODATA, **profile: Any
) -> Path:
    bands = pixels if pixels.ndim == 3 else pixels[None]
    shape = {"count": bands.shape[0], "height": bands.shape[1], "width": bands.shape[2]}
    with rasterio.open(path, "w", driver="GTiff", dtype=pixels.dtype, nodata=nodata, **shape, **profile) as file:
        file.write(bands)
        if legend is not None:
            file.update_tags(GEOSEG_LEGEND=json.dumps(legend.to_json()))
    return path


def patches(seed: int, rows: int, cols: int, codes: tuple[int, ...] = (0, 1, 2, 3), side: int = 7) -> NDArray[np.uint8]:
    """Return patches of classes (row, col)."""
    drawn = np.random.default_rng(seed).choice(codes, (rows // side + 1, cols // side + 1))
    return np.kron(drawn, np.ones((side, side), int))[:rows, :cols].astype(np.uint8)


def wrong(seed: int, pixels: NDArray[np.uint8], share: float = 0.2) -> NDArray[np.uint8]:
    """Return pixels of which some are of another class."""
    rng = np.random.default_rng(seed)
    return np.where(rng.random(pixels.shape) < share, rng.permutation(pixels.ravel()).reshape(pixels.shape), pixels)
