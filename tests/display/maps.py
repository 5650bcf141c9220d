"""Small maps in which every pixel is known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray

UTM: dict[str, Any] = {"crs": "EPSG:32633", "transform": Affine(10, 0, 500_000, 0, -10, 5_200_000)}
ROTATED: dict[str, Any] = {
    "crs": "EPSG:32633",
    "transform": Affine.translation(500_000, 5_200_000) @ Affine.rotation(30) @ Affine.scale(10, -10),
}
NASTY = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
COLOR_OF = {0: (40, 90, 200), 1: (200, 30, 30), 2: (30, 160, 60)}
NAMES = ("water", NASTY, "urban_land")
LEGEND = [{"code": code, "name": NAMES[code], "color": list(color)} for code, color in COLOR_OF.items()]
SCENE_COLOR = (250, 250, 10)


def blocks(rows: int = 96, cols: int = 128, side: int = 16) -> NDArray[np.uint8]:
    """Return (row, col) squares of the codes 0, 1 and 2; neighbors along a row always differ."""
    row, col = np.mgrid[:rows, :cols]
    return np.asarray((row // side + col // side) % 3, np.uint8)


def write_map(path: Path, codes: NDArray[Any], *, legend: bool = True, **place: Any) -> Path:
    nodata = 255 if codes.dtype.kind == "f" or np.iinfo(codes.dtype).max >= 255 else None
    profile = {"driver": "GTiff", "dtype": codes.dtype, "count": 1, "nodata": nodata} | place
    with rasterio.open(path, "w", height=codes.shape[0], width=codes.shape[1], **profile) as file:
        file.write(codes, 1)
        if legend:
            file.update_tags(GEOSEG_LEGEND=json.dumps(LEGEND))
    return path


def write_scene(path: Path, shape: tuple[int, int] = (96, 128), **place: Any) -> Path:
    """Write a scene of one color; its black corner keeps the display from stretching the values."""
    data = np.broadcast_to(np.array(SCENE_COLOR, np.uint8)[:, None, None], (3, *shape)).copy()
    data[:, : shape[0] // 4, : shape[1] // 4] = 0
    profile = {"driver": "GTiff", "dtype": "uint8", "count": 3, "height": shape[0], "width": shape[1]} | place
    with rasterio.open(path, "w", **profile) as file:
        file.write(data)
    return path
