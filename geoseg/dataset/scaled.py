"""A scene at another resolution, without a pixel of it in memory: a virtual raster that GDAL resamples as it is read.

Format: https://gdal.org/drivers/raster/vrt.html
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from xml.sax.saxutils import escape

from affine import Affine
from rasterio.enums import MaskFlags
from rasterio.rpc import RPC

from geoseg.errors import UsageError
from geoseg.raster.durable import write_durably
from geoseg.raster.geobox import GeoBox
from geoseg.raster.handles import opened
from geoseg.raster.identity import digest
from geoseg.raster.scene import Scene
from geoseg.raster.vrt import place_lines

_TYPES = {
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


def scaled(scene: Scene, factor: float, folder: Path) -> Scene:
    """Return a scene whose sides are `factor` times as many pixels, of the same bands and place; written to `folder`.

    Below 1 its pixels are means of the old, above 1 interpolated linearly. Only valid pixels count. The file holds no
    pixels: the scene must stay where it is. At factor 1, the scene itself. UsageError for a factor that leaves
    nothing, OutputError when the folder cannot be written.
    """
    height, width = scene.shape
    if not (math.isfinite(factor) and factor > 0):
        raise UsageError(f"the factor of a resolution must be more than 0, got {factor}")
    shape = max(1, round(height * factor)), max(1, round(width * factor))
    if shape == scene.shape:
        return scene
    path = folder / f"{digest([scene.path, scene.band_indexes])[:16]}_{shape[0]}x{shape[1]}.vrt"
    resampling = "average" if factor < 1 else "bilinear"
    write_durably(path, "".join(_lines(scene, _place(scene.geobox, shape), resampling)).encode())
    return Scene.open(str(path), bands=range(1, len(scene.band_indexes) + 1))


def _lines(scene: Scene, place: GeoBox, resampling: str) -> Iterator[str]:
    with opened(scene.path) as dataset:
        flags = dataset.mask_flag_enums[scene.band_indexes[0] - 1]
    by_nodata = MaskFlags.nodata in flags
    yield f'<VRTDataset rasterXSize="{place.width_px}" rasterYSize="{place.height_px}">\n'
    yield from place_lines(place)
    for band, index in enumerate(scene.band_indexes, start=1):
        yield f'<VRTRasterBand dataType="{_TYPES[scene.dtype]}" band="{band}">\n'
        yield f"<Description>{escape(scene.descriptions[index - 1])}</Description>\n"
        yield f"<ColorInterp>{_color(scene.colors[index - 1])}</ColorInterp>\n"
        if by_nodata and scene.nodata is not None:
            yield f"<NoDataValue>{scene.nodata!r}</NoDataValue>\n"
        yield _source(scene, place.shape, str(index), resampling, nodata=scene.nodata if by_nodata else None)
        yield "</VRTRasterBand>\n"
    if not by_nodata and MaskFlags.all_valid not in flags:
        yield '<MaskBand><VRTRasterBand dataType="Byte">\n'
        yield _source(scene, place.shape, f"mask,{scene.band_indexes[0]}", "nearest", nodata=None)
        yield "</VRTRasterBand></MaskBand>\n"
    yield "</VRTDataset>\n"


def _source(scene: Scene, shape: tuple[int, int], band: str, resampling: str, *, nodata: float | None) -> str:
    height, width = scene.shape
    kind = "SimpleSource" if nodata is None else "ComplexSource"
    file = scene.path if "://" in scene.path or scene.path.startswith("/vsi") else str(Path(scene.path).absolute())
    return (
        f'<{kind} resampling="{resampling}"><SourceFilename relativeToVRT="0">{escape(file)}</SourceFilename>'
        f"<SourceBand>{band}</SourceBand>"
        f'<SrcRect xOff="0" yOff="0" xSize="{width}" ySize="{height}"/>'
        f'<DstRect xOff="0" yOff="0" xSize="{shape[1]}" ySize="{shape[0]}"/>'
        f"{'' if nodata is None else f'<NODATA>{nodata!r}</NODATA>'}</{kind}>\n"
    )


def _color(name: str) -> str:
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
