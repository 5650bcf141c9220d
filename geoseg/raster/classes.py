"""The legend a raster carries, whoever wrote it: names from its categories, colours from its colour table."""

from __future__ import annotations

import json
from collections.abc import Iterable
from xml.etree import ElementTree as ET

import numpy as np
import rasterio.shutil
from rasterio.io import DatasetReader, MemoryFile

from geoseg.legend import NODATA, LandCover, Legend
from geoseg.raster.handles import opened
from geoseg.raster.landcover import LEGEND_TAG
from geoseg.raster.scene import Scene

_GRAY = (128, 128, 128)


def is_classes(scene: Scene) -> bool:
    """Say whether a raster is a map of classes: one band of bytes with a colour table or with class names."""
    if scene.count != 1 or scene.dtype != "uint8":
        return False
    with opened(scene.path) as dataset:
        return scene.colors == ("palette",) or any(_category_names(dataset))


def read_legend(scene: Scene, found: Iterable[int] = ()) -> Legend | None:
    """Return the legend of a map; None if there is no class. SceneError if it cannot be read.

    The tag GEOSEG_LEGEND where there is one; else a class is what has a name; in a map without names, each code `found`
    in its pixels.
    """
    with opened(scene.path) as dataset:
        written = _parsed(dataset.tags().get(LEGEND_TAG, ""))
        if written is not None:
            return written
        names = _category_names(dataset)
        colors = dataset.colormap(1) if scene.colors == ("palette",) else {}
    codes = [code for code, name in enumerate(names) if name] or sorted(set(found))
    classes = [
        LandCover(code, names[code] if code < len(names) else f"class {code}", colors.get(code, (*_GRAY, 255))[:3])
        for code in codes
        if code < NODATA and code != scene.nodata
    ]
    unique = len({land_cover.name for land_cover in classes}) == len(classes)
    return Legend(tuple(classes)) if classes and unique else None


def _parsed(text: str) -> Legend | None:
    try:
        return Legend.from_json(json.loads(text))
    except (ValueError, RecursionError):  # UsageError is a ValueError; somebody else may have edited the tag
        return None


def class_shares(scene: Scene, max_px: int) -> dict[int, float]:
    """Return the share of each code among the valid pixels of a decimated read; empty if none is valid."""
    patch = scene.overview(max_px)
    codes, counts = np.unique(patch.data[0][patch.valid], return_counts=True)
    return {int(code): float(count / counts.sum()) for code, count in zip(codes, counts, strict=True)}


def _category_names(dataset: DatasetReader) -> list[str]:
    """Return GDAL's category names; rasterio does not show them, a VRT of the dataset does, wherever they are kept."""
    with MemoryFile(ext=".vrt") as file:
        rasterio.shutil.copy(dataset, file.name, driver="VRT")
        band = ET.fromstring(file.read()).find("VRTRasterBand")  # noqa: S314 - GDAL has just written it
    names = None if band is None else band.find("CategoryNames")
    return [] if names is None else [" ".join((entry.text or "").split()) for entry in names]
