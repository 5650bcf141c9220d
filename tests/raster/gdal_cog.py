"""A map written by GDAL's own COG driver: the oracle for maps assembled from blocks."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
import rasterio
import rasterio.shutil

from geoseg.raster import GeoBox
from geoseg.raster.environment import raster_environment
from geoseg.raster.landcover import DEFAULTS, LEGEND_TAG, Product
from geoseg.raster.landcover.overviews import Pixels, halved
from geoseg.raster.views import metadata_lines, place_lines


def pyramid(pixels: Pixels, levels: int, *, classes: bool) -> list[Pixels]:
    """Return pixels (band, row, col) followed by their overviews."""
    found = [pixels]
    for _ in range(levels):
        found.append(halved(found[-1], classes=classes, compiled=False))
    return found


def write_by_gdal(
    path: Path,
    product: Product,
    levels: list[Pixels],
    geobox: GeoBox,
    tags: Mapping[str, str],
    storage: Mapping[str, str] = DEFAULTS,
) -> None:
    """Write a map and its overviews, each (band, row, col), with GDAL's COG driver."""
    names = [path.with_name(f"{path.stem}_level{level}.tif") for level in range(len(levels))]
    with raster_environment():
        for name, pixels in zip(names, levels, strict=True):
            count, height, width = pixels.shape
            profile = {"driver": "GTiff", "count": count, "height": height, "width": width, "dtype": "uint8"}
            with rasterio.open(name, "w", **profile) as dataset:
                dataset.write(pixels)
        source = path.with_suffix(".vrt")
        every = {**tags, "GEOSEG_PRODUCT": product.name}
        if product.legend:
            every[LEGEND_TAG] = json.dumps(product.legend.to_json())
        source.write_text("".join(_vrt(names, product, levels[0].shape, geobox, every)))
        options = {**storage, "OVERVIEWS": "FORCE_USE_EXISTING"}
        rasterio.shutil.copy(str(source), str(path), driver="COG", strict=True, **options)


def _vrt(names: list[Path], product: Product, shape: tuple[int, ...], geobox: GeoBox, tags: Mapping[str, str]) -> Any:
    _, height, width = shape
    yield f'<VRTDataset rasterXSize="{width}" rasterYSize="{height}">'
    yield from place_lines(geobox)
    yield from metadata_lines(tags)
    for band, description in enumerate(product.bands, start=1):
        yield f'<VRTRasterBand dataType="Byte" band="{band}"><Description>{escape(description)}</Description>'
        yield "<NoDataValue>255</NoDataValue>"
        if product.legend:
            colors = {c.code: (*c.color, 255) for c in product.legend}
            entries = [colors.get(code, (0, 0, 0, 0)) for code in range(256)]
            yield "<ColorInterp>Palette</ColorInterp><ColorTable>"
            yield from ('<Entry c1="{}" c2="{}" c3="{}" c4="{}"/>'.format(*entry) for entry in entries)
            yield "</ColorTable>"
        else:
            yield "<ColorInterp>Gray</ColorInterp>"
        yield f"<SimpleSource>{_file(names[0], band)}</SimpleSource>"
        yield from (f"<Overview>{_file(name, band)}</Overview>" for name in names[1:])
        yield "</VRTRasterBand>"
    yield "</VRTDataset>"


def _file(path: Path, band: int) -> str:
    return f'<SourceFilename relativeToVRT="1">{path.name}</SourceFilename><SourceBand>{band}</SourceBand>'


def described(path: Path) -> list[dict[str, Any]]:
    """Return everything that rasterio reports about each level of a file, including pixels; full resolution first."""
    found = []
    with rasterio.open(path) as dataset:
        levels = len(dataset.overviews(1))
        colors = [dataset.colormap(band) for band in dataset.indexes if "palette" in dataset.colorinterp[band - 1].name]
        found.append(
            {
                "profile": {key: value for key, value in dataset.profile.items() if key != "driver"},
                "overviews": dataset.overviews(1),
                "tags": dataset.tags(),
                "structure": dataset.tags(ns="IMAGE_STRUCTURE"),
                "rpcs": dataset.rpcs and dataset.rpcs.to_dict(),
                "gcps": [[point.asdict() for point in dataset.gcps[0]], dataset.gcps[1]],
                "descriptions": dataset.descriptions,
                "colors": colors,
                "colorinterp": dataset.colorinterp,
                "band tags": [dataset.tags(band) for band in dataset.indexes],
            }
        )
        for points in found[0]["gcps"][0]:
            points.pop("id")
    for level in range(-1, levels):
        with rasterio.open(path, **({} if level < 0 else {"overview_level": level})) as dataset:
            found.append(
                {
                    "pixels": dataset.read(),
                    "blocks": _blocks(dataset.block_shapes),
                    "nodata": dataset.nodata,
                    "colorinterp": dataset.colorinterp,
                    "structure": dataset.tags(ns="IMAGE_STRUCTURE"),
                }
            )
    return found


def _blocks(shapes: list[tuple[int, int]]) -> list[tuple[int, int]] | None:
    """Return the shapes of blocks, or None where GDAL chooses others for overviews, a power of two."""
    return shapes if all(px & (px - 1) == 0 for px in shapes[0]) and shapes[0][0] != 128 else None


def assert_same(one: Path, other: Path) -> None:
    """Fail unless two maps are equal in everything readable."""
    for mine, theirs in zip(described(one), described(other), strict=True):
        assert mine.keys() == theirs.keys()
        for what, value in mine.items():
            if isinstance(value, np.ndarray):
                np.testing.assert_array_equal(value, theirs[what])
            else:
                assert value == theirs[what], what


def check_layout(path: Path) -> None:
    """Fail unless the blocks lie in the file as GDAL's text before the directories claims.

    The smallest overview comes first, each level row by row without gaps, each block between its size and its last four
    bytes; see swiss_cheese.py and validate_cloud_optimized_geotiff.py of GDAL.
    """
    content = path.read_bytes()
    big = content[2] == 43
    start = 16 if big else 8
    assert content[start:].startswith(b"GDAL_STRUCTURAL_METADATA_SIZE=")
    for line in (b"LAYOUT=IFDS_BEFORE_DATA", b"BLOCK_ORDER=ROW_MAJOR", b"BLOCK_LEADER=SIZE_AS_UINT4"):
        assert line in content[:400]
    first = struct.unpack_from("<Q" if big else "<I", content, 8 if big else 4)[0]
    text = int(content[start + 30 : start + 36]) + 43
    assert first == start + text + (start + text) % 2
    with rasterio.open(path) as dataset:
        levels = len(dataset.overviews(1))
    end = 0
    for level in range(levels - 1, -2, -1):
        with rasterio.open(path, **({} if level < 0 else {"overview_level": level})) as dataset:
            for (row, col), _ in dataset.block_windows(1):
                place, size = (
                    int(dataset.get_tag_item(f"BLOCK_{what}_{col}_{row}", "TIFF", bidx=1))
                    for what in ("OFFSET", "SIZE")
                )
                assert place - 4 == (end or place - 4)
                assert content[place - 4 : place] == size.to_bytes(4, "little")
                assert content[place + size : place + size + 4] == content[place + size - 4 : place + size]
                end = place + size + 4
    assert end == len(content)
