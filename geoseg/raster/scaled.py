"""A scene at another resolution, without a pixel of it in memory: a virtual raster that GDAL resamples as it is read.

GDAL takes the text of a VRT in place of a path, so there is no file to place, to share with workers, or to clean up.
Format: https://gdal.org/drivers/raster/vrt.html
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import replace
from xml.sax.saxutils import escape

import numpy as np
from affine import Affine
from rasterio._path import _parse_path, _vsi_path
from rasterio.enums import MaskFlags
from rasterio.rpc import RPC

from geoseg.errors import UsageError
from geoseg.raster.geobox import GeoBox
from geoseg.raster.handles import opened
from geoseg.raster.scene import Scene
from geoseg.raster.vrt import place_lines

_BLOCK_SHAPE = 128, 512
"""(rows, cols) resampled at a time. A reader that goes down the scene row by row meets few of them twice."""
_MOST_PX = 2**31 - 1  # an edge of a raster in GDAL
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
}
"""GDAL's names of numpy's types."""


def scaled(scene: Scene, factor: float) -> Scene:
    """Return a scene whose sides are `factor` times as many pixels, of the same bands and place.

    Below 1 its pixels are means of the old, above 1 interpolated linearly. Only valid pixels count; a NaN in a
    file that declares another nodata makes every mean it is part of invalid. It holds no pixels: the scene must stay
    where it is. At factor 1, the scene itself. UsageError for a factor out of all reason.
    """
    height, width = scene.shape
    if not (math.isfinite(factor) and factor > 0):
        raise UsageError(f"the factor of a resolution must be more than 0, got {factor}")
    if max(height, width) * factor > _MOST_PX:
        raise UsageError(f"a scene of {width} x {height} pixels cannot have {factor:g} times as many a side")
    shape = max(1, round(height * factor)), max(1, round(width * factor))
    if shape == scene.shape:
        return scene
    algorithm = "Average" if factor < 1 else "Bilinear"
    text = "".join(_lines(scene, _place(scene.geobox, shape), algorithm))
    return Scene.open(text, bands=range(1, len(scene.band_indexes) + 1))


def _lines(scene: Scene, place: GeoBox, algorithm: str) -> Iterator[str]:
    """Yield a warped VRT whose transformer knows pixels only: the place is for those who read it."""
    with opened(scene.path) as dataset:
        flags = dataset.mask_flag_enums[scene.band_indexes[0] - 1]
    nodata = scene.nodata if MaskFlags.nodata in flags else None
    masked = nodata is None and MaskFlags.all_valid not in flags
    if nodata is None and not masked and np.issubdtype(np.dtype(scene.dtype), np.floating):
        nodata = math.nan  # never valid, so no part of a mean
    bands = len(scene.band_indexes)
    yield f'<VRTDataset rasterXSize="{place.width_px}" rasterYSize="{place.height_px}" subClass="VRTWarpedDataset">\n'
    yield from place_lines(place)
    for band, index in enumerate(scene.band_indexes, start=1):
        yield f'<VRTRasterBand dataType="{TYPES[scene.dtype]}" band="{band}" subClass="VRTWarpedRasterBand">'
        yield f"<Description>{escape(scene.descriptions[index - 1])}</Description>"
        yield "" if nodata is None else f"<NoDataValue>{nodata!r}</NoDataValue>"
        yield f"<ColorInterp>{color_name(scene.colors[index - 1])}</ColorInterp></VRTRasterBand>\n"
    if masked:
        yield f'<VRTRasterBand dataType="{TYPES[scene.dtype]}" band="{bands + 1}" subClass="VRTWarpedRasterBand">'
        yield "<ColorInterp>Alpha</ColorInterp></VRTRasterBand>\n"
    block_rows, block_cols = _block_shape(scene, place.width_px)
    yield f"<BlockXSize>{block_cols}</BlockXSize><BlockYSize>{block_rows}</BlockYSize>\n<GDALWarpOptions>"
    yield f"<ResampleAlg>{algorithm}</ResampleAlg>"
    yield f'<Option name="INIT_DEST">{"0" if nodata is None else "NO_DATA"}</Option>'
    yield '<Option name="UNIFIED_SRC_NODATA">YES</Option>'
    yield f'<SourceDataset relativeToVRT="0">{escape(file_name(scene.path))}</SourceDataset>\n'
    yield _transformer(scene.shape, place.shape)
    yield "<BandList>"
    for band, index in enumerate(scene.band_indexes, start=1):
        yield f'<BandMapping src="{index}" dst="{band}">{_nodata(nodata)}</BandMapping>'
    yield "</BandList>\n"
    if masked:
        alphas = [place for place, color in enumerate(scene.colors, start=1) if color == "alpha"]
        yield f"<SrcAlphaBand>{alphas[0]}</SrcAlphaBand>" if alphas else ""
        yield f"<DstAlphaBand>{bands + 1}</DstAlphaBand>"
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


def file_name(path: str) -> str:
    """Return GDAL's name of what rasterio opens by that path, whatever folder the reader runs in."""
    name: str = _vsi_path(_parse_path(path))
    return os.path.abspath(name) if os.path.exists(name) else name  # noqa: PTH100, PTH110 Path raises for VRT texts


def _block_shape(scene: Scene, width_px: int) -> tuple[int, int]:
    """Return blocks as wide as the scene where it is stored in strips: narrow ones would decode a strip many times."""
    rows, cols = _BLOCK_SHAPE
    if scene.block_shape[1] < scene.shape[1]:
        return rows, cols
    return max(1, min(rows, rows * cols // width_px)), width_px


def color_name(name: str) -> str:
    """Return GDAL's word for the colour of a band as a scene names it."""
    return {"": "Undefined", "nir": "NIR", "rededge": "RedEdge"}.get(name, name.capitalize())


def _place(geobox: GeoBox, shape: tuple[int, int]) -> GeoBox:
    down, across = geobox.height_px / shape[0], geobox.width_px / shape[1]
    return replace(
        geobox,
        height_px=shape[0],
        width_px=shape[1],
        transform=geobox.transform @ Affine.scale(across, down) if geobox.has_transform else geobox.transform,
        gcps=tuple(replace(point, row=point.row / down, col=point.col / across) for point in geobox.gcps),
        rpcs=_scaled_rpcs(geobox.rpcs, down, across),
    )


def _scaled_rpcs(rpcs: RPC | None, down: float, across: float) -> RPC | None:
    """Return RPCs for larger pixels; their offsets count from the centre of the first pixel."""
    if rpcs is None:
        return None
    values = dict(rpcs.to_dict())
    for offset, scale, factor in (("line_off", "line_scale", down), ("samp_off", "samp_scale", across)):
        values[offset] = (values[offset] + 0.5) / factor - 0.5
        values[scale] /= factor
    return RPC(**values)
