"""Map servers as rasters: a tile URL with {z}, {x} and {y} at one zoom, or one level of a WMS or WMTS layer.

GDAL's WMS driver fetches them: https://gdal.org/drivers/raster/wms.html. Tiles are the usual slippy map tiles: Web
Mercator, y from the north ({-y}: from the south). Of several hosts, {s} or {switch:a,b,c}, the first is asked.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator
from pathlib import Path

import rasterio
from rasterio.io import DatasetReader
from rasterio.windows import Window as Area

from geoseg.errors import SceneError, UsageError
from geoseg.raster.dataset_cache import opened, root_message
from geoseg.raster.environment import GDAL_ERRORS, raster_environment
from geoseg.raster.geobox import GeoBox
from geoseg.raster.names import escape, shown
from geoseg.raster.views import band_tag, band_words, block_words, color_name, head_lines, vrt_source

TILE_PX = 256
FIRST_ZOOM, LAST_ZOOM = 0, 22
"""At higher zooms an edge of the world has more pixels than GDAL can count."""
_HALF_M = 20037508.342789244
_PLACEHOLDER = re.compile(r"\$?\{(-?)([xyzq])\}", re.IGNORECASE)
_HOST_OR_RETINA = re.compile(r"\{switch:([^,}]*)[^}]*\}|\{(?:s|r)\}", re.IGNORECASE)
_OTHER_SIZE = re.compile(r"Incorrect size (\d+) x \1 of downloaded block")
"""GDAL's message for square tiles that do not have the size that was expected."""
_OTHER_SIDES = (128, 512, 1024)
"""Tiles of other sizes are placeholders."""
_NO_TILE = "204,404,410"
"""HTTP status codes that mean a tile does not exist."""

_OF_GDAL = re.compile(r"^\s*(WMS:|WMTS:|<GDAL_WMT?S\b)", re.IGNORECASE)
_IN_XML = re.compile(rb"<GDAL_WMT?S\b")
_MOST_XML_BYTES = 1 << 20


def is_layer(path: str) -> bool:
    """Return whether a path is GDAL's name for a WMS or WMTS layer: WMS:https://..., WMTS:..., or an XML file."""
    if _OF_GDAL.match(path):
        return True
    if not path.lower().endswith((".xml", ".wms", ".wmts")):
        return False
    try:
        file = Path(path)
        return file.stat().st_size <= _MOST_XML_BYTES and _IN_XML.search(file.read_bytes()) is not None
    except (OSError, ValueError):
        return False


def layer_levels(path: str) -> list[int]:
    """Return the pixel size of each level of a layer as a multiple of the finest. Raises SceneError."""
    with opened(path) as dataset:
        return [1, *dataset.overviews(1)]


def layer_raster(path: str, level: int) -> str:
    """Return the VRT of one level of a layer, 0 being the finest. Raises SceneError."""
    overview = None if level == 0 else level - 1
    options = {} if overview is None else {"OVERVIEW_LEVEL": overview}
    try:
        with raster_environment(remote=True), rasterio.open(path, sharing=False, **options) as dataset:
            return "".join(_layer(path, dataset, overview))
    except GDAL_ERRORS as error:
        raise SceneError(
            f"cannot read {shown(path)}: {root_message(error, path)}; check the address and the name of the layer"
        ) from error


def _layer(path: str, dataset: DatasetReader, overview: int | None) -> Iterator[str]:
    place = GeoBox(dataset.height, dataset.width, dataset.transform, dataset.crs or None)
    yield from head_lines(place)
    for band in dataset.indexes:
        nodata, color = dataset.nodatavals[band - 1], dataset.colorinterp[band - 1].name.lower()
        yield band_tag(band, dataset.dtypes[band - 1], block_words(dataset.block_shapes[0], place))
        yield band_words(None, nodata, color_name(color))
        yield f"{vrt_source(path, overview, str(band))}</VRTRasterBand>\n"
    yield "</VRTDataset>\n"


def is_tile_address(path: str) -> bool:
    """Return whether a path is a tile URL: https://example.org/{z}/{x}/{y}.png."""
    if not path.lower().startswith(("http://", "https://")):
        return False
    return {"x", "y", "z"} <= {letter.lower() for _, letter in _PLACEHOLDER.findall(path)}


def tiles_raster(address: str, zoom: int, tile_px: int = TILE_PX) -> str:
    """Return the GDAL WMS description of the tiles of a zoom as one raster of red, green, blue and alpha.

    UsageError for a zoom out of range. Transparent pixels, missing tiles and pixels that are black in all bands are not
    valid.
    """
    last_zoom = LAST_ZOOM - max(0, math.ceil(math.log2(tile_px / TILE_PX)))
    if not FIRST_ZOOM <= zoom <= last_zoom:
        raise UsageError(f"`zoom` must be {FIRST_ZOOM} to {last_zoom}, got {zoom}", "zoom")
    address = _HOST_OR_RETINA.sub(lambda found: found[1] or {"{s}": "a"}.get(found[0].lower(), ""), address)
    from_south = any(sign for sign, letter in _PLACEHOLDER.findall(address) if letter.lower() == "y")
    url = _PLACEHOLDER.sub(lambda found: f"${{{found[2].lower()}}}", address)
    return (
        f'<GDAL_WMS><Service name="TMS"><ServerUrl>{escape(url)}</ServerUrl></Service>'
        f"<DataWindow><UpperLeftX>{-_HALF_M}</UpperLeftX><UpperLeftY>{_HALF_M}</UpperLeftY>"
        f"<LowerRightX>{_HALF_M}</LowerRightX><LowerRightY>{-_HALF_M}</LowerRightY><TileLevel>{zoom}</TileLevel>"
        "<TileCountX>1</TileCountX><TileCountY>1</TileCountY>"
        f"<YOrigin>{'bottom' if from_south else 'top'}</YOrigin></DataWindow><Projection>EPSG:3857</Projection>"
        f"<BlockSizeX>{tile_px}</BlockSizeX><BlockSizeY>{tile_px}</BlockSizeY><BandsCount>4</BandsCount>"
        f'<DataValues NoData="0 0 0"/><ZeroBlockHttpCodes>{_NO_TILE}</ZeroBlockHttpCodes>'
        "<UserAgent>geoseg</UserAgent><Timeout>60</Timeout></GDAL_WMS>"
    )


def other_tile_px(path: str) -> int | None:
    """Return the pixels per side of a part's tiles, if the server has other tiles than expected.

    The tile at the center is read; if there is none, those at the corners and sides.
    """
    try:
        with opened(path) as dataset:
            rows, cols = ((length // 2, 0, length - 1) for length in dataset.shape)
            for row, col in itertools.product(rows, cols):
                if dataset.read(window=Area(col, row, 1, 1)).any():
                    break
    except SceneError as error:
        found = _OTHER_SIZE.search(str(error))
        return int(found[1]) if found and int(found[1]) in _OTHER_SIDES else None
    return None


def better_zoom(zoom: int, gsd_m: float, wanted_m: float) -> int:
    """Return the zoom whose pixel size is nearest to `wanted_m`, given the size `gsd_m` at `zoom`."""
    return min(max(round(zoom + math.log2(gsd_m / wanted_m)), FIRST_ZOOM), LAST_ZOOM)
