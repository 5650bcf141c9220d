"""Views of a scene, without pixels or files: a part, another resolution, or the bands in use with their valid mask.

A view is the text of a virtual raster (VRT), which GDAL accepts instead of a path and evaluates on reading: there is no
file to store, share with workers, or clean up.
Format: https://gdal.org/drivers/raster/vrt.html
"""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import rasterio.shutil
from rasterio._path import _parse_path, _vsi_path
from rasterio.crs import CRS
from rasterio.enums import WktVersion
from rasterio.io import MemoryFile

from geoseg.errors import SceneError, one_line
from geoseg.raster.area_of_interest import mask_file
from geoseg.raster.dataset_cache import opened
from geoseg.raster.environment import GDAL_ERRORS, gdal_name
from geoseg.raster.geobox import GeoBox, place_at
from geoseg.raster.names import escape
from geoseg.raster.validity import nodata_interval
from geoseg.raster.windows import Window

if TYPE_CHECKING:
    from rasterio.io import DatasetReader
    from rasterio.vrt import WarpedVRT

    from geoseg.raster.scene import Scene

TYPES = {
    "uint8": "Byte",
    "int8": "Int8",
    "uint16": "UInt16",
    "int16": "Int16",
    "uint32": "UInt32",
    "int32": "Int32",
    "uint64": "UInt64",
    "int64": "Int64",
    "float32": "Float32",
    "float64": "Float64",
    "complex_int16": "CInt16",
    "complex64": "CFloat32",
    "complex128": "CFloat64",
}
"""GDAL's names for NumPy's types."""
_CODE = re.compile(r',ID\["(EPSG)",(\d+)\]\]$')
"""The code of a CRS, at the end of its WKT 2."""
_BLOCK_SHAPE = 128, 512
"""(rows, cols) resampled at a time. Reading down the scene row by row resamples few of them twice."""
_WARPED = 'subClass="VRTWarpedRasterBand"'
_MOST = sys.float_info.max
_LEAST_STEP = 5e-324
_Table = dict[float, int]
"""A lookup table: input values, ascending, and their outputs, linear in between; GDAL maps NaN to the first output."""
_OPAQUE: _Table = {-math.inf: 0, -_MOST: 255, -_LEAST_STEP: 255, 0.0: 0, _LEAST_STEP: 255, _MOST: 255}
_FINITE: _Table = {-math.inf: 0, -_MOST: 255, _MOST: 255, math.inf: 0}


def cropped(scene: Scene, window: Window, tags: Mapping[str, str], naming: str, *, overviews: bool = True) -> str:
    """Return the VRT of a part of a scene, with every band of the file: validity may depend on bands not in use.

    `tags` and `naming` are what `described` returns. `overviews` is whether it has the file's.
    """
    with opened(scene.path) as dataset:
        return "".join(_cropped(scene, dataset, window, tags, naming, overview=None if overviews else "NONE"))


def _cropped(  # noqa: PLR0913 - see `cropped`
    scene: Scene, dataset: DatasetReader, window: Window, tags: Mapping[str, str], naming: str, *, overview: str | None
) -> Iterator[str]:
    place = scene.geobox[window]
    yield from head_lines(place)
    kept = {key: text for key, text in dataset.tags().items() if key == "NODATA_VALUES"} | dict(tags)
    if kept:
        yield from metadata_lines(kept)
    if day := dataset.tags(ns="IMAGERY"):
        yield from metadata_lines(day, "IMAGERY")
    for band in dataset.indexes:
        nodata, flags = dataset.nodatavals[band - 1], dataset.mask_flag_enums[band - 1]
        yield band_tag(band, dataset.dtypes[band - 1], block_words(scene.block_shape, place))
        yield band_words(dataset.descriptions[band - 1] or "", nodata, color_name(scene.colors[band - 1]))
        yield naming if band == scene.band_indexes[0] else ""
        mask = "" if flags else _mask(scene, window, band, overview)
        yield f"{vrt_source(scene.path, overview, str(band), window=window)}{mask}</VRTRasterBand>\n"
    if scene.validity.has_mask:
        yield _mask(scene, window, scene.validity.bands[0], overview)
    yield "</VRTDataset>\n"


