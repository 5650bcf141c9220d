"""A scene as a notebook shows it: what it is, and a small picture; a map of classes in its colours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rasterio.io import MemoryFile

from geoseg.errors import GeosegError
from geoseg.html import beside, picture, swatches, table
from geoseg.raster.classes import is_classes, read_nomenclature
from geoseg.raster.environment import raster_environment, shown
from geoseg.raster.scene import Patch, Scene

THUMBNAIL_PX = 240
_MOST_CLASSES = 24


def scene_card(scene: Scene) -> str:
    """Return HTML that needs nothing else. A raster that cannot be read any more has no picture."""
    try:
        is_map = is_classes(scene)
        image, codes = _thumbnail(scene, is_map=is_map)
        classes = _classes(scene, codes) if is_map else ""
    except GeosegError:
        is_map, image, classes = False, "", ""
    facts = table(_rows(scene, "map" if is_map else "scene"))
    return beside(image, facts, classes)


def _classes(scene: Scene, codes: list[int]) -> str:
    known = list(read_nomenclature(scene).completed(codes))
    more = f"and {len(known) - _MOST_CLASSES} more" if len(known) > _MOST_CLASSES else ""
    return swatches((each.name, each.color) for each in known[:_MOST_CLASSES]) + more


def _rows(scene: Scene, kind: str) -> list[tuple[str, str]]:
    box = scene.geobox
    crs = box.crs or box.gcp_crs
    return [
        (kind, Path(shown(scene.path)).name),
        ("size", f"{box.height_px} rows, {box.width_px} columns"),
        ("pixel", "unknown size" if box.gsd_m is None else f"{box.gsd_m:.3g} m"),
        ("CRS", "none" if crs is None else crs.to_string()[:80]),
        ("bands", f"{len(scene.band_indexes)} of {scene.count}, {scene.dtype}"),
        ("nodata", "none" if scene.nodata is None else f"{scene.nodata:g}"),
    ]


def _thumbnail(scene: Scene, *, is_map: bool) -> tuple[str, list[int]]:
    """Return a picture, and the codes of a map that are in it."""
    patch = scene.overview(THUMBNAIL_PX)
    image = _colored(scene, patch) if is_map else _natural(scene, patch)
    codes = [int(code) for code in np.unique(patch.data[0][patch.valid])] if is_map else []
    profile = {"driver": "PNG", "dtype": "uint8", "count": 4, "height": image.shape[1], "width": image.shape[2]}
    with raster_environment(GDAL_PAM_ENABLED=False), MemoryFile() as file:
        with file.open(**profile) as png:
            png.write(image)
        return picture(file.read()), codes


def _natural(scene: Scene, patch: Patch) -> NDArray[np.uint8]:
    """Return (4, row, col): three bands stretched alike."""
    bands = patch.data[:3] if len(patch.data) >= 3 else patch.data[[0, 0, 0]]
    statistics = scene.statistics()
    low, high = (0.0, 1.0) if statistics is None else (min(statistics.low[:3]), max(statistics.high[:3]))
    light = np.clip((bands.astype(np.float32) - low) / max(high - low, 1e-9), 0, 1) * 255
    return np.concatenate([light.astype(np.uint8), patch.valid[None].astype(np.uint8) * 255])


def _colored(scene: Scene, patch: Patch) -> NDArray[np.uint8]:
    """Return (4, row, col): each class in its colour."""
    known = read_nomenclature(scene)
    found, places = np.unique(patch.data[0], return_inverse=True)
    lookup = np.array([(*known.of(int(code)).color, 255) for code in found.clip(-(2**31), 2**31 - 1)], np.uint8)
    colored = lookup[places.reshape(patch.valid.shape)]
    colored[~patch.valid] = 0
    return np.ascontiguousarray(np.moveaxis(colored, -1, 0))
