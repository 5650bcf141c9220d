"""The part of a scene to map (a box, an area of interest, tiles of a map server, or everything) and its pixel size."""

from __future__ import annotations

import math
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, TypedDict

from geoseg import features
from geoseg.errors import ModelError, OutsideError, SceneError, UsageError, warn
from geoseg.model import ModelBundle
from geoseg.raster import (
    SAME_SIZE,
    TILE_PX,
    AreaOfInterest,
    Box,
    Scene,
    better_zoom,
    crop,
    is_item,
    is_layer,
    is_tile_address,
    layer_levels,
    layer_raster,
    other_tile_px,
    scaled,
    shown,
    size_factors,
    tiles_raster,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from geoseg.features.area_of_interest import Aoi
    from geoseg.given import CrsLike


Resolution = Literal["scene", "model"] | float
"""The scene's own grid, the pixel size that the model was trained on, or meters per pixel."""
DEFAULT_RESOLUTION: Resolution = "scene"
NetworkResolution = Literal["auto", "scene"] | float
"""The pixels that the network sees: the map's own, or averages, in meters per pixel.

auto: averages at the model's pixel size if the map's pixels are finer by more than a third.
"""
DEFAULT_NETWORK_RESOLUTION: NetworkResolution = "auto"
FINER = 4 / 3
"""If map pixels are smaller than the model's by more than this factor, the network sees them averaged."""
_WIDEST_PX = 2560
"""Widest window in map pixels, since its probabilities are in memory. Beyond it the network sees less of the ground."""
_COARSEST_M = 1e5
"""Largest pixel size that a model may be trained on."""
_LEAST_PX = 128
"""Smallest such window in network pixels, if the model's is larger: the surroundings of a pixel tell its class."""
_LOOKED_AT_PX = 256
_TRIED_ZOOM = 17
"""Zoom at which the ground size of a map server's pixels is first computed; this fetches nothing."""

Part = str | os.PathLike[str] | Scene


def with_pixel_size(scene: Scene, data_gsd_m: float | None) -> Scene:
    """Return the scene with the pixel size that the user states, in meters; None leaves it unchanged.

    UsageError for a size that is not positive, or if the scene itself states another one.
    """
    if data_gsd_m is None:
        return scene
    if not (math.isfinite(data_gsd_m) and data_gsd_m > 0):
        raise UsageError(f"`data_gsd_m` must be meters per pixel, more than 0; got {data_gsd_m}", "data_gsd_m")
    own_m = scene.geobox.gsd_m
    if own_m is not None and max(own_m / data_gsd_m, data_gsd_m / own_m) > SAME_SIZE:
        raise UsageError(
            f"{shown(scene.path)} has pixels of {own_m:.3g} m, but `data_gsd_m` is {data_gsd_m:g} m; leave it out",
            "data_gsd_m",
        )
    return replace(scene, geobox=replace(scene.geobox, stated_gsd_m=float(data_gsd_m)))


def at_resolution(scene: Scene, bundle: ModelBundle, resolution: Resolution) -> Scene:
    """Return the scene to map: the scene itself, or a view of it that is resampled on reading.

    Larger pixels are means of the scene's, smaller ones are interpolated. They are square on the ground at the scene's
    center, even if the scene's own are not. UsageError for an invalid resolution; SceneError or ModelError if a pixel
    size is needed and unknown.
    """
    if resolution == "scene":
        return scene
    target_m = _target_m(bundle, resolution)
    sides_m = scene.geobox.pixel_m
    if sides_m is None:
        fault = scene.geobox.gcp_fault
        hint = f"its {fault}; give" if fault else "give"
        raise SceneError(
            f"the pixel size of {shown(scene.path)} is unknown, so it cannot be resampled to {target_m:g} m; "
            f"{hint} it as `data_gsd_m`, or leave `resolution` out",
            "resolution",
        )
    return scaled(scene, size_factors(sides_m, target_m))


def _target_m(bundle: ModelBundle, resolution: Resolution) -> float:
    if resolution == "model":
        if bundle.gsd_m is None:
            raise ModelError(
                f"{bundle.name} does not state the pixel size it was trained on; give one in meters: `resolution=0.5`",
                "resolution",
            )
        return bundle.gsd_m
    if isinstance(resolution, str) or not (math.isfinite(resolution) and resolution > 0):
        raise UsageError(
            f"`resolution` must be scene, model, or meters per pixel, more than 0; got {resolution}", "resolution"
        )
    return float(resolution)


def network_factor(scene: Scene, bundle: ModelBundle, resolution: NetworkResolution) -> float:
    """Return the number of map pixels per network pixel, along one axis; at least 1.

    UsageError for a resolution that is invalid, or finer than the map's; SceneError for a resolution in meters if the
    scene's pixel size is unknown.
    """
    own_m = scene.geobox.gsd_m
    if resolution == "auto":
        factor = 1.0 if own_m is None or bundle.gsd_m is None else bundle.gsd_m / own_m
        return factor if factor > FINER else 1.0
    if resolution == "scene":
        return 1.0
    if isinstance(resolution, str) or not 0 < resolution <= _COARSEST_M:
        raise UsageError(
            f"`network_resolution` must be auto, scene, or meters per pixel, more than 0, at most {_COARSEST_M:g}; got "
            f"{resolution}",
            "network_resolution",
        )
    if own_m is None:
        raise SceneError(
            f"the pixel size of {shown(scene.path)} is unknown, so the network cannot see it at {resolution:g} m; "
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
    """Return the edge, in network pixels, of a window whose edge has `factor` times as many map pixels.

    Smaller than usual if the window would have too many map pixels; a multiple of the divisor.
    """
    if window_px * factor <= _WIDEST_PX:
        return window_px
    return min(window_px, max(1, int(_WIDEST_PX / factor) // divisor, math.ceil(_LEAST_PX / divisor)) * divisor)


class PartOptions(TypedDict, total=False):
    """Options that select the part of a scene to map."""

    bands: Sequence[int | str] | None
    """The model's bands in the scene, by number from 1 or by name. Default: by color, then by name, then the first."""
    bbox: Box | None
    """(west, south, east, north): map only the pixels that this box touches, like `geoseg.crop`."""
    bbox_crs: CrsLike | None
    """The CRS of `bbox`, if not the scene's."""
    aoi: Aoi | None
    """Polygons: map only the pixels whose centers lie in them, the rest is nodata; see `geoseg.within`."""
    aoi_crs: CrsLike | None
    """The CRS of `aoi`, if it names none."""
    zoom: int | None
    """Zoom of a map server's tiles. Default: the one whose pixel size is closest to `resolution`, or to the model's."""
    resolution: Resolution
    """scene (the default) maps on the scene's own grid, model on pixels as large as the model's, 2 on pixels of 2 m."""


def mapped_part(scene: Part, options: PartOptions, bundle: ModelBundle) -> tuple[Part, AreaOfInterest | None]:
    """Return the part of a scene that is mapped, and the area of interest on it.

    The assets of a STAC item are chosen first, since a part of it no longer knows them; so is the zoom of a map server.
    UsageError or OutsideError for a part that cannot be mapped.
    """
    if isinstance(scene, str | os.PathLike) and is_item(os.fspath(scene)):
        scene = Scene.open(scene, options.get("bands"), bundle.bands)
    zoom = options.get("zoom")
    if isinstance(scene, str) and is_tile_address(scene):
        return _of_server(scene, zoom, options, bundle)
    if isinstance(scene, str | os.PathLike) and is_layer(os.fspath(scene)) and zoom is None:
        return _of_layer(os.fspath(scene), options, bundle)
    if zoom is not None:
        raise UsageError(
            "`zoom` applies to map server tiles, https://.../{z}/{x}/{y}.png; use `resolution`, or leave `zoom` out",
            "zoom",
        )
    return _cut(scene, options)


def _of_server(
    address: str, zoom: int | None, options: PartOptions, bundle: ModelBundle
) -> tuple[Scene, AreaOfInterest | None]:
    _check_part(options)
    opened, area = _opened_part(tiles_raster(address, _TRIED_ZOOM if zoom is None else zoom), options)
    if zoom is None:
        requested_m = _requested_m(options, bundle)
        if requested_m is None or opened.geobox.gsd_m is None:
            raise UsageError("the model does not state its pixel size; choose the `zoom` of the tiles", "zoom")
        zoom = better_zoom(_TRIED_ZOOM, opened.geobox.gsd_m, requested_m)
        opened, area = _opened_part(tiles_raster(address, zoom), options)
    if (tile_px := other_tile_px(opened.path)) is not None:
        if options.get("zoom") is None:
            zoom = better_zoom(zoom, TILE_PX, tile_px)
        opened, area = _opened_part(tiles_raster(address, zoom, tile_px), options)
    _warn_of_requests(opened, address, f"zoom {zoom}", (tile_px or TILE_PX,) * 2)
    return opened, area


def _of_layer(path: str, options: PartOptions, bundle: ModelBundle) -> tuple[Scene, AreaOfInterest | None]:
    """Return a part of a WMS or WMTS layer, at the level whose pixel size is closest to the one wanted."""
    _check_part(options)
    requested_m = _requested_m(options, bundle)
    if requested_m is None:
        raise UsageError(
            f"{shown(path)} offers many pixel sizes, and the model does not state its own; choose a `resolution`",
            "resolution",
        )
    levels = layer_levels(path)
    first_level = _nearest(levels, Scene.open(path).geobox.gsd_m, requested_m)
    opened, area = _opened_part(layer_raster(path, first_level), options)
    own_m = opened.geobox.gsd_m  # of this part; the center of the layer may be at another latitude
    level = _nearest(levels, None if own_m is None else own_m / levels[first_level], requested_m)
    if level != first_level:
        opened, area = _opened_part(layer_raster(path, level), options)
    _warn_of_requests(opened, path, f"level {level}", opened.block_shape)
    _warn_if_empty(opened, path)
    return opened, area


def _opened_part(raster: str, options: PartOptions) -> tuple[Scene, AreaOfInterest | None]:
    part, area = _cut(raster, options)
    return Scene.open(part), area


def _nearest(levels: Sequence[int], finest_m: float | None, requested_m: float) -> int:
    if finest_m is None:
        return 0
    return min(range(len(levels)), key=lambda level: abs(math.log(levels[level] * finest_m / requested_m)))


def _check_part(options: PartOptions) -> None:
    if options.get("bbox") is None and options.get("aoi") is None:
        raise UsageError("a map server covers the whole world; choose a part with `bbox` or `aoi`", "bbox")


def _requested_m(options: PartOptions, bundle: ModelBundle) -> float | None:
    resolution = options.get("resolution")
    return resolution if isinstance(resolution, float) else bundle.gsd_m


def _warn_of_requests(part: Scene, address: str, level: str, block: tuple[int, int]) -> None:
    rows, cols = (math.ceil(length_px / edge_px + 1) for length_px, edge_px in zip(part.shape, block, strict=True))
    height_px, width_px = part.shape
    warn(
        f"{shown(address)} is a map server: about {rows * cols} requests at {level} ({width_px} x {height_px} px of "
        f"{part.geobox.gsd_m or 0:.3g} m); check that its terms allow them"
    )


def _warn_if_empty(part: Scene, address: str) -> None:
    patch = part.overview(_LOOKED_AT_PX)
    pixels = patch.data[:, patch.valid]
    if pixels.size == 0 or bool((pixels == pixels[:, :1]).all()):
        what = "nothing" if pixels.size == 0 else "only one color"
        warn(f"{shown(address)} shows {what} there; check the layer's name, its scales, and the box")


def _cut(scene: Part, options: PartOptions) -> tuple[Part, AreaOfInterest | None]:
    part = _box(scene, options.get("bbox"), options.get("bbox_crs"))
    return _area(part, options.get("aoi"), options.get("aoi_crs"))


def _box(scene: Part, bbox: Box | None, crs: str | None) -> Part:
    if bbox is not None:
        try:
            return crop(scene, bbox, crs)
        except UsageError as error:
            raise error.renamed(crs="bbox_crs") from error.__cause__
    if crs is not None:
        raise UsageError("`bbox_crs` applies to a box; add `bbox=(W, S, E, N)`, or leave it out", "bbox_crs")
    return scene


def _area(scene: Part, aoi: Aoi | None, crs: str | None) -> tuple[Part, AreaOfInterest | None]:
    """Return the part of a scene around an area of interest, and the area on it.

    The network sees pixels outside the area, so the part itself carries no area.
    """
    if aoi is not None or crs is not None:
        scene = features.within(scene, aoi, crs)
    if not isinstance(scene, Scene) or scene.area is None:
        return scene, None
    box = scene.area.within(scene.shape)
    if box is None:
        raise OutsideError(f"no pixel of {shown(scene.path)} is in its area of interest", "scene")
    part = scene if box.shape == scene.shape else scene.cut(box)
    return replace(part, area=None), part.area
