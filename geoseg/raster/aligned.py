"""A raster read on the grid of another: shifted by whole pixels if the grids agree, else warped by nearest neighbor."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, Resampling
from rasterio.vrt import WarpedVRT

from geoseg.counts import StoredCodes
from geoseg.errors import SceneError, numbered, one_line
from geoseg.raster.classes import ClassRaster
from geoseg.raster.dataset_cache import opened
from geoseg.raster.geobox import GeoBox, apply_transform, crs_text, period_of
from geoseg.raster.landcover import PRODUCT_TAG
from geoseg.raster.names import shown
from geoseg.raster.scene import Patch, Scene
from geoseg.raster.views import is_as_stored, masked
from geoseg.raster.windows import Window

if TYPE_CHECKING:
    from geoseg.raster.scene import SceneLike

_SAME_PX = 0.01
"""Two grids are the same if their pixels are no farther apart than this."""
_ONE_PX = 1e-3
"""A confidence raster and its map share a grid if their corners are no farther apart than this."""
_WARP_PX = 0.01
"""How far GDAL may misplace a pixel to save time."""
EVERY_PX = "ALL"
"""As SAMPLE_STEPS: GDAL then finds the source's part from each pixel along the edges of the target. From 21 points it
loses the pixels between the 180th meridian, where longitudes jump, and the next point."""

_EDGE_POINTS = 21
"""Sample points along each side, used to test whether two grids overlap."""

Points = NDArray[np.float64]
"""(point,)"""


def is_placed(geobox: GeoBox) -> bool:
    """Return whether a grid has a CRS and a transform, so that other rasters can be aligned to it."""
    return geobox.crs is not None and geobox.has_grid


def whole_shift(theirs: GeoBox, grid: GeoBox) -> tuple[int, int] | None:
    """Return the rows and columns from the first pixel of `theirs` to the first pixel of `grid`.

    None if they are not whole numbers, or if the grids differ in pixel size, direction or CRS.
    """
    if theirs.crs != grid.crs:
        return None
    to_grid = ~theirs.transform @ grid.transform
    if not (math.isfinite(to_grid.c) and math.isfinite(to_grid.f)):
        return None
    whole = Affine.translation(round(to_grid.c), round(to_grid.f))
    height, width = grid.shape
    corners = [(0, 0), (width, 0), (0, height), (width, height)]
    distances = [np.abs(np.subtract(to_grid @ corner, whole @ corner)).max() for corner in corners]
    return (round(to_grid.f), round(to_grid.c)) if max(distances) <= _SAME_PX else None


def whole_turns(theirs: GeoBox, grid: GeoBox) -> list[float]:
    """Return the shifts of x that keep a raster's place on Earth and may move it onto a grid: 180.1 is -179.9.

    Both must be placed. The first shift is 0.
    """
    period = period_of(theirs.crs)
    if not period or not any(_is_beyond(box) for box in (theirs, grid)):
        return [0.0]
    return [0.0, period, -period]


def _is_beyond(place: GeoBox) -> bool:
    """Return whether a grid crosses the 180th meridian, in a CRS whose x continues beyond it."""
    half = period_of(place.crs) / 2
    most = max(abs(x) for x, _ in place.corners)
    return bool(half) and most > half + abs(place.transform.a)


def warped(scene: Scene, grid: GeoBox) -> Patch:
    """Read a scene's bands on another grid: each pixel takes the scene's pixel that contains its center.

    Both must be placed. Pixels outside the scene are invalid. SceneError if the file is damaged.
    """
    return first_valid(_warped(scene, grid, turn) for turn in whole_turns(scene.geobox, grid))


def first_valid(patches: Iterable[Patch]) -> Patch:
    """Return each pixel from the first patch where it is valid; patches after the last missing pixel are not taken."""
    remaining = iter(patches)
    found = next(remaining)
    while not found.valid.all() and (other := next(remaining, None)) is not None:
        data = np.where(found.valid | ~other.valid, found.data, other.data)
        found = Patch(data, found.valid | other.valid)
    return found


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
            SAMPLE_STEPS=EVERY_PX,
            add_alpha=dataset.colorinterp[-1] != ColorInterp.alpha,
        ) as on_grid,
    ):
        bands = list(range(1, len(scene.band_indexes) + 1))
        return Patch(on_grid.read(bands), on_grid.read(on_grid.count) != 0)


def confidence_raster(given: SceneLike) -> Scene:
    """Open a confidence raster. SceneError if it has several bands, or holds the classes of a map."""
    try:
        scene = Scene.open(given)
    except SceneError as error:
        raise SceneError(str(error), "confidence") from None
    with opened(scene.path) as dataset:
        is_map = dataset.tags().get(PRODUCT_TAG) == "labels"
    if is_map or len(scene.band_indexes) != 1:
        held = "holds classes" if is_map else f"has {numbered(len(scene.band_indexes), 'band')} of {scene.dtype}"
        raise SceneError(
            f"{shown(scene.path)} {held}; confidence is percent in one band: give the one predicted with the map",
            "confidence",
        )
    return scene


def open_confidence(given: SceneLike, geobox: GeoBox) -> Scene:
    """Open a confidence raster, cut to a map that is a part of it. SceneError also if it is not on the map's grid."""
    scene = confidence_raster(given)
    path = scene.path
    if scene.shape != geobox.shape and (window := _part_at(scene.geobox, geobox)):
        scene = scene.cut(window)
    own_box = scene.geobox
    if own_box.crs and geobox.crs and own_box.crs != geobox.crs:
        raise SceneError(
            f"{shown(path)} is not on the map's grid: it is in {crs_text(own_box.crs)}, expected "
            f"{crs_text(geobox.crs)}; give the one predicted with the map",
            "confidence",
        )
    if scene.shape != geobox.shape or not _same_corners(own_box, geobox):
        raise SceneError(
            f"{shown(path)} is not on the map's grid: {scene.shape[0]} x {scene.shape[1]} pixels from "
            f"{own_box.transform[2]:.8g}, {own_box.transform[5]:.8g}, expected {geobox.shape[0]} x {geobox.shape[1]} "
            f"from {geobox.transform[2]:.8g}, {geobox.transform[5]:.8g}; give the one predicted with the map",
            "confidence",
        )
    return scene


