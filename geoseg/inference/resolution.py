"""At which pixel size a scene is mapped: its own, the model's, or one that is asked for."""

from __future__ import annotations

import math
from typing import Literal

from geoseg.errors import ModelError, SceneError, UsageError
from geoseg.model.bundle import ModelBundle
from geoseg.raster.environment import shown
from geoseg.raster.scaled import scaled
from geoseg.raster.scene import Scene

Resolution = Literal["scene", "model"] | float
"""The scene's own grid, the pixel size that the model was trained on, or metres a pixel."""
DEFAULT_RESOLUTION: Resolution = "scene"
SAME = 1.01
"""Pixel sizes no further apart than this are one: to resample costs sharpness, and gains nothing."""


def at_resolution(scene: Scene, bundle: ModelBundle, resolution: Resolution) -> Scene:
    """Return the scene as it is to be mapped: itself, or a view of it that is resampled as it is read.

    Larger pixels are means of the scene's, smaller ones interpolated. UsageError for a resolution that is none;
    SceneError or ModelError where a pixel size is needed and not known.
    """
    if resolution == "scene":
        return scene
    wanted_m = _wanted_m(bundle, resolution)
    gsd_m = scene.geobox.gsd_m
    if gsd_m is None:
        fault = scene.geobox.gcp_fault
        way_out = f"its {fault}" if fault else "give it its place (gdal_edit.py -a_srs -a_ullr)"
        raise SceneError(
            f"the pixel size of {shown(scene.path)} is not known, so it cannot be brought to {wanted_m:g} m; "
            f"{way_out}, or leave --resolution out"
        )
    factor = gsd_m / wanted_m
    return scene if 1 / SAME <= factor <= SAME else scaled(scene, factor)


def _wanted_m(bundle: ModelBundle, resolution: Resolution) -> float:
    if resolution == "model":
        if bundle.gsd_m is None:
            raise ModelError(
                f"{bundle.name} does not say what pixel size it was trained on; give one in metres, as --resolution 0.5"
            )
        return bundle.gsd_m
    if isinstance(resolution, str) or not (math.isfinite(resolution) and resolution > 0):
        raise UsageError(f"resolution is scene, model, or metres a pixel, more than 0; got {resolution}")
    return float(resolution)
