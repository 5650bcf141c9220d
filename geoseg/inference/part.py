"""Which part of a scene is mapped: a box, an area of interest, tiles of a map server; or all of it."""

from __future__ import annotations

import math
import os
import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, TypedDict

from geoseg import features
from geoseg.errors import GeosegWarning, OutsideError, UsageError
from geoseg.inference.resolution import Resolution
from geoseg.model import ModelBundle
from geoseg.raster import (
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
    shown,
    tiles_raster,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from geoseg.features.area_of_interest import Aoi

_LOOKED_AT_PX = 256
_TRIED_ZOOM = 17
"""Where the size of a map server's pixels on the ground is first looked at; nothing is fetched for it."""

Part = str | os.PathLike[str] | Scene


class PartOptions(TypedDict, total=False):
    """Options that say what of a scene is mapped."""

    bands: Sequence[int | str] | None
    """The model's bands in the scene, by number from 1 or by name. Default: by color, then by name, else the first."""
    bbox: Box | None
    """(west, south, east, north): only the pixels that this box touches, as `geoseg.crop` cuts them."""
    bbox_crs: str | None
    """The CRS of `bbox`, where it is not the scene's."""
    aoi: Aoi | None
    """Polygons: only the pixels whose centers lie in them are mapped, all else is nodata; see `geoseg.within`."""
    aoi_crs: str | None
    """The CRS of `aoi`, where it names none."""
    zoom: int | None
    """Of a map server's tiles. Default: whose pixels are nearest to the `resolution`, or to the model's."""
    resolution: Resolution
    """scene (the default) maps on the scene's own grid, model on pixels as large as the model's, 2 on pixels of 2 m."""


def mapped_part(scene: Part, options: PartOptions, bundle: ModelBundle) -> tuple[Part, AreaOfInterest | None]:
    """Return the part of a scene that is mapped, and the area of interest on it.

    Of a STAC item the assets are chosen first, which a part of it would not know; of a map server the zoom. UsageError
    or OutsideError for a part that is none.
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
            "`zoom` is of a map server's tiles, https://.../{z}/{x}/{y}.png; take `resolution`, or leave it out", "zoom"
        )
    return _cut(scene, options)


def _of_server(
    address: str, zoom: int | None, options: PartOptions, bundle: ModelBundle
) -> tuple[Scene, AreaOfInterest | None]:
    _check_part(options)
    part, area = _cut(tiles_raster(address, _TRIED_ZOOM if zoom is None else zoom), options)
    opened = Scene.open(part)
    if zoom is None:
        wanted_m = _wanted_m(options, bundle)
        if wanted_m is None or opened.geobox.gsd_m is None:
            raise UsageError("the model does not tell its pixel size; choose the `zoom` of the tiles", "zoom")
        zoom = better_zoom(_TRIED_ZOOM, opened.geobox.gsd_m, wanted_m)
        part, area = _cut(tiles_raster(address, zoom), options)
        opened = Scene.open(part)
    _warn_of_requests(opened, address, f"zoom {zoom}", (TILE_PX, TILE_PX))
    return opened, area


def _of_layer(path: str, options: PartOptions, bundle: ModelBundle) -> tuple[Scene, AreaOfInterest | None]:
    """Return a part of a layer of a WMS or WMTS, at the level whose pixels are nearest to those wanted."""
    _check_part(options)
    wanted_m = _wanted_m(options, bundle)
    if wanted_m is None:
        raise UsageError(
            f"{shown(path)} has pixels of many sizes, and the model does not tell its own; choose a `resolution`",
            "resolution",
        )
    levels = layer_levels(path)
    tried = _nearest(levels, Scene.open(path).geobox.gsd_m, wanted_m)
    part, area = _cut(layer_raster(path, tried), options)
    opened = Scene.open(part)
    own_m = opened.geobox.gsd_m  # there; the middle of the layer may be at another latitude
    level = _nearest(levels, None if own_m is None else own_m / levels[tried], wanted_m)
    if level != tried:
        part, area = _cut(layer_raster(path, level), options)
        opened = Scene.open(part)
    _warn_of_requests(opened, path, f"level {level}", opened.block_shape)
    _warn_if_empty(opened, path)
    return opened, area


def _nearest(levels: Sequence[int], finest_m: float | None, wanted_m: float) -> int:
    if finest_m is None:
        return 0
    return min(range(len(levels)), key=lambda level: abs(math.log(levels[level] * finest_m / wanted_m)))


def _check_part(options: PartOptions) -> None:
    if options.get("bbox") is None and options.get("aoi") is None:
        raise UsageError("a map server has tiles of the whole world; say which part with `bbox` or `aoi`", "bbox")


def _wanted_m(options: PartOptions, bundle: ModelBundle) -> float | None:
    wanted = options.get("resolution")
    return wanted if isinstance(wanted, float) else bundle.gsd_m


def _warn_of_requests(part: Scene, address: str, level: str, block: tuple[int, int]) -> None:
    rows, cols = (math.ceil(length_px / edge_px + 1) for length_px, edge_px in zip(part.shape, block, strict=True))
    height_px, width_px = part.shape
    message = (
        f"{shown(address)} is a map server: about {rows * cols} requests at {level} ({width_px} x {height_px} px of "
        f"{part.geobox.gsd_m or 0:.3g} m); see that its terms allow it"
    )
    warnings.warn(message, GeosegWarning, stacklevel=5)


def _warn_if_empty(part: Scene, address: str) -> None:
    patch = part.overview(_LOOKED_AT_PX)
    seen = patch.data[:, patch.valid]
    if seen.size == 0 or bool((seen == seen[:, :1]).all()):
        what = "nothing" if seen.size == 0 else "one color alone"
        warnings.warn(
            f"{shown(address)} shows {what} there; check the name of the layer, its scales, and the box",
            GeosegWarning,
            stacklevel=5,
        )


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
        raise UsageError("`bbox_crs` is about a box; add `bbox=(W, S, E, N)`, or leave it out", "bbox_crs")
    return scene


def _area(scene: Part, aoi: Aoi | None, crs: str | None) -> tuple[Part, AreaOfInterest | None]:
    """Return the part of a scene around an area of interest, and the area on it.

    The network sees pixels that are not in the area, so the part does without it.
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