def _part_at(whole: GeoBox, part: GeoBox) -> Window | None:
    """Return where a grid lies in another; None if it is no part of it. A missing CRS is that of the other."""
    whole = replace(whole, crs=part.crs) if whole.crs is None or part.crs is None else whole
    shift = whole_shift(whole, part) if whole.has_grid and part.has_grid else None
    if shift is None or min(shift) < 0 or shift[0] + part.height_px > whole.height_px:
        return None
    return Window(*shift, *part.shape) if shift[1] + part.width_px <= whole.width_px else None


def _same_corners(first: GeoBox, second: GeoBox) -> bool:
    pixel = abs(second.transform.determinant) ** 0.5
    return bool(np.abs(np.subtract(first.corners, second.corners)).max() <= _ONE_PX * pixel)


@dataclass(frozen=True, slots=True)
class _Aligned:
    """A raster whose codes are read by windows of the map."""

    raster: ClassRaster

    @property
    def name(self) -> str:
        """Its name in messages."""
        return shown(self.raster.scene.path)

    @property
    def is_plain(self) -> bool:
        """Whether its codes are counted as stored, not decoded from colors."""
        return not self.raster.colors

    def check_unchanged(self) -> None:
        """Raise SceneError if the file was replaced during the run."""
        self.raster.check_unchanged()


@dataclass(frozen=True, slots=True)
class ShiftedRaster(_Aligned):
    """A raster whose pixels coincide with the map's, from another origin."""

    rows: int
    """Offset from the raster's first row to the map's."""
    cols: int
    note: str | None = None

    def read(self, window: Window) -> StoredCodes:
        """Return the codes in a window of the map. SceneError if the file is damaged."""
        place = window.shifted(self.rows, self.cols)
        scene = self.raster.scene
        inside = place.row >= 0 and place.col >= 0 and place.row_stop <= scene.shape[0]
        if self.raster.masked or not inside or place.col_stop > scene.shape[1] or scene.dtype != "uint8":
            patch = self.raster.decoded(scene.read(place))
            return StoredCodes(patch.data[0], patch.valid, None)
        with opened(scene.path) as dataset:
            data = dataset.read(scene.band_indexes[0], window=place.to_rasterio())
        nodata = self.raster.background
        return StoredCodes(data, None, nodata if nodata >= 0 else None)


@dataclass(frozen=True, slots=True)
class WarpedRaster(_Aligned):
    """A raster on a different grid from the map's."""

    grid: GeoBox
    """The map's."""
    note: str | None = None

    def read(self, window: Window) -> StoredCodes:
        """Return the codes in a window of the map: each from the pixel that contains the center of the map's pixel."""
        patch = self.raster.decoded(warped(self.raster.scene, self.grid[window]))
        return StoredCodes(patch.data[0], patch.valid, None)


