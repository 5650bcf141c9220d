"""At which pixel size a scene is mapped, and at which one the network sees it."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal

from geoseg.errors import ModelError, SceneError, UsageError
from geoseg.model import ModelBundle
from geoseg.raster import SAME_SIZE, Scene, scaled, shown, size_factors

Resolution = Literal["scene", "model"] | float
"""The scene's own grid, the pixel size that the model was trained on, or meters a pixel."""
DEFAULT_RESOLUTION: Resolution = "scene"
NetworkResolution = Literal["auto", "scene"] | float
"""What the network sees: the map's pixels, or means of them, in meters a pixel.

auto: of the model's pixel size, where the map's is finer by more than a third.
"""
DEFAULT_NETWORK_RESOLUTION: NetworkResolution = "auto"
FINER = 4 / 3
"""A map whose pixels are this many times smaller than the model's shows it pixels of its own size."""
_WIDEST_PX = 2560
"""A window of fine pixels is made no wider, since its probabilities are held: the network sees less of the ground."""

_LEAST_PX = 128
"""But no less than this, where it usually sees more: what is around a pixel tells its class."""


def with_pixel_size(scene: Scene, data_gsd_m: float | None) -> Scene:
    """Return the scene with the pixel size that the user states, in meters; None leaves it as it is.

    UsageError for a size that is not above 0, or where the scene itself states another one.
    """
    if data_gsd_m is None:
        return scene
    if not (math.isfinite(data_gsd_m) and data_gsd_m > 0):
        raise UsageError(f"`data_gsd_m` is meters a pixel, more than 0; got {data_gsd_m}", "data_gsd_m")
    own_m = scene.geobox.gsd_m
    if own_m is not None and max(own_m / data_gsd_m, data_gsd_m / own_m) > SAME_SIZE:
        raise UsageError(
            f"{shown(scene.path)} states pixels of {own_m:.3g} m, `data_gsd_m` is {data_gsd_m:g} m; leave it out",
            "data_gsd_m",
        )
    return replace(scene, geobox=replace(scene.geobox, stated_gsd_m=float(data_gsd_m)))


def at_resolution(scene: Scene, bundle: ModelBundle, resolution: Resolution) -> Scene:
    """Return the scene to map: itself, or a view of it that is resampled as it is read.

    Larger pixels are means of the scene's, smaller ones interpolated. They are square on the ground at the scene's
    center, whatever the scene's are. UsageError for a resolution that cannot be; SceneError or ModelError where a pixel
    size is needed and not known.
    """
    if resolution == "scene":
        return scene
    target_m = _target_m(bundle, resolution)
    sides_m = scene.geobox.pixel_m
    if sides_m is None:
        fault = scene.geobox.gcp_fault
        way_out = f"its {fault}; give" if fault else "give"
        raise SceneError(
            f"the pixel size of {shown(scene.path)} is not known, so it cannot be resampled to {target_m:g} m; "
            f"{way_out} it as `data_gsd_m`, or leave `resolution` out",
            "resolution",
        )
    return scaled(scene, size_factors(sides_m, target_m))


def _target_m(bundle: ModelBundle, resolution: Resolution) -> float:
    if resolution == "model":
        if bundle.gsd_m is None:
            raise ModelError(
                f"{bundle.name} does not say what pixel size it was trained on; give one in meters: `resolution=0.5`",
                "resolution",
            )
        return bundle.gsd_m
    if isinstance(resolution, str) or not (math.isfinite(resolution) and resolution > 0):
        raise UsageError(
            f"`resolution` is scene, model, or meters a pixel, more than 0; got {resolution}", "resolution"
        )
    return float(resolution)


def network_factor(scene: Scene, bundle: ModelBundle, resolution: NetworkResolution) -> float:
    """Return how many of the scene's pixels, as it is mapped, lie along one that the network sees; at least 1.

    UsageError for a resolution that cannot be, or is finer than the scene's; SceneError where meters are asked of a
    scene whose pixel size is not known.
    """
    own_m = scene.geobox.gsd_m
    if resolution == "auto":
        factor = 1.0 if own_m is None or bundle.gsd_m is None else bundle.gsd_m / own_m
        return factor if factor > FINER else 1.0
    if resolution == "scene":
        return 1.0
    if isinstance(resolution, str) or not (math.isfinite(resolution) and resolution > 0):
        raise UsageError(
            f"`network_resolution` is auto, scene, or meters a pixel, more than 0; got {resolution}",
            "network_resolution",
        )
    if own_m is None:
        raise SceneError(
            f"the pixel size of {shown(scene.path)} is not known, so the network cannot see it at {resolution:g} m; "
            "give it as `data_gsd_m`, or leave `network_resolution` out",
            "network_resolution",
        )
    if resolution * SAME_SIZE < own_m:
        raise UsageError(
            f"`network_resolution={resolution:g}` is finer than the map's pixels of {own_m:.3g} m; "
            f"give {own_m:.3g} or more, or a finer `resolution` for the map",
            "network_resolution",
        )
    return resolution / own_m if resolution / own_m > SAME_SIZE else 1.0


def network_window(window_px: int, divisor: int, factor: float) -> int:
    """Return how many pixels a side the network sees of a window that has `factor` times as many of the scene's.

    Fewer than usual where that would be too many; a multiple of the divisor.
    """
    if window_px * factor <= _WIDEST_PX:
        return window_px
    return min(window_px, max(1, int(_WIDEST_PX / factor) // divisor, math.ceil(_LEAST_PX / divisor)) * divisor)
