"""Tiles of a raster in a page's frame, read through its overviews."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, Resampling
from rasterio.io import DatasetReader
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window as Area

from geoseg.display.frame import SIDE_PX, TILE_PX, Frame, Tile
from geoseg.display.overview_source import OverviewSource
from geoseg.errors import SceneError
from geoseg.raster import (
    EVERY_PX,
    GDAL_ERRORS,
    Patch,
    Scene,
    Window,
    first_valid,
    is_placed,
    shown,
    whole_shift,
    whole_turns,
)

if TYPE_CHECKING:
    from geoseg.raster.scene import SceneLike

_RGB = ("red", "green", "blue")
_ASPECT_TOLERANCE = 0.01
"""Rasters without a place are overlaid if their aspect ratios are equal to within this (logarithmic) tolerance."""


@dataclass(frozen=True, slots=True)
class Placement:
    """The position of a raster in a frame."""

    transform: Affine | None = None
    """From its pixel (col, row) to the frame's plane; None if its own place on Earth is used."""
    of: Scene | None = None
    """The scene whose place it takes, if not its own."""
    copies: tuple[Affine, ...] = ()
    """Transforms as `transform`, or to its own CRS, that keep its place on Earth, as 180.1 is -179.9."""


def place_in(frame: Frame, landcover: Scene, other: Scene) -> Placement:
    """Return the placement of a raster relative to a map, or of the map itself. SceneError if it is unknown."""
    map_box, other_box = landcover.geobox, other.geobox
    if frame.is_earth:
        if is_placed(other_box):
            turns = [] if other_box == map_box else whole_turns(other_box, other_box)[1:]
            return Placement(copies=tuple(Affine.translation(turn, 0) @ other_box.transform for turn in turns))
        if other_box.gcps and other_box.gcp_fault is None:
            return Placement()
        _check_sides(landcover, other)
        return Placement(of=landcover)
    if map_box.has_grid and other_box.has_grid and map_box.crs == other_box.crs:
        to_plane = Affine.scale(1, -1) @ ~map_box.transform
        turns = [] if other_box == map_box or other_box.crs is None else whole_turns(other_box, map_box)[1:]
        copies = tuple(to_plane @ Affine.translation(turn, 0) @ other_box.transform for turn in turns)
        return Placement(to_plane @ other_box.transform, copies=copies)
    if is_placed(map_box) and is_placed(other_box):
        raise SceneError(
            f"{shown(other.path)} is in another CRS than {shown(landcover.path)}, which can only be shown "
            "pixel by pixel; give a raster in the map's CRS (rio warp --like)"
        )
    _check_sides(landcover, other)
    return Placement(
        Affine(map_box.width_px / other_box.width_px, 0, 0, 0, -map_box.height_px / other_box.height_px, 0)
    )


def _check_sides(landcover: Scene, other: Scene) -> None:
    (rows, cols), (other_rows, other_cols) = landcover.shape, other.shape
    if abs(math.log(rows * other_cols / (cols * other_rows))) > _ASPECT_TOLERANCE:
        raise SceneError(
            f"{shown(other.path)} cannot be placed on {shown(landcover.path)}: one of them is not georeferenced, and "
            f"{other_rows} x {other_cols} pixels do not have the shape of {rows} x {cols}; give a raster with the "
            "map's extent"
        )


def read_tiles(
    source: OverviewSource, place: Placement, frame: Frame, tiles: Iterable[Tile], resampling: Resampling
) -> Iterator[tuple[Tile, Patch]]:
    """Yield the tiles of one zoom that have valid pixels, with these pixels, resampled from overviews as specified.

    A patch has `SIDE_PX` rows and columns.
    """
    tile_list = list(tiles)
    if not tile_list:
        return
    zoom = tile_list[0][0]
    factor = frame.unit_per_px(zoom) / _unit_per_px(source, place, frame)
    with ExitStack() as stack:
        dataset, size = stack.enter_context(source.at(max(1.0, factor)))
        method = Resampling.average if resampling is not Resampling.nearest and factor / size > 1.5 else resampling
        if place.transform is None and place.of is None and not is_placed(source.scene.geobox):
            dataset = stack.enter_context(_straightened(dataset, source.scene, frame, method))
        first_col, first_row = min(tile[1] for tile in tile_list), min(tile[2] for tile in tile_list)
        last_col, last_row = max(tile[1] for tile in tile_list), max(tile[2] for tile in tile_list)
        options = {
            "crs": frame.crs,
            "transform": frame.transform((zoom, first_col, first_row)),
            "width": (last_col - first_col) * TILE_PX + SIDE_PX,
            "height": (last_row - first_row) * TILE_PX + SIDE_PX,
            "resampling": method,
            **masking(dataset, source.scene),
        }
        views = []
        for georeference in _source_georeferences(dataset, source, place, frame):
            warped = stack.enter_context(_warped(dataset, source.scene, **options, **georeference))
            nearest = None
            if method is Resampling.average:
                nearest = stack.enter_context(
                    WarpedVRT(dataset, **{**options, **georeference, "resampling": Resampling.nearest})
                )
            views.append((warped, nearest))
        for tile in tile_list:
            area = Area((tile[1] - first_col) * TILE_PX, (tile[2] - first_row) * TILE_PX, SIDE_PX, SIDE_PX)
            patch = first_valid(_view_patch(*view, source.scene, area) for view in views)
            if patch.valid[:TILE_PX, :TILE_PX].any():
                yield tile, patch


