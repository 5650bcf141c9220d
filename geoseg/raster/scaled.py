"""A scene at another resolution, without a pixel of it in memory: a virtual raster that GDAL resamples as it is read.

GDAL takes the text of a VRT in place of a path, so there is no file to place, to share with workers, or to clean up.
Format: https://gdal.org/drivers/raster/vrt.html
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from xml.sax.saxutils import escape

from geoseg.errors import UsageError
from geoseg.raster.geobox import GeoBox, place_at
from geoseg.raster.masked import masked
from geoseg.raster.scene import Scene
from geoseg.raster.vrt import TYPES, data_color, file_name, place_lines

_BLOCK_SHAPE = 128, 512
"""(rows, cols) resampled at a time. A reader that goes down the scene row by row meets few of them twice."""
_MOST_PX = 2**31 - 1  # an edge of a raster in GDAL


def scaled(scene: Scene, factor: float | tuple[float, float]) -> Scene:
    """Return a scene of `factor` times as many pixels a side, rounded, of the same bands and place.

    Two factors are for rows and columns. Below 1 pixels are means of the old, above 1 interpolated linearly. Only valid
    pixels count. It holds no pixels: the scene must stay where it is. At factor 1, the scene itself. UsageError for a
    factor out of all reason.
    """
    height, width = scene.shape
    down, across = factor if isinstance(factor, tuple) else (factor, factor)
    for each in (down, across):
        if not (math.isfinite(each) and each > 0):
            raise UsageError(f"the factor of a resolution must be more than 0, got {each}")
    if max(height * down, width * across) > _MOST_PX:
        raise UsageError(f"a scene of {width} x {height} pixels cannot have {max(down, across):g} times as many a side")
    shape = max(1, round(height * down)), max(1, round(width * across))
    if shape == scene.shape:
        return scene
    algorithm = "Average" if down * across < 1 else "Bilinear"
    text = "".join(_lines(scene, place_at(scene.geobox, shape), algorithm))
    return Scene.open(text, bands=range(1, len(scene.band_indexes) + 1))


def _lines(scene: Scene, place: GeoBox, algorithm: str) -> Iterator[str]:
    """Yield a warped VRT whose transformer knows pixels only: the place is for those who read it."""
    validity, bands = scene.validity, len(scene.band_indexes)
    with_alpha = not validity.is_plain
    nodata = None if with_alpha or validity.nodata is None else validity.nodata[0]
    yield f'<VRTDataset rasterXSize="{place.width_px}" rasterYSize="{place.height_px}" subClass="VRTWarpedDataset">\n'
    yield from place_lines(place)
    for band, index in enumerate(scene.band_indexes, start=1):
        yield f'<VRTRasterBand dataType="{TYPES[scene.dtype]}" band="{band}" subClass="VRTWarpedRasterBand">'
        yield f"<Description>{escape(scene.descriptions[index - 1])}</Description>"
        yield "" if nodata is None else f"<NoDataValue>{nodata!r}</NoDataValue>"
        yield f"<ColorInterp>{data_color(scene.colors[index - 1])}</ColorInterp></VRTRasterBand>\n"
    if with_alpha:
        yield f'<VRTRasterBand dataType="{TYPES[scene.dtype]}" band="{bands + 1}" subClass="VRTWarpedRasterBand">'
        yield "<ColorInterp>Alpha</ColorInterp></VRTRasterBand>\n"
    block_rows, block_cols = _block_shape(scene, place.width_px)
    yield f"<BlockXSize>{block_cols}</BlockXSize><BlockYSize>{block_rows}</BlockYSize>\n<GDALWarpOptions>"
    yield f"<ResampleAlg>{algorithm}</ResampleAlg>"
    yield f'<Option name="INIT_DEST">{"0" if nodata is None else "NO_DATA"}</Option>'
    yield '<Option name="UNIFIED_SRC_NODATA">YES</Option>'
    source = masked(scene) if with_alpha else file_name(scene.path)
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
    """Return blocks as wide as the scene where it is stored in strips: narrow ones would decode a strip many times."""
    rows, cols = _BLOCK_SHAPE
    if scene.block_shape[1] < scene.shape[1]:
        return rows, cols
    return max(1, min(rows, rows * cols // width_px)), width_px
