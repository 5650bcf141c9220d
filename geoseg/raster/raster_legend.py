"""The legend in any raster: from a tag, category names, an attribute table, netCDF flags or a color table."""

from __future__ import annotations

import itertools
import json
import re
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary
from xml.etree import ElementTree as ET

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from rasterio.io import DatasetReader
from rasterio.windows import Window as Area

from geoseg.errors import SceneError, warn
from geoseg.legend import Color, Legend, Nomenclature, read_attribute_table, read_dbf_table
from geoseg.raster.dataset_cache import opened
from geoseg.raster.fingerprint import local_file
from geoseg.raster.landcover import LEGEND_TAG
from geoseg.raster.names import is_remote, is_vrt_text, shown, sources_of
from geoseg.raster.views import metadata_lines, vrt_of
from geoseg.raster.windows import sample_windows

if TYPE_CHECKING:
    from geoseg.raster.scene import Patch, Scene

_OWN_TAGS = "GEOSEG_"
_NAMING = ("CategoryNames", "GDALRasterAttributeTable")
"""Elements of a VRT band that name classes."""
_CHANNELS = ("c1", "c2", "c3", "c4")
"""GDAL's words for red, green, blue and alpha."""
_COLOR_TABLE = re.compile(rb"<ColorTable>.*?</ColorTable>", re.DOTALL)
_INTEGER, _HEX = re.compile(r"[-+]?\d+", re.ASCII), re.compile(r"#([0-9a-fA-F]{6})\b")
_Described = tuple[dict[int, str], dict[int, Color]]
"""Names and colors by code."""
_bands: WeakKeyDictionary[DatasetReader, list[ET.Element]] = WeakKeyDictionary()
"""GDAL's description of the bands of each open file, which several functions need in turn."""
_MAP_SERVER = re.compile(r"ServerUrl(>|&(amp;)*gt;)")
"""In the text of a view, those of its sources are escaped."""
_SAMPLES, _REMOTE_SAMPLES, _SAMPLE_PX = 16, 4, 256
"""Squares of a map, and their side, where its overviews are compared with its pixels."""


def is_classes(scene: Scene) -> bool:
    """Return whether a raster is a map of classes: one band, of bytes with a palette or of numbers with class names."""
    is_palette = scene.dtype == "uint8" and scene.colors[scene.band_indexes[0] - 1] == "palette"
    return len(scene.band_indexes) == 1 and (is_palette or len(read_nomenclature(scene)) > 0)


def read_nomenclature(scene: Scene) -> Nomenclature:
    """Return what a map of any integers says about its classes, without nodata. SceneError if it cannot be read.

    Names come from the tag GEOSEG_LEGEND, else GDAL's category names, else a raster attribute table (in the file, its
    `.aux.xml`, or ESRI's `.vat.dbf`), else netCDF flags; colors from the same source, else from a color table.
    """
    index = scene.band_indexes[0]
    with opened(scene.path) as dataset:
        written = _parsed(dataset.tags().get(LEGEND_TAG, ""))
        if written is not None:
            return Nomenclature.from_legend(written)
        band, flags = _band(dataset, index), _flags(dataset, index)
        palette = {code: color[:3] for code, color in color_table(dataset, index).items()}
    names, colors = _names_and_colors(band, flags, _dbf_path(scene))
    names_without_nodata = {code: name for code, name in names.items() if code != scene.nodata}
    return Nomenclature.from_names(names_without_nodata, palette | colors)


def _names_and_colors(band: ET.Element, flags: _Described, dbf: Path | None = None) -> _Described:
    names, colors = read_attribute_table(band)
    if not names and dbf is not None:
        names, colors = read_dbf_table(dbf)
    names, colors = (names, colors) if names else (flags[0], flags[1] | colors)
    return {code: name for code, name in enumerate(_category_names(band)) if name} or names, colors