def _mask(scene: Scene, window: Window, band: int, overview: str | None) -> str:
    source = vrt_source(scene.path, overview, f"mask,{band}", window=window)
    return f'<MaskBand><VRTRasterBand dataType="Byte">{source}</VRTRasterBand></MaskBand>\n'


def masked(
    scene: Scene, overview: int | None = None, shape: tuple[int, int] | None = None, *, alpha: bool = False
) -> str:
    """Return a VRT of the bands in use, in order, at full size, or as the overview with that number and shape.

    If a single nodata value for all bands marks invalid pixels, the VRT declares it. Otherwise, or with `alpha` or an
    area of interest, a last band marked as alpha is 255 where pixels are valid and 0 elsewhere. It does not mask the
    averages of a decimated read.
    """
    place = scene.geobox if shape is None else place_at(scene.geobox, shape)
    return "".join(
        _masked(scene, place, overview, with_alpha=alpha or scene.area is not None or not scene.validity.is_plain)
    )


def is_as_stored(scene: Scene) -> bool:
    """Return whether the file itself has the bands in use, in order, with their valid mask: no VRT is needed."""
    all_bands = scene.band_indexes == tuple(range(1, scene.count + 1))
    return scene.validity.is_plain and all_bands and scene.area is None


def _masked(scene: Scene, place: GeoBox, overview: int | None, *, with_alpha: bool) -> Iterator[str]:
    validity = scene.validity
    nodata = validity.nodata[0] if validity.nodata and not with_alpha else None
    yield from head_lines(place)
    for band, index in enumerate(scene.band_indexes, start=1):
        yield band_tag(band, scene.dtype, block_words(scene.block_shape, place))
        yield band_words(scene.descriptions[index - 1], nodata, data_color(scene.colors[index - 1]))
        yield f"{vrt_source(scene.path, overview, str(index))}</VRTRasterBand>\n"
    if with_alpha:
        yield _valid_mask_band(scene, place.shape, overview)
    yield "</VRTDataset>\n"


def _valid_mask_band(scene: Scene, shape: tuple[int, int], overview: int | None) -> str:
    """Return the band of the valid mask: the minimum of all kinds of mask."""
    path, validity = scene.path, scene.validity
    sources = [vrt_source(path, overview, str(band), _OPAQUE) for band in validity.alphas]
    if validity.has_mask:
        sources.append(vrt_source(path, overview, f"mask,{validity.bands[0]}", {0: 0, 1: 255}))
    if validity.masked_bands:
        masks = (vrt_source(path, overview, f"mask,{band}", {0: 0, 1: 255}) for band in validity.masked_bands)
        sources.append(_any(masks, shape))
    by_table = validity.is_float
    if validity.nodata is not None and validity.is_gdal_mask:
        sources.append(_any((vrt_source(path, overview, f"mask,{band}") for band in validity.bands), shape))
    elif validity.nodata is not None:
        by_table, values = True, zip(validity.bands, validity.nodata, strict=True)
        others = (vrt_source(path, overview, str(band), _all_but(value, scene.dtype)) for band, value in values)
        sources.append(_any(others, shape, scene.dtype))
    if validity.is_float:
        sources += [vrt_source(path, overview, str(band), _FINITE) for band in validity.bands]
    if scene.area is not None:
        on_grid = scene.area.scaled(scene.shape, shape)
        sources.append(vrt_source(mask_file(on_grid, shape), None, "1", {0: 0, 1: 255}))
    sources = sources or [vrt_source(path, overview, f"mask,{validity.bands[0]}", {0: 255, 255: 255})]
    dtype = scene.dtype if by_table else "uint8"
    return joined("min", sources, len(validity.bands) + 1, dtype, "<ColorInterp>Alpha</ColorInterp>")