def _view_patch(warped: WarpedVRT, nearest: WarpedVRT | None, scene: Scene, area: Area) -> Patch:
    """Return an area of a warped view; of means, `nearest` says which pixels at the rim are valid."""
    data = warped.read(_bands(scene), window=area)
    valid = _valid(warped, data, area)
    if nearest is not None and valid.any() and not valid.all():
        valid &= ~_rim(valid) | _unmasked(nearest, area)
    return Patch(np.where(np.isfinite(data), data, 0).astype(data.dtype), valid)


def natural_scene(given: SceneLike) -> Scene:
    """Open a scene with its chosen bands, else with red, green and blue, or its first bands if it names none so."""
    scene = Scene.open(given)
    return scene if scene.chosen or len(scene.band_indexes) < 3 else Scene.open(scene, wanted_bands=_RGB)


def read_beside(scene: Scene, landcover: Scene, max_px: int, part: Window | None = None) -> Patch:
    """Read the part of a scene that a map, or a part of it, covers, decimated to a long side of at most `max_px`.

    Beside a coarser map the scene keeps its pixels. Without a place the map covers the whole scene. SceneError if the
    two do not overlap.
    """
    if not (is_placed(scene.geobox) and is_placed(landcover.geobox)):
        _check_sides(landcover, scene)
        return (scene if part is None else scene.cut(_same_part(part, landcover, scene))).overview(max_px)
    box = landcover.geobox if part is None else landcover.geobox[part]
    if scene.shape == box.shape and whole_shift(scene.geobox, box) == (0, 0):
        return scene.overview(max_px)
    finer = (box.gsd_m or 1.0) / (scene.geobox.gsd_m or 1.0)
    factor = max(min(1.0, 1 / finer), max(box.shape) / max_px)
    rows, cols = (max(1, round(side / factor)) for side in box.shape)
    coarser = factor * finer
    with OverviewSource(scene, Resampling.average) as source, source.at(max(1.0, coarser)) as (dataset, size):
        options = {
            "crs": box.crs,
            "transform": box.transform @ Affine.scale(box.width_px / cols, box.height_px / rows),
            "width": cols,
            "height": rows,
            "resampling": Resampling.average if coarser / size > 1.5 else Resampling.bilinear,
            "SAMPLE_STEPS": EVERY_PX,
            **masking(dataset, scene),
        }

        def turned(turn: float) -> Patch:
            moved = {"src_crs": dataset.crs, "src_transform": Affine.translation(turn, 0) @ dataset.transform}
            with _warped(dataset, scene, **options, **(moved if turn else {})) as warped:
                return _view_patch(warped, None, scene, Area(0, 0, cols, rows))

        patch = first_valid(map(turned, whole_turns(scene.geobox, box)))
    if not patch.valid.any():
        raise SceneError(
            f"no valid pixel of {shown(scene.path)} lies on {shown(landcover.path)}; give the scene of this map"
        )
    return patch