def described(scene: Scene) -> tuple[dict[str, str], str]:
    """Return what a map says about itself, for a view of it: its tags, and elements of a VRT's band.

    They hold all that `read_nomenclature` reads in the file, and the origin that `predict` records.
    """
    with opened(scene.path) as dataset:
        tags = {key: text for key, text in dataset.tags().items() if key.startswith(_OWN_TAGS)}
        if len(scene.band_indexes) != 1:
            return tags, ""
        index = scene.band_indexes[0]
        flags = {key: text for key, text in dataset.tags(index).items() if key.startswith("flag_")}
        parts = [each for each in _band(dataset, index) if each.tag in _NAMING]
        table = color_table(dataset, index)
    colors = ET.Element("ColorTable")
    for index in range(max(table, default=-1) + 1):
        ET.SubElement(colors, "Entry", dict(zip(_CHANNELS, map(str, table.get(index, (0, 0, 0, 0))), strict=True)))
    parts += [colors] if table else []
    return tags, "".join([*(ET.tostring(each, "unicode") for each in parts), *(metadata_lines(flags) if flags else ())])


def _flags(dataset: DatasetReader, index: int) -> _Described:
    """Return names and colors by code from the CF attributes of a band, as in netCDF land cover.

    GDAL writes an array as `{0,10,20}`. Unsigned bytes may be given as signed ones: -116 is 140.
    https://cfconventions.org/Data/cf-conventions/cf-conventions-1.12/cf-conventions.html#flags
    """
    tags = dataset.tags(index)
    codes = [int(code) for code in _INTEGER.findall(tags.get("flag_values", ""))]
    names, colors = tags.get("flag_meanings", "").split(), _HEX.findall(tags.get("flag_colors", ""))
    if dataset.dtypes[index - 1] == "uint8":
        codes = [code % 256 for code in codes]
    if "flag_masks" in tags or not len(codes) == len(names) == len(set(codes)):  # masks: each bit is a flag
        return {}, {}
    valid_colors = colors if len(colors) == len(codes) else []
    return dict(zip(codes, names, strict=True)), {
        code: (color[0], color[1], color[2])
        for code, color in zip(codes, map(bytes.fromhex, valid_colors), strict=False)
    }


def color_table(dataset: DatasetReader, index: int) -> dict[int, tuple[int, int, int, int]]:
    """Return the colors of a band by value; a band marked as paletted may have none."""
    try:
        return dict(dataset.colormap(index))
    except ValueError:  # rasterio raises it if there is none
        return {}


def _dbf_path(scene: Scene) -> Path | None:
    sources = sources_of(scene.path)
    file = local_file(sources[0]) if len(sources) == 1 else None
    if file is None:
        return None
    tables = (file.with_name(f"{file.name}.vat.dbf"), file.with_suffix(".vat.dbf"))
    return next((table for table in tables if table.is_file()), None)


def _parsed(text: str) -> Legend | None:
    try:
        return Legend.from_json(json.loads(text))
    except (ValueError, RecursionError):  # UsageError is a ValueError; another program may have edited the tag
        return None


def with_own_codes(scene: Scene) -> Scene:
    """Return a map whose decimated reads give codes of its pixels: without its overviews if they hold other numbers.

    COGs get cubic overviews unless told otherwise, and the mean of two codes is a third class, or none. Overviews may
    also be of an older version of the map. They are compared with the pixels they stand for, in a sample: those of the
    map's file, or of each file that a part of a map, a mosaic or a VRT reads.
    """
    text = as_vrt_text(scene.path)
    if _is_own(text, scene.band_indexes[0]):
        return scene
    if is_remote(text):
        warn(f"the overviews of {shown(scene.path)} do not match its pixels, so all pixels are read")
    return scene.without_overviews()


