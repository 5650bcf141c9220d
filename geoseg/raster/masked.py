"""The bands of a scene that are in use, and beside them one that says which pixels are valid: a virtual raster as text.

GDAL's warper and averages leave out what that band hides, whatever hides it in the file.
Format: https://gdal.org/drivers/raster/vrt.html
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Iterator
from xml.sax.saxutils import escape

from geoseg.raster.geobox import GeoBox, place_at
from geoseg.raster.scene import Scene
from geoseg.raster.validity import nodata_interval
from geoseg.raster.vrt import TYPES, data_color, file_name, place_lines

_MOST = sys.float_info.max
_LEAST_STEP = 5e-324
_Table = dict[float, int]
"""Values and what becomes of them, rising, lines in between; GDAL takes NaN to the first."""
_OPAQUE: _Table = {-math.inf: 0, -_MOST: 255, -_LEAST_STEP: 255, 0.0: 0, _LEAST_STEP: 255, _MOST: 255}
_FINITE: _Table = {-math.inf: 0, -_MOST: 255, _MOST: 255, math.inf: 0}


def masked(scene: Scene, overview: int | None = None, shape: tuple[int, int] | None = None) -> str:
    """Return a VRT of the bands in use, in their order, at full size, or as the overview of that number and shape.

    Where one nodata value for all bands says what is not valid, it is declared; else the last band, marked as alpha,
    is 255 where all is valid, and 0 elsewhere. Averages of a decimated read are not masked by it.
    """
    place = scene.geobox if shape is None else place_at(scene.geobox, shape)
    return "".join(_lines(scene, place, overview))


def is_as_stored(scene: Scene) -> bool:
    """Say whether GDAL itself reads the bands in use, in their order and with what hides them: no VRT is needed."""
    return scene.validity.is_plain and scene.band_indexes == tuple(range(1, scene.count + 1))


def _lines(scene: Scene, place: GeoBox, overview: int | None) -> Iterator[str]:
    validity = scene.validity
    nodata = validity.nodata[0] if validity.is_plain and validity.nodata else None
    yield f'<VRTDataset rasterXSize="{place.width_px}" rasterYSize="{place.height_px}">\n'
    yield from place_lines(place)
    rows, cols = scene.block_shape
    block = f'blockXSize="{min(cols, place.width_px)}" blockYSize="{min(rows, place.height_px)}"'
    for band, index in enumerate(scene.band_indexes, start=1):
        yield f'<VRTRasterBand dataType="{TYPES[scene.dtype]}" band="{band}" {block}>'
        yield f"<Description>{escape(scene.descriptions[index - 1])}</Description>"
        yield "" if nodata is None else f"<NoDataValue>{nodata!r}</NoDataValue>"
        yield f"<ColorInterp>{data_color(scene.colors[index - 1])}</ColorInterp>"
        yield f"{_source(scene.path, overview, str(index))}</VRTRasterBand>\n"
    if not validity.is_plain:
        yield _valid(scene, place.shape, overview)
    yield "</VRTDataset>\n"


def _valid(scene: Scene, shape: tuple[int, int], overview: int | None) -> str:
    """Return the band that says what is valid: the least of what each kind of mask says."""
    path, validity = scene.path, scene.validity
    said = [_source(path, overview, str(band), _OPAQUE) for band in validity.alphas]
    if validity.has_mask:
        said.append(_source(path, overview, f"mask,{validity.bands[0]}", {0: 0, 1: 255}))
    if validity.masked_bands:
        masks = (_source(path, overview, f"mask,{band}", {0: 0, 1: 255}) for band in validity.masked_bands)
        said.append(_any(masks, shape))
    if validity.nodata is not None:
        values = zip(validity.bands, validity.nodata, strict=True)
        said.append(
            _any((_source(path, overview, str(band), _all_but(value, scene.dtype)) for band, value in values), shape)
        )
    if validity.is_float:
        said += [_source(path, overview, str(band), _FINITE) for band in validity.bands]
    return _band("min", said, len(validity.bands) + 1, "<ColorInterp>Alpha</ColorInterp>")


def _any(sources: Iterable[str], shape: tuple[int, int]) -> str:
    """Return a source that is 255 where one of several is: a virtual raster inside the virtual raster."""
    parts = list(sources)
    if len(parts) == 1:
        return parts[0]
    text = f'<VRTDataset rasterXSize="{shape[1]}" rasterYSize="{shape[0]}">{_band("max", parts, 1)}</VRTDataset>'
    return _source(text, None, "1", {0: 0, 255: 255})


def _band(function: str, sources: list[str], number: int, head: str = "") -> str:
    """Return a band of bytes, made by one of GDAL's pixel functions where there are several sources."""
    kind = "" if len(sources) == 1 else ' subClass="VRTDerivedRasterBand"'
    how = f"<PixelFunctionType>{function}</PixelFunctionType><SourceTransferType>Byte</SourceTransferType>"
    head += "" if len(sources) == 1 else how
    return f'<VRTRasterBand dataType="Byte" band="{number}"{kind}>{head}{"".join(sources)}</VRTRasterBand>\n'


def _all_but(nodata: float, dtype: str) -> _Table:
    """Return a table that hides one value."""
    low, high = nodata_interval(nodata, dtype)
    if dtype.startswith("float"):
        below, above = math.nextafter(low, -math.inf), math.nextafter(high, math.inf)
    else:
        below, above = low - 1, high + 1
    return {below: 255, low: 0, high: 0, above: 255}


def _source(path: str, overview: int | None, band: str, table: _Table | None = None) -> str:
    kind = "SimpleSource" if table is None else "ComplexSource"
    level = "" if overview is None else f'<OpenOptions><OOI key="OVERVIEW_LEVEL">{overview}</OOI></OpenOptions>'
    steps = ",".join(f"{value!r}:{result}" for value, result in (table or {}).items())
    return (
        f'<{kind}><SourceFilename relativeToVRT="0">{escape(file_name(path))}</SourceFilename>{level}'
        f"<SourceBand>{band}</SourceBand>{f'<LUT>{steps}</LUT>' if table else ''}</{kind}>"
    )
