"""A raster of confidence beside its map: one band on the map's own grid."""

from __future__ import annotations

import numpy as np

from geoseg.errors import SceneError
from geoseg.raster.environment import shown
from geoseg.raster.geobox import GeoBox
from geoseg.raster.scene import Scene

_SAME_PX = 1e-3
"""Two grids are one if their corners are no farther apart than this."""


def open_confidence(path: str, geobox: GeoBox) -> Scene:
    """Return a raster of confidence. SceneError when it is not on the map's grid, or has several bands."""
    scene = Scene.open(path)
    if len(scene.band_indexes) != 1:
        raise SceneError(
            f"{shown(path)} has {len(scene.band_indexes)} bands, a raster of confidence has one; "
            "give the one that was predicted with the map"
        )
    theirs = scene.geobox
    if theirs.crs and geobox.crs and theirs.crs != geobox.crs:
        raise SceneError(
            f"{shown(path)} is on another grid than the map: it is in {theirs.crs.to_string():.80}, wanted "
            f"{geobox.crs.to_string():.80}; give the one that was predicted with the map"
        )
    if scene.shape != geobox.shape or not _same_corners(theirs, geobox):
        raise SceneError(
            f"{shown(path)} is on another grid than the map: {scene.shape[0]} x {scene.shape[1]} pixels from "
            f"{theirs.transform[2]:.8g}, {theirs.transform[5]:.8g}, wanted {geobox.shape[0]} x {geobox.shape[1]} from "
            f"{geobox.transform[2]:.8g}, {geobox.transform[5]:.8g}; give the one that was predicted with the map"
        )
    return scene


def _same_corners(theirs: GeoBox, ours: GeoBox) -> bool:
    corners = [(0, 0), (ours.width_px, 0), (0, ours.height_px), (ours.width_px, ours.height_px)]
    pixel = abs(ours.transform.determinant) ** 0.5
    apart = [np.subtract(theirs.transform @ corner, ours.transform @ corner) for corner in corners]
    return bool(np.max(np.abs(apart)) <= _SAME_PX * pixel)