def decimated(scene: Scene, max_px: int) -> Patch:
    """Return a map read as a whole, its long side at most `max_px`, without numbers that its pixels do not have.

    Of a remote map whose overviews hold other numbers, those that no pixel of a sample has are not valid.
    """
    text = as_vrt_text(scene.path)
    if _is_own(text, scene.band_indexes[0]):
        return scene.overview(max_px)
    if not is_remote(text):
        return scene.without_overviews().overview(max_px)
    patch, codes = scene.overview(max_px), np.empty(0)
    for window, _ in sample_windows(scene.shape, scene.block_shape):
        codes = np.union1d(codes, scene.read(window).data[0])
    return replace(patch, valid=patch.valid & np.isin(patch.data[0], codes))


def _is_own(text: str, index: int) -> bool:
    """Return whether a sample of the overviews of a map's files holds only numbers of the pixels they stand for.

    `text` is the map's path, or the text of its VRT; `index` is its band.
    """
    if _MAP_SERVER.search(text):  # it chooses what it sends
        return True
    samples, files = _REMOTE_SAMPLES if is_remote(text) else _SAMPLES, sources_of(text)
    files = files[:: -(-len(files) // samples)]
    return all(_is_own_file(file, index, round((samples / len(files)) ** 0.5)) for file in files)


def as_vrt_text(path: str) -> str:
    """Return the text of a VRT file, with the whole paths of its sources; any other path unchanged."""
    with opened(path) as dataset:
        return vrt_of(dataset).decode() if dataset.driver == "VRT" and not is_vrt_text(path) else path


def _is_own_file(path: str, index: int, samples_a_side: int) -> bool:
    with suppress(SceneError), opened(path) as dataset:  # a source may be unreadable alone, or not needed
        index = min(index, dataset.count)  # a view may number bands in its own way; overviews are made for all of them
        factor = min(dataset.overviews(index), default=1)
        height, width = (min(_SAMPLE_PX, length) // factor * factor for length in dataset.shape)
        if factor == 1 or min(height, width) < 3 * factor:
            return True
        rows, cols = (
            np.linspace(0, (whole - part) // factor, samples_a_side + 2, dtype=int)[1:-1] * factor
            for whole, part in zip(dataset.shape, (height, width), strict=True)
        )
        for row, col in itertools.product(rows.tolist(), cols.tolist()):
            area = Area(col, row, width, height)
            fine = np.nan_to_num(dataset.read(index, window=area))
            coarse = np.nan_to_num(dataset.read(index, window=area, out_shape=(height // factor, width // factor)))
            # around each inner pixel, as sizes are no multiples of factors
            near = sliding_window_view(fine, (3 * factor, 3 * factor))[::factor, ::factor]
            if not (near == coarse[1:-1, 1:-1, None, None]).any((2, 3)).all():
                return False
    return True


def class_shares(scene: Scene, max_px: int) -> dict[int, float]:
    """Return the share of each code among the valid pixels of a decimated read; empty if none is valid."""
    patch = decimated(scene, max_px)
    stored = patch.data[0][patch.valid]
    if stored.dtype.kind == "f":  # overviews may hold means
        stored = stored[stored == np.round(stored)]
    stored = stored[(stored < 2**31) & (stored > -(2**31))]  # ESRI software writes -3.4e38 for nodata
    codes, counts = np.unique(stored, return_counts=True)
    return {int(code): float(count / counts.sum()) for code, count in zip(codes, counts, strict=True)}


def _band(dataset: DatasetReader, index: int) -> ET.Element:
    """Return GDAL's description of a band, from a VRT: it shows what rasterio does not, wherever it is stored.

    The color tables are left out, since rasterio does show them.
    """
    bands = _bands.get(dataset)
    if bands is None:
        text = _COLOR_TABLE.sub(b"", vrt_of(dataset))
        bands = _bands[dataset] = ET.fromstring(text).findall("VRTRasterBand")  # noqa: S314 - GDAL has just written it
    return bands[index - 1]


def _category_names(band: ET.Element) -> list[str]:
    """Return GDAL's category names by code, "" for a code without one."""
    names = band.find("CategoryNames")
    return [] if names is None else [" ".join((entry.text or "").split()) for entry in names]
