"""A raster as another grid sees it: moved by whole pixels, or warped by nearest neighbour."""

from __future__ import annotations

import math

import numpy as np
from affine import Affine
from rasterio.enums import ColorInterp, Resampling
from rasterio.vrt import WarpedVRT

from geoseg.raster.box import period_of
from geoseg.raster.geobox import GeoBox
from geoseg.raster.handles import opened
from geoseg.raster.masked import is_as_stored, masked
from geoseg.raster.scene import Patch, Scene

_SAME_PX = 0.01
"""Grids whose pixels are no farther apart than this are one."""
_WARP_PX = 0.01
"""How far GDAL may place a pixel from where it belongs, for speed."""


def is_placed(geobox: GeoBox) -> bool:
    """Say whether a grid has a CRS and a transform, so that others can be laid upon it."""
    return geobox.crs is not None and geobox.has_transform and not geobox.transform.is_degenerate


def whole_shift(theirs: GeoBox, grid: GeoBox) -> tuple[int, int] | None:
    """Return the rows and columns from the first pixel of theirs to that of the grid.

    None where these are not whole, pixels differ in size or direction, or the two are in different CRS.
    """
    if theirs.crs != grid.crs:
        return None
    there = ~theirs.transform @ grid.transform
    if not (math.isfinite(there.c) and math.isfinite(there.f)):
        return None
    whole = Affine.translation(round(there.c), round(there.f))
    height, width = grid.shape
    corners = [(0, 0), (width, 0), (0, height), (width, height)]
    apart = [np.abs(np.subtract(there @ corner, whole @ corner)).max() for corner in corners]
    return (round(there.f), round(there.c)) if max(apart) <= _SAME_PX else None


def turns(theirs: GeoBox, grid: GeoBox) -> list[float]:
    """Return shifts of x by which a raster stays in its place on Earth and may come to lie on a grid: 180.1 is -179.9.

    Both must be placed. The first is 0.
    """
    period = period_of(theirs.crs)
    if not period or not any(_is_beyond(each) for each in (theirs, grid)):
        return [0.0]
    return [0.0, period, -period]


def _is_beyond(place: GeoBox) -> bool:
    """Say whether a grid reaches over the 180th meridian, in a CRS that goes on there."""
    half = period_of(place.crs) / 2
    corners = [(0, 0), (place.width_px, 0), (0, place.height_px), (place.width_px, place.height_px)]
    most = max(abs((place.transform @ corner)[0]) for corner in corners)
    return bool(half) and most > half + abs(place.transform.a)


def warped(scene: Scene, grid: GeoBox) -> Patch:
    """Read a scene's bands on another grid: each pixel is the one in which its middle lies.

    Both must be placed. Where the scene has no pixel, nothing is valid. SceneError where the file is damaged.
    """
    first, *others = (_warped(scene, grid, turn) for turn in turns(scene.geobox, grid))
    for other in others:
        data = np.where(first.valid | ~other.valid, first.data, other.data)
        first = Patch(data, first.valid | other.valid)
    return first


def _warped(scene: Scene, grid: GeoBox, turn: float) -> Patch:
    with (
        opened(scene.path if is_as_stored(scene) else masked(scene)) as dataset,
        WarpedVRT(
            dataset,
            src_transform=Affine.translation(turn, 0) @ scene.geobox.transform if turn else None,
            crs=grid.crs,
            transform=grid.transform,
            height=grid.height_px,
            width=grid.width_px,
            resampling=Resampling.nearest,
            tolerance=_WARP_PX,
            add_alpha=dataset.colorinterp[-1] != ColorInterp.alpha,
        ) as on_grid,
    ):
        bands = list(range(1, len(scene.band_indexes) + 1))
        return Patch(on_grid.read(bands), on_grid.read(on_grid.count) != 0)
