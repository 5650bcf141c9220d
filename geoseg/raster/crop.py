"""A rectangle of a scene as a scene of its own, without a pixel of it in memory: a virtual raster (VRT) as text.

Format: https://gdal.org/drivers/raster/vrt.html
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from xml.sax.saxutils import escape

from rasterio.crs import CRS
from rasterio.io import DatasetReader
from rasterio.warp import transform_bounds

from geoseg.errors import SceneError, UsageError
from geoseg.given import plain_arguments
from geoseg.raster.environment import GDAL_ERRORS, raster_environment, shown
from geoseg.raster.handles import opened
from geoseg.raster.scene import Scene
from geoseg.raster.vrt import TYPES, color_name, file_name, metadata_lines, place_lines
from geoseg.raster.windows import Window

_SLIVER_PX = 1e-3
"""A pixel that a box touches by no more than this is outside: boxes are typed with rounded edges."""

Box = tuple[float, float, float, float]
"""West, south, east, north, as in RFC 7946, section 5."""


@plain_arguments()
def crop(scene: str | os.PathLike[str] | Scene, bbox: Box, crs: str | None = None) -> Scene:
    """Return the part of a scene that holds a box: every pixel that the box touches, on the scene's own grid.

    The box is west, south, east, north, in the scene's CRS, or in `crs` (EPSG:4326: longitudes and latitudes). It may
    reach over the scene's edges. The part holds no pixels: the scene must stay where it is. It is a scene in every
    respect, so the windows of a network begin at its corner, and see nothing outside of it: within a window of its
    edges, and by the place of the windows, labels may differ from those of the whole scene's map.

    Raises UsageError for a box that is none or lies beside the scene, SceneError for a scene that cannot be read, or
    without a grid in a CRS.
    """
    scene = scene if isinstance(scene, Scene) else Scene.open(scene)
    window = _window(scene, _box_in_crs(scene, bbox, crs))
    with opened(scene.path) as dataset:
        text = "".join(_lines(scene, dataset, window))
    return Scene.open(text, bands=scene.band_indexes if scene.chosen else None)


def _box_in_crs(scene: Scene, bbox: Box, crs: str | None) -> Box:
    if len(bbox) != 4 or not all(map(math.isfinite, bbox)) or bbox[0] >= bbox[2] or bbox[1] >= bbox[3]:
        raise UsageError(f"bbox must be W,S,E,N with W < E and S < N, got {','.join(f'{edge:g}' for edge in bbox)}")
    box = scene.geobox
    if not box.has_transform or (crs is not None and box.crs is None):
        raise SceneError(
            f"{shown(scene.path)} has no grid in a CRS, so a box cannot be cut from it; warp it with gdalwarp first"
        )
    if crs is None:
        return bbox
    try:
        with raster_environment():
            moved: Box = transform_bounds(CRS.from_user_input(crs), box.crs, *bbox, densify_pts=21)
    except GDAL_ERRORS as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"a bbox in {crs!r:.60} cannot be brought to the CRS of the scene: {reason}") from error
    return moved


def _window(scene: Scene, bbox: Box) -> Window:
    """Return the pixels that a box in the scene's CRS touches; of a rotated scene, those of the rectangle around it."""
    west, south, east, north = bbox
    into_px = ~scene.geobox.transform
    corners = [into_px @ corner for corner in ((west, south), (west, north), (east, south), (east, north))]
    left, right = (edge(col for col, _ in corners) for edge in (min, max))
    top, bottom = (edge(row for _, row in corners) for edge in (min, max))
    row, col = math.floor(top + _SLIVER_PX), math.floor(left + _SLIVER_PX)
    height, width = math.ceil(bottom - _SLIVER_PX) - row, math.ceil(right - _SLIVER_PX) - col
    whole = Window(0, 0, *scene.shape)
    inside = Window(row, col, max(1, height), max(1, width)).intersection(whole)
    if inside is None:
        raise UsageError(
            f"the bbox lies beside {shown(scene.path)}, which reaches from W,S,E,N {_bounds(scene)}; give a box in "
            "that CRS, or name the box's own with --bbox-crs"
        )
    return inside


def _bounds(scene: Scene) -> str:
    height, width = scene.shape
    corners = [scene.geobox.transform @ corner for corner in ((0, 0), (width, 0), (0, height), (width, height))]
    xs, ys = [x for x, _ in corners], [y for _, y in corners]
    return ",".join(f"{edge:.10g}" for edge in (min(xs), min(ys), max(xs), max(ys)))


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
