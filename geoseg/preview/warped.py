"""Tiles of a raster in a page's frame, read through its overviews."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from affine import Affine
from rasterio.enums import ColorInterp, Resampling
from rasterio.io import DatasetReader
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window as Area

from geoseg.errors import SceneError
from geoseg.preview.frame import TILE_PX, Frame, Tile
from geoseg.preview.shrunk import Shrunk
from geoseg.raster.environment import shown
from geoseg.raster.scene import Patch, Scene

_ALIKE = 0.01
"""Pictures without a place lie on one another if their sides have the same ratio, but for so much."""


@dataclass(frozen=True, slots=True)
class Place:
    """How a raster lies in a frame."""

    transform: Affine | None = None
    """Its pixel (col, row) to the frame's plane; None where its own place on Earth is used."""
    of: Scene | None = None
    """Whose place it has, when not its own."""


def place_in(frame: Frame, landcover: Scene, other: Scene) -> Place:
    """Return how a raster lies with a map; the map itself too. SceneError where that cannot be known."""
    mine, its = landcover.geobox, other.geobox
    if frame.is_earth:
        if its.has_place:
            return Place()
        _check_sides(landcover, other)
        return Place(of=landcover)
    if mine.has_transform and its.has_transform and mine.crs == its.crs and not mine.transform.is_degenerate:
        plane = Affine.scale(1, -1)
        return Place(plane @ ~mine.transform @ its.transform)
    _check_sides(landcover, other)
    return Place(Affine(mine.width_px / its.width_px, 0, 0, 0, -mine.height_px / its.height_px, 0))


def _check_sides(landcover: Scene, other: Scene) -> None:
    (rows, cols), (other_rows, other_cols) = landcover.shape, other.shape
    if abs(math.log(rows * other_cols / (cols * other_rows))) > _ALIKE:
        raise SceneError(
            f"{shown(other.path)} cannot be laid on {shown(landcover.path)}: one of them has no place, and "
            f"{other_rows} x {other_cols} pixels are not the shape of {rows} x {cols}; give one of the map's extent"
        )


def read_tiles(
    source: Shrunk, place: Place, frame: Frame, tiles: Iterable[Tile], resampling: Resampling
) -> Iterator[tuple[Tile, Patch]]:
    """Yield tiles of one zoom with their pixels, where any is valid; in between, overviews are resampled as told."""
    wanted = list(tiles)
    if not wanted:
        return
    zoom = wanted[0][0]
    factor = frame.unit_per_px(zoom) / _unit_per_px(source, place, frame)
    with source.at(max(1.0, factor)) as (dataset, size):
        rest = Resampling.average if resampling is not Resampling.nearest and factor / size > 1.5 else resampling
        first_col, first_row = min(tile[1] for tile in wanted), min(tile[2] for tile in wanted)
        last_col, last_row = max(tile[1] for tile in wanted), max(tile[2] for tile in wanted)
        how = {
            "crs": frame.crs,
            "transform": frame.transform((zoom, first_col, first_row)),
            "width": (last_col - first_col + 1) * TILE_PX,
            "height": (last_row - first_row + 1) * TILE_PX,
            "resampling": rest,
            **_source_place(dataset, source, place, frame),
            **_masking(dataset, source.scene),
        }
        with WarpedVRT(dataset, **how) as warped:
            for tile in wanted:
                area = Area((tile[1] - first_col) * TILE_PX, (tile[2] - first_row) * TILE_PX, TILE_PX, TILE_PX)
                valid = warped.dataset_mask(window=area) != 0
                if not valid.any():
                    continue
                data = warped.read(list(source.scene.band_indexes), window=area)
                if np.issubdtype(data.dtype, np.floating):
                    valid &= np.isfinite(data).all(axis=0)
                yield tile, Patch(np.where(np.isfinite(data), data, 0).astype(data.dtype), valid)


def _unit_per_px(source: Shrunk, place: Place, frame: Frame) -> float:
    """Return about how large a pixel of the raster is in the frame."""
    if place.transform is not None:
        return math.sqrt(abs(place.transform.determinant))
    box = (place.of or source.scene).geobox
    middle = (frame.bounds[1] + frame.bounds[3]) / 2
    cosine = 1 / math.cosh(middle / 6_378_137.0)
    gsd_m = box.gsd_m or frame.unit_per_px(frame.native_zoom) * cosine
    return gsd_m * max(box.shape) / max(source.scene.shape) / cosine


def _source_place(dataset: DatasetReader, source: Shrunk, place: Place, frame: Frame) -> dict[str, object]:
    rows, cols = source.scene.shape
    to_full = Affine.scale(cols / dataset.width, rows / dataset.height)
    if place.transform is not None:
        return {"src_crs": frame.crs, "src_transform": place.transform @ to_full}
    if place.of is not None:
        box = place.of.geobox
        if not (box.crs is not None and box.has_transform):
            raise SceneError(
                f"{shown(source.scene.path)} has no place and {shown(place.of.path)} only control points; "
                "give the scene the map's place (gdal_translate -gcp)"
            )
        scale = Affine.scale(box.width_px / cols, box.height_px / rows)
        return {"src_crs": box.crs, "src_transform": box.transform @ scale @ to_full}
    box = source.scene.geobox
    if box.gcps and not (box.crs is not None and box.has_transform):
        return {"src_crs": box.gcp_crs}
    return {}


def _masking(dataset: DatasetReader, scene: Scene) -> dict[str, object]:
    if scene.nodata is not None:
        return {"src_nodata": scene.nodata, "nodata": scene.nodata}
    return {} if ColorInterp.alpha in dataset.colorinterp else {"add_alpha": True}


def codes_of(scene: Scene) -> Scene:
    """Return a map with its first band alone; SceneError if that does not hold codes."""
    if scene.dtype != "uint8":
        raise SceneError(
            f"{shown(scene.path)} holds {scene.dtype}, a map holds codes 0 to 254 as uint8; "
            "give one that geoseg predict wrote, or convert it with gdal_translate -ot Byte"
        )
    return replace(scene, band_indexes=scene.band_indexes[:1])