def align(reference: ClassRaster, grid: GeoBox) -> ShiftedRaster | WarpedRaster:
    """Align a reference with the map's grid; a note says if the two grids differ.

    SceneError if the two do not overlap, or share no CRS.
    """
    reference_box, name = reference.scene.geobox, shown(reference.scene.path)
    if not (is_placed(reference_box) and is_placed(grid)):
        if reference_box.shape != grid.shape:
            raise SceneError(
                f"{name} is {reference_box.height_px} x {reference_box.width_px} pixels, the map {grid.height_px} x "
                f"{grid.width_px}, and they cannot be aligned: at least one has no CRS or transform; "
                f"{_georeferencing_hint(reference_box, grid)}"
            )
        note = (
            None
            if reference_box == grid
            else f"{name} is compared pixel by pixel: at least one raster is not georeferenced"
        )
        return ShiftedRaster(reference, 0, 0, note)
    shift = whole_shift(reference_box, grid)
    if shift is None or len(whole_turns(reference_box, grid)) > 1:
        return _aligned_by_warping(reference, grid)
    shared = Window(shift[0], shift[1], *grid.shape).intersection(Window(0, 0, *reference_box.shape))
    if shared is None:
        raise _no_overlap(name)
    return ShiftedRaster(reference, *shift)


def _georeferencing_hint(reference_box: GeoBox, grid: GeoBox) -> str:
    for owner, box in (("reference", reference_box), ("map", grid)):
        if fault := box.gcp_fault or box.transform_fault:
            return f"the {owner}'s {fault}"
    return "georeference them (rio warp --dst-crs, for ground control points)"


def _aligned_by_warping(reference: ClassRaster, grid: GeoBox) -> WarpedRaster:
    reference_box, name = reference.scene.geobox, shown(reference.scene.path)
    if not _overlap(reference_box, grid, name):
        raise _no_overlap(name)
    where = "another grid" if reference_box.crs == grid.crs else f"another grid, in {crs_text(reference_box.crs)}"
    return WarpedRaster(reference, grid, f"{name} is on {where}; it is resampled to the map's grid by nearest neighbor")


def _overlap(reference_box: GeoBox, grid: GeoBox, name: str) -> bool:
    """Return whether a point of the map lies on a raster, or the raster's frame, projected to the map, meets it."""
    shifts = whole_turns(reference_box, grid)
    cols, rows = apply_transform(
        ~reference_box.transform, *_reprojected(_sample_points(grid), grid, reference_box, name)
    )
    wide = [shift / reference_box.transform.a for shift in shifts] if reference_box.transform.a else [0.0]
    inside = (rows >= 0) & (rows <= reference_box.height_px)
    if any((inside & (cols >= shift) & (cols <= shift + reference_box.width_px)).any() for shift in wide):
        return True
    x, y = _sample_points(reference_box)
    return any(_any_in_bounds(grid, *_reprojected((x + shift, y), reference_box, grid, name)) for shift in shifts)


def _sample_points(place: GeoBox) -> tuple[Points, Points]:
    """Return x and y of points spread over a grid."""
    steps = np.linspace(0, 1, _EDGE_POINTS)
    cols, rows = (axis.ravel() for axis in np.meshgrid(steps * place.width_px, steps * place.height_px))
    return apply_transform(place.transform, cols, rows)


def _reprojected(points: tuple[Points, Points], start: GeoBox, to: GeoBox, name: str) -> tuple[Points, Points]:
    """Return points in another CRS, not finite where they have no place in it. SceneError if no transform exists."""
    if start.crs == to.crs or start.crs is None or to.crs is None:
        return points
    from pyproj import Transformer  # noqa: PLC0415 - takes a tenth of a second, and most runs do not need it
    from pyproj.exceptions import ProjError  # noqa: PLC0415

    try:
        transformer = Transformer.from_crs(start.crs.to_wkt(), to.crs.to_wkt(), always_xy=True)
    except ProjError as error:
        raise SceneError(
            f"cannot reproject {name} from {crs_text(start.crs)} to {crs_text(to.crs)}: {one_line(error)}"
        ) from None
    x, y = transformer.transform(*points)
    return np.asarray(x), np.asarray(y)


def _any_in_bounds(grid: GeoBox, x: Points, y: Points) -> bool:
    cols, rows = apply_transform(~grid.transform, x, y)
    has_place = np.isfinite(cols) & np.isfinite(rows)
    if not has_place.any():
        return False
    cols, rows = cols[has_place], rows[has_place]
    return bool(cols.min() < grid.width_px and cols.max() > 0 and rows.min() < grid.height_px and rows.max() > 0)


def _no_overlap(name: str) -> SceneError:
    return SceneError(f"{name} and the map do not overlap; check their CRS and bounds with geoseg info")