def _any(sources: Iterable[str], shape: tuple[int, int], dtype: str = "uint8") -> str:
    """Return a source that is 255 where any of several sources is: a VRT nested in the VRT."""
    parts = list(sources)
    if len(parts) == 1:
        return parts[0]
    band = joined("max", parts, 1, dtype)
    return vrt_source(f'<VRTDataset rasterXSize="{shape[1]}" rasterYSize="{shape[0]}">{band}</VRTDataset>', None, "1")


def joined(function: str, sources: list[str], number: int, dtype: str = "uint8", head: str = "") -> str:
    """Return a band of bytes; several sources are combined by one of GDAL's pixel functions.

    `dtype` is that of the values in lookup tables: GDAL reads those of more than 16 bits in double precision only if
    they are transferred so.
    """
    is_wide = np.dtype(dtype).itemsize >= 4 and dtype != "float32"
    is_derived = is_wide or len(sources) > 1
    sources = sources * 2 if is_wide and len(sources) == 1 else sources  # GDAL's functions need two
    kind = ' subClass="VRTDerivedRasterBand"' if is_derived else ""
    transfer = "Float64" if is_wide else "Byte"
    how = f"<PixelFunctionType>{function}</PixelFunctionType><SourceTransferType>{transfer}</SourceTransferType>"
    head += how if is_derived else ""
    return f'<VRTRasterBand dataType="Byte" band="{number}"{kind}>{head}{"".join(sources)}</VRTRasterBand>\n'


def _all_but(nodata: float, dtype: str) -> _Table:
    """Return a lookup table that is 0 for one value and 255 for all others."""
    low, high = nodata_interval(nodata, dtype)
    if dtype.startswith("float") or np.dtype(dtype).itemsize == 8:  # which doubles do not tell from its neighbors
        low, high = float(low), float(high)
        below, above = math.nextafter(low, -math.inf), math.nextafter(high, math.inf)
    else:
        below, above = low - 1, high + 1
    return {below: 255, low: 0, high: 0, above: 255}


def vrt_source(
    path: str, overview: int | str | None, band: str, table: _Table | None = None, window: Window | None = None
) -> str:
    """Return a source of a VRT band: a band, or `mask,` and a band, of a file, of one of its overviews or of a window.

    With the overview "NONE" the file's overviews are not used.
    """
    kind = "SimpleSource" if table is None else "ComplexSource"
    option = "" if overview is None else f'<OpenOptions><OOI key="OVERVIEW_LEVEL">{overview}</OOI></OpenOptions>'
    steps = ",".join(f"{value!r}:{result}" for value, result in (table or {}).items())
    size = "" if window is None else f'xSize="{window.width}" ySize="{window.height}"/>'
    place = (
        f'<SrcRect xOff="{window.col}" yOff="{window.row}" {size}<DstRect xOff="0" yOff="0" {size}' if window else ""
    )
    return (
        f'<{kind}><SourceFilename relativeToVRT="0">{escape(file_name(path))}</SourceFilename>{option}'
        f"<SourceBand>{band}</SourceBand>{place}{f'<LUT>{steps}</LUT>' if table else ''}</{kind}>"
    )


def scaled_to(scene: Scene, shape: tuple[int, int], algorithm: str) -> str:
    """Return the VRT of a scene resampled to another number of (rows, cols) by one of GDAL's algorithms."""
    return "".join(_scaled(scene, place_at(scene.geobox, shape), algorithm))


