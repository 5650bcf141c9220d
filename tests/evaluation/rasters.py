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
    """Return classes (row, col) in random square patches."""
    drawn = np.random.default_rng(seed).choice(codes, (rows // side + 1, cols // side + 1))
    return np.kron(drawn, np.ones((side, side), int))[:rows, :cols].astype(np.uint8)


def wrong(seed: int, pixels: NDArray[np.uint8], share: float = 0.2) -> NDArray[np.uint8]:
    """Return the pixels with a share of them replaced at random."""
    rng = np.random.default_rng(seed)
    return np.where(rng.random(pixels.shape) < share, rng.permutation(pixels.ravel()).reshape(pixels.shape), pixels)


def colored(path: Path, codes: NDArray[np.uint8], legend: Legend, kind: str, **profile: Any) -> Path:
    """Write codes as the colors of a legend: "rgb", "rgba" (255 is transparent), or "palette" with indexes of its own.

    255 is nodata.
    """
    colors = np.zeros((256, 3), np.uint8)
    colors[list(legend.codes)] = [land_cover.color for land_cover in legend]
    valid = codes != NODATA
    if kind == "palette":
        order = [land_cover.code for land_cover in reversed(legend.classes)]
        place = np.zeros(256, np.uint8)
        place[order] = np.arange(len(order))
        write(path, np.where(valid, place[codes], np.uint8(200)), nodata=200, photometric="PALETTE", **profile)
        with rasterio.open(path, "r+") as file:
            file.write_colormap(1, {index: (*legend.by_code(code).color, 255) for index, code in enumerate(order)})
        return path
    bands = np.concatenate([colors[codes].transpose(2, 0, 1), np.where(valid, 255, 0).astype(np.uint8)[None]])
    bands = bands if kind == "rgba" else bands[:3]
    alpha = {"ALPHA": "YES"} if kind == "rgba" else {}
    return write(path, np.ascontiguousarray(bands), nodata=None, photometric="RGB", **alpha, **profile)


def as_floats(path: Path, codes: NDArray[np.uint8], dtype: str, hole: float, *, declared: bool = True) -> Path:
    """Write codes as floats; nodata (255) is stored as `hole`."""
    stored = codes.astype(dtype)
    stored[codes == NODATA] = hole
    return write(path, stored, nodata=hole if declared else None, **UTM)


HOLES = [(-9999.0, True), (float("nan"), True), (float("nan"), False), (float(np.finfo("float32").min), True)]
HOLES += [(float(np.finfo("float32").min), False)]
"""Nodata values of float rasters, and whether the file declares them."""
