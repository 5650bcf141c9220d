"""A rectangle of a scene as a scene of its own, without a pixel of it in memory: a virtual raster (VRT) as text.

Format: https://gdal.org/drivers/raster/vrt.html
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from xml.sax.saxutils import escape

from rasterio.io import DatasetReader

from geoseg.given import plain_arguments
from geoseg.raster.box import Box, window_of
from geoseg.raster.handles import opened
from geoseg.raster.scene import Scene
from geoseg.raster.vrt import TYPES, color_name, file_name, metadata_lines, place_lines
from geoseg.raster.windows import Window

__all__ = ["Box", "crop"]


@plain_arguments()
def crop(scene: str | os.PathLike[str] | Scene, bbox: Box, crs: str | None = None) -> Scene:
    """Return the part of a scene that holds a box: every pixel that the box touches, on the scene's own grid.

    The box is west, south, east, north, in the scene's CRS, or in `crs` (EPSG:4326: longitudes and latitudes). One over
    the 180th meridian has its west east of its east. It may reach over the scene's edges. The part holds no pixels: the
    scene must stay where it is. It is a scene in every respect, so the windows of a network begin at its corner, and
    see nothing outside of it: within a window of its edges, and by the place of the windows, labels may differ from
    those of the whole scene's map.

    Raises UsageError for a box that is none or lies beside the scene, SceneError for a scene that cannot be read, or
    without a grid in a CRS.
    """
    scene = scene if isinstance(scene, Scene) else Scene.open(scene)
    window = window_of(scene, bbox, crs)
    with opened(scene.path) as dataset:
        text = "".join(_lines(scene, dataset, window))
    return Scene.open(text, bands=scene.band_indexes if scene.chosen else None)


def _lines(scene: Scene, dataset: DatasetReader, window: Window) -> Iterator[str]:
    """Yield a VRT with every band of the file, for the valid pixels may follow from bands that are not used."""
    yield f'<VRTDataset rasterXSize="{window.width}" rasterYSize="{window.height}">\n'
    yield from place_lines(scene.geobox[window])
    rows, cols = scene.block_shape
    block = f'blockXSize="{min(cols, window.width)}" blockYSize="{min(rows, window.height)}"'
    if "NODATA_VALUES" in dataset.tags():
        yield from metadata_lines({"NODATA_VALUES": dataset.tags()["NODATA_VALUES"]})
    for band in dataset.indexes:
        nodata, flags = dataset.nodatavals[band - 1], dataset.mask_flag_enums[band - 1]
        yield f'<VRTRasterBand dataType="{TYPES[dataset.dtypes[band - 1]]}" band="{band}" {block}>'
        yield f"<Description>{escape(dataset.descriptions[band - 1] or '')}</Description>"
        yield "" if nodata is None else f"<NoDataValue>{nodata!r}</NoDataValue>"
        yield f"<ColorInterp>{color_name(scene.colors[band - 1])}</ColorInterp>"
        yield f"{_source(scene, window, str(band))}{'' if flags else _mask(scene, window, band)}</VRTRasterBand>\n"
    if scene.validity.has_mask:
        yield _mask(scene, window, scene.validity.bands[0])
    yield "</VRTDataset>\n"


def _mask(scene: Scene, window: Window, band: int) -> str:
    source = _source(scene, window, f"mask,{band}")
    return f'<MaskBand><VRTRasterBand dataType="Byte">{source}</VRTRasterBand></MaskBand>\n'


def _source(scene: Scene, window: Window, band: str) -> str:
    return (
        f'<SimpleSource><SourceFilename relativeToVRT="0">{escape(file_name(scene.path))}</SourceFilename>'
        f"<SourceBand>{band}</SourceBand>"
        f'<SrcRect xOff="{window.col}" yOff="{window.row}" xSize="{window.width}" ySize="{window.height}"/>'
        f'<DstRect xOff="0" yOff="0" xSize="{window.width}" ySize="{window.height}"/></SimpleSource>'
    )