def _scaled(scene: Scene, place: GeoBox, algorithm: str) -> Iterator[str]:
    """Yield a warped VRT whose transformer works in pixels; its georeference only serves readers."""
    validity, bands = scene.validity, len(scene.band_indexes)
    with_alpha = not validity.is_plain
    nodata = None if with_alpha or validity.nodata is None else validity.nodata[0]
    yield from head_lines(place, ' subClass="VRTWarpedDataset"')
    for band, index in enumerate(scene.band_indexes, start=1):
        yield band_tag(band, scene.dtype, _WARPED)
        yield band_words(scene.descriptions[index - 1], nodata, data_color(scene.colors[index - 1]))
        yield "</VRTRasterBand>\n"
    if with_alpha:
        yield f"{band_tag(bands + 1, scene.dtype, _WARPED)}<ColorInterp>Alpha</ColorInterp></VRTRasterBand>\n"
    block_rows, block_cols = _block_shape(scene, place.width_px)
    yield f"<BlockXSize>{block_cols}</BlockXSize><BlockYSize>{block_rows}</BlockYSize>\n<GDALWarpOptions>"
    yield f"<ResampleAlg>{algorithm}</ResampleAlg>"
    yield f'<Option name="INIT_DEST">{"0" if nodata is None else "NO_DATA"}</Option>'
    yield '<Option name="UNIFIED_SRC_NODATA">YES</Option>'
    source = masked(replace(scene, area=None)) if with_alpha else file_name(scene.path)
    yield f'<SourceDataset relativeToVRT="0">{escape(source)}</SourceDataset>\n'
    yield _transformer(scene.shape, place.shape)
    yield "<BandList>"
    for band, index in enumerate(scene.band_indexes, start=1):
        yield f'<BandMapping src="{band if with_alpha else index}" dst="{band}">{_nodata(nodata)}</BandMapping>'
    yield "</BandList>\n"
    if with_alpha:
        yield f"<SrcAlphaBand>{bands + 1}</SrcAlphaBand><DstAlphaBand>{bands + 1}</DstAlphaBand>"
    yield "</GDALWarpOptions>\n</VRTDataset>\n"


def _transformer(shape: tuple[int, int], new_shape: tuple[int, int]) -> str:
    down, across = shape[0] / new_shape[0], shape[1] / new_shape[1]
    return (
        "<Transformer><GenImgProjTransformer>"
        "<SrcGeoTransform>0,1,0,0,0,1</SrcGeoTransform><SrcInvGeoTransform>0,1,0,0,0,1</SrcInvGeoTransform>"
        f"<DstGeoTransform>0,{across!r},0,0,0,{down!r}</DstGeoTransform>"
        f"<DstInvGeoTransform>0,{1 / across!r},0,0,0,{1 / down!r}</DstInvGeoTransform>"
        "</GenImgProjTransformer></Transformer>\n"
    )


def _nodata(nodata: float | None) -> str:
    if nodata is None:
        return ""
    return "".join(
        f"<{end}NoDataReal>{nodata!r}</{end}NoDataReal><{end}NoDataImag>0</{end}NoDataImag>" for end in ("Src", "Dst")
    )


