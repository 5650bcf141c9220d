"""A raster beside another: on the same grid, moved by whole pixels, or warped by nearest neighbor."""

from __future__ import annotations

import math

import numpy as np
from affine import Affine
from rasterio.enums import ColorInterp, Resampling
from rasterio.vrt import WarpedVRT

from geoseg.errors import SceneError
from geoseg.raster.dataset_cache import opened
from geoseg.raster.environment import shown
from geoseg.raster.geobox import GeoBox, period_of
from geoseg.raster.scene import Patch, Scene
from geoseg.raster.views import is_as_stored, masked

_SAME_PX = 0.01
"""Grids whose pixels are no farther apart than this are one."""
_ONE_PX = 1e-3
"""A raster of confidence and its map are on one grid if their corners are no farther apart than this."""
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


def whole_turns(theirs: GeoBox, grid: GeoBox) -> list[float]:
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
    most = max(abs(x) for x, _ in place.corners)
    return bool(half) and most > half + abs(place.transform.a)


def warped(scene: Scene, grid: GeoBox) -> Patch:
    """Read a scene's bands on another grid: each pixel is the one in which its middle lies.

    Both must be placed. Where the scene has no pixel, nothing is valid. SceneError where the file is damaged.
    """
    first, *others = (_warped(scene, grid, turn) for turn in whole_turns(scene.geobox, grid))
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


def open_confidence(path: str, geobox: GeoBox) -> Scene:
    """Return a raster of confidence. SceneError when it is not on the map's grid, or has several bands."""
    scene = Scene.open(path)
    if len(scene.band_indexes) != 1:
        raise SceneError(
            f"{shown(path)} has {len(scene.band_indexes)} bands, a raster of confidence has one; "
            "give the one that was predicted with the map",
            "confidence",
        )
    theirs = scene.geobox
    if theirs.crs and geobox.crs and theirs.crs != geobox.crs:
        raise SceneError(
            f"{shown(path)} is on another grid than the map: it is in {theirs.crs.to_string():.80}, expected "
            f"{geobox.crs.to_string():.80}; give the one that was predicted with the map",
            "confidence",
        )
    if scene.shape != geobox.shape or not _same_corners(theirs, geobox):
        raise SceneError(
            f"{shown(path)} is on another grid than the map: {scene.shape[0]} x {scene.shape[1]} pixels from "
            f"{theirs.transform[2]:.8g}, {theirs.transform[5]:.8g}, expected {geobox.shape[0]} x {geobox.shape[1]} "
            f"from {geobox.transform[2]:.8g}, {geobox.transform[5]:.8g}; give the one that was predicted with the map",
            "confidence",
        )
    return scene


def _same_corners(theirs: GeoBox, ours: GeoBox) -> bool:
    pixel = abs(ours.transform.determinant) ** 0.5
    return bool(np.abs(np.subtract(theirs.corners, ours.corners)).max() <= _ONE_PX * pixel)