def _same_part(part: Window, landcover: Scene, scene: Scene) -> Window:
    """Return the pixels that a part of the map touches in a scene with the map's extent."""
    edges = []
    for start, stop, side, other_side in (
        (part.row, part.row_stop, landcover.shape[0], scene.shape[0]),
        (part.col, part.col_stop, landcover.shape[1], scene.shape[1]),
    ):
        first = start * other_side // side
        edges.append((first, max(1, -(-stop * other_side // side) - first)))
    (row, height), (col, width) = edges
    return Window(row, col, height, width)


def _unit_per_px(source: OverviewSource, placement: Placement, frame: Frame) -> float:
    """Return the approximate size of the raster's pixels in the frame."""
    if placement.transform is not None:
        return math.sqrt(abs(placement.transform.determinant))
    box = (placement.of or source.scene).geobox
    middle = (frame.bounds[1] + frame.bounds[3]) / 2
    cosine = 1 / math.cosh(middle / 6_378_137.0)
    gsd_m = box.gsd_m or frame.unit_per_px(frame.native_zoom) * cosine
    return gsd_m * max(box.shape) / max(source.scene.shape) / cosine


def _source_georeferences(
    dataset: DatasetReader, source: OverviewSource, placement: Placement, frame: Frame
) -> list[dict[str, object]]:
    """Return the warper's options for each place that a raster takes; its own or the first place comes first."""
    rows, cols = source.scene.shape
    to_full = Affine.scale(cols / dataset.width, rows / dataset.height)
    crs = source.scene.geobox.crs if placement.transform is None else frame.crs
    copies = [{"src_crs": crs, "src_transform": copy @ to_full} for copy in placement.copies]
    if placement.transform is not None:
        return [{"src_crs": crs, "src_transform": placement.transform @ to_full}, *copies]
    if placement.of is not None:
        box = placement.of.geobox
        if not (box.crs is not None and box.has_grid):
            raise SceneError(
                f"{shown(source.scene.path)} is not georeferenced, and {shown(placement.of.path)} only has ground "
                "control points; give the scene the CRS and the transform of the map (rio edit-info --crs --transform)"
            )
        scale = Affine.scale(box.width_px / cols, box.height_px / rows)
        return [{"src_crs": box.crs, "src_transform": box.transform @ scale @ to_full}]
    return [{}, *copies]


def _warped(dataset: DatasetReader, scene: Scene, **options: Any) -> WarpedVRT:  # noqa: ANN401 - rasterio's options
    """Return a warped view of a scene. SceneError if no transformation leads from its CRS to the map's."""
    try:
        return WarpedVRT(dataset, **options)
    except GDAL_ERRORS as error:
        raise SceneError(
            f"{shown(scene.path)} cannot be placed on the map: GDAL knows no transformation from its CRS to the map's; "
            "give a raster of the same place"
        ) from error


def _straightened(dataset: DatasetReader, scene: Scene, frame: Frame, resampling: Resampling) -> WarpedVRT:
    """Return a view that is georeferenced by a transform, not by control points.

    If given a target grid, rasterio ignores the points and treats rows and columns as coordinates.
    """
    return WarpedVRT(
        dataset, crs=frame.crs, src_crs=scene.geobox.gcp_crs, resampling=resampling, **masking(dataset, scene)
    )


def masking(dataset: DatasetReader, scene: Scene) -> dict[str, object]:
    """Return the warper options that mark invalid pixels, including those beyond the raster's edge."""
    if ColorInterp.alpha in dataset.colorinterp:
        return {}
    nodata = dataset.nodata if isinstance(dataset, WarpedVRT) else (scene.validity.nodata or (None,))[0]
    if nodata is not None:
        return {"src_nodata": nodata, "nodata": nodata}
    # rasterio treats alpha bands of other types as opaque everywhere
    return {"add_alpha": True} if scene.dtype in {"uint8", "uint16"} else {"nodata": _filler(np.dtype(scene.dtype))}


def _bands(scene: Scene) -> list[int]:
    """Return the numbers of the bands in use in datasets that `OverviewSource` opens."""
    return list(range(1, len(scene.band_indexes) + 1))


def _filler(dtype: np.dtype[Any]) -> float:
    """Return a value that a raster without nodata is unlikely to contain, and that float64 holds exactly."""
    if dtype.kind == "f":
        return math.nan
    if dtype.kind == "u":
        return float(2 ** (8 * dtype.itemsize) - 1) if dtype.itemsize < 8 else 2.0**63
    return float(np.iinfo(dtype).min)


def _rim(valid: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the valid pixels next to invalid ones: a mean is valid if any of its pixels is, so it extends too far."""
    rows, cols = valid.shape
    around = np.pad(valid, 1, constant_values=True)
    neighbors = [around[row : row + rows, col : col + cols] for row in range(3) for col in range(3)]
    rim: NDArray[np.bool_] = valid & ~np.logical_and.reduce(neighbors)
    return rim


def _unmasked(warped: WarpedVRT, area: Area) -> NDArray[np.bool_]:
    if warped.colorinterp[-1] == ColorInterp.alpha:  # GDAL's own mask supports alpha in few data types only
        return np.asarray(warped.read(warped.count, window=area) != 0)
    # not `dataset_mask`: it takes the fourth band of four for an alpha band if the first is red
    return np.asarray(warped.read_masks(window=area).any(axis=0))


def _valid(warped: WarpedVRT, data: NDArray[Any], area: Area) -> NDArray[np.bool_]:
    valid = _unmasked(warped, area)
    if data.dtype.kind == "f":
        valid &= np.isfinite(data).all(axis=0)
    if data.dtype in {np.dtype("int64"), np.dtype("uint64")} and warped.nodata is not None:
        valid &= (data != data.dtype.type(warped.nodata)).all(axis=0)  # the mask ignores nodata in these types
    return valid