def _block_shape(scene: Scene, width_px: int) -> tuple[int, int]:
    """Return blocks as wide as the scene if it is stored in strips: narrower ones decode a strip many times."""
    rows, cols = _BLOCK_SHAPE
    if scene.block_shape[1] < scene.shape[1]:
        return rows, cols
    return max(1, min(rows, rows * cols // width_px)), width_px


def vrt_of(dataset: DatasetReader | WarpedVRT) -> bytes:
    """Return the text of a VRT that GDAL makes of an open dataset."""
    with MemoryFile(ext=".vrt") as file:
        rasterio.shutil.copy(dataset, file.name, driver="VRT")
        text: bytes = file.read()
    return text


def check_place(geobox: GeoBox) -> None:
    """Raise SceneError if a map cannot store this place: reported before the work, not after all tiles are done."""
    try:
        for _ in place_lines(geobox):
            pass
    except GDAL_ERRORS as error:
        raise SceneError(
            f"the scene's CRS cannot be stored in a map: {one_line(error, None)}; reproject the scene (rio warp "
            "--dst-crs)"
        ) from error


def head_lines(place: GeoBox, kind: str = "") -> Iterator[str]:
    """Yield the first lines of a VRT: its size and its place."""
    yield f'<VRTDataset rasterXSize="{place.width_px}" rasterYSize="{place.height_px}"{kind}>\n'
    yield from place_lines(place)


def band_tag(number: int, dtype: str, kind: str) -> str:
    """Return the opening tag of a VRT band; `kind` holds further attributes: its block size or its subclass."""
    return f'<VRTRasterBand dataType="{TYPES[dtype]}" band="{number}" {kind}>'


def block_words(block_shape: tuple[int, int], place: GeoBox) -> str:
    """Return the attributes of a band with blocks of (rows, cols), limited to the size of the raster."""
    rows, cols = block_shape
    return f'blockXSize="{min(cols, place.width_px)}" blockYSize="{min(rows, place.height_px)}"'


def band_words(description: str | None, nodata: float | None, color: str) -> str:
    """Return the elements that describe a band in a VRT or a tile index; `color` is GDAL's word."""
    name = "" if description is None else f"<Description>{escape(description)}</Description>"
    if nodata is not None and math.isfinite(nodata) and int(nodata) == nodata:
        nodata = int(nodata)  # GDAL reads 1e+18 as 1 in a band of 64-bit integers
    hole = "" if nodata is None else f"<NoDataValue>{nodata!r}</NoDataValue>"
    return f"{name}{hole}<ColorInterp>{color}</ColorInterp>"


def place_lines(geobox: GeoBox) -> Iterator[str]:
    """Yield the CRS, the transform or ground control points, and the RPCs of a VRT."""
    if geobox.crs is not None:
        yield f"<SRS>{escape(crs_words(geobox.crs))}</SRS>\n"
    if geobox.has_transform:
        yield f"<GeoTransform>{', '.join(map(repr, geobox.transform.to_gdal()))}</GeoTransform>\n"
    elif geobox.gcps:
        crs = "" if geobox.gcp_crs is None else crs_words(geobox.gcp_crs)
        yield f"<GCPList Projection={_quoted(crs)}>\n"
        for number, point in enumerate(geobox.gcps):
            yield (
                f'<GCP Id="{number}" Pixel="{point.col!r}" Line="{point.row!r}" X="{point.x!r}" Y="{point.y!r}" '
                f'Z="{point.z or 0.0!r}"/>\n'
            )
        yield "</GCPList>\n"
    if geobox.rpcs is not None:
        yield from metadata_lines(geobox.rpcs.to_gdal(), "RPC")


def _quoted(text: str) -> str:
    """Return the value of an attribute as `xml.sax.saxutils.quoteattr` does: see `escape`."""
    escaped = escape(text).replace("\n", "&#10;").replace("\r", "&#13;").replace("\t", "&#9;")
    if '"' in escaped and "'" in escaped:
        escaped = escaped.replace('"', "&quot;")
    mark = "'" if '"' in escaped else '"'
    return f"{mark}{escaped}{mark}"


def metadata_lines(tags: Mapping[str, str], domain: str = "") -> Iterator[str]:
    """Yield the metadata tags of a VRT."""
    yield f"<Metadata domain={_quoted(domain)}>\n" if domain else "<Metadata>\n"
    for key, value in tags.items():
        yield f"<MDI key={_quoted(key)}>{escape(str(value))}</MDI>\n"
    yield "</Metadata>\n"


def file_name(path: str) -> str:
    """Return GDAL's name for what rasterio opens by that path, independent of the reader's current folder."""
    name: str = _vsi_path(_parse_path(gdal_name(path)))
    return os.path.abspath(name) if os.path.exists(name) else name  # noqa: PTH100, PTH110 Path raises for VRT texts


def color_name(name: str) -> str:
    """Return GDAL's word for a scene's name of a band's color."""
    return {"": "Undefined", "nir": "NIR", "rededge": "RedEdge"}.get(name, name.capitalize())


def data_color(name: str) -> str:
    """Return GDAL's word for the color of a band of image data, which hides nothing even if it is named alpha."""
    return color_name("" if name == "alpha" else name)


def crs_words(crs: CRS) -> str:
    """Return a CRS with heights by the code in it, any other as WKT 2 (ISO 19162:2019): WKT 1 cannot express some.

    From the WKT 2 of a CRS with heights, GDAL writes other heights into a GeoTIFF. In a VRT x is east in all of these.
    """
    text: str = crs.to_wkt(version=WktVersion.WKT2_2019)
    code = _CODE.search(text) if "VERTCRS[" in text or "CS[ellipsoidal,3]" in text else None
    return text if code is None else ":".join(code.groups())
