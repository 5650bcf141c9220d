"""A reference raster as the map's grid sees it: moved by whole pixels, or warped by nearest neighbor."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from affine import Affine
from numpy.typing import NDArray

from geoseg.counts import StoredCodes
from geoseg.errors import SceneError
from geoseg.raster import ClassRaster, GeoBox, Window, is_placed, opened, shown, warped, whole_shift, whole_turns

Points = NDArray[np.float64]
"""(point,)"""

_EDGE_POINTS = 21


@dataclass(frozen=True, slots=True)
class _Aligned:
    """A raster whose codes are read window by window of the map."""

    raster: ClassRaster

    @property
    def name(self) -> str:
        """Its name in messages."""
        return shown(self.raster.scene.path)

    @property
    def is_plain(self) -> bool:
        """Whether its codes are counted as they are stored, not read from colors."""
        return not self.raster.colors

    def check_unchanged(self) -> None:
        """Raise SceneError when the file was replaced under the run."""
        self.raster.check_unchanged()


@dataclass(frozen=True, slots=True)
class Shifted(_Aligned):
    """A raster whose pixels are the map's, counted from another first pixel."""

    rows: int
    """From the raster's first row to the map's."""
    cols: int
    note: str | None = None

    def read(self, window: Window) -> StoredCodes:
        """Return the codes in a window of the map. SceneError where the file is damaged."""
        place = Window(window.row + self.rows, window.col + self.cols, window.height, window.width)
        scene = self.raster.scene
        inside = place.row >= 0 and place.col >= 0 and place.row_stop <= scene.shape[0]
        if self.raster.masked or not inside or place.col_stop > scene.shape[1] or scene.dtype != "uint8":
            patch = self.raster.decoded(scene.read(place))
            return StoredCodes(patch.data[0], patch.valid, None)
        with opened(scene.path) as dataset:
            area = ((place.row, place.row_stop), (place.col, place.col_stop))
            data = dataset.read(scene.band_indexes[0], window=area)
        nodata = self.raster.background
        return StoredCodes(data, None, nodata if nodata >= 0 else None)


@dataclass(frozen=True, slots=True)
class Warped(_Aligned):
    """A raster on another grid than the map."""

    grid: GeoBox
    """The map's."""
    note: str | None = None

    def read(self, window: Window) -> StoredCodes:
        """Return the codes in a window of the map, each of the pixel in which the map's pixel has its middle."""
        patch = self.raster.decoded(warped(self.raster.scene, self.grid[window]))
        return StoredCodes(patch.data[0], patch.valid, None)


def align(reference: ClassRaster, grid: GeoBox) -> Shifted | Warped:
    """Return how a reference lies on the map's grid, with a note where the two grids differ.

    SceneError where the two do not overlap, or share no CRS.
    """
    theirs, name = reference.scene.geobox, shown(reference.scene.path)
    if not (is_placed(theirs) and is_placed(grid)):
        if theirs.shape != grid.shape:
            raise SceneError(
                f"{name} is {theirs.height_px} x {theirs.width_px} pixels, the map {grid.height_px} x "
                f"{grid.width_px}, and at least one has no CRS or no transform to align them by; "
                f"{_way_out(theirs, grid)}"
            )
        note = (
            None if theirs == grid else f"{name} is compared pixel by pixel: at least one raster is not georeferenced"
        )
        return Shifted(reference, 0, 0, note)
    shift = whole_shift(theirs, grid)
    if shift is None or len(whole_turns(theirs, grid)) > 1:
        return _warped(reference, grid)
    there = Window(shift[0], shift[1], *grid.shape).intersection(Window(0, 0, *theirs.shape))
    if there is None:
        raise _apart(name)
    return Shifted(reference, *shift)


def _way_out(theirs: GeoBox, grid: GeoBox) -> str:
    for whose, fault in (("reference", theirs.gcp_fault), ("map", grid.gcp_fault)):
        if fault:
            return f"the {whose}'s {fault}"
    return "georeference them (rio warp --dst-crs, for ground control points)"


def _warped(reference: ClassRaster, grid: GeoBox) -> Warped:
    theirs, name = reference.scene.geobox, shown(reference.scene.path)
    if not _overlap(theirs, grid, name):
        raise _apart(name)
    where = "another grid" if theirs.crs == grid.crs else f"another grid, in {_called(theirs)}"
    return Warped(
        reference, grid, f"{name} is on {where}; warped to the map's grid by nearest neighbor while it is read"
    )


def _overlap(theirs: GeoBox, grid: GeoBox, name: str) -> bool:
    """Say whether some of the map lies on a raster, or the frame of what can be brought to the map meets it."""
    shifts = whole_turns(theirs, grid)
    cols, rows = _moved(~theirs.transform, *_carried(_spread(grid), grid, theirs, name))
    wide = [shift / theirs.transform.a for shift in shifts] if theirs.transform.a else [0.0]
    inside = (rows >= 0) & (rows <= theirs.height_px)
    if any((inside & (cols >= shift) & (cols <= shift + theirs.width_px)).any() for shift in wide):
        return True
    x, y = _spread(theirs)
    return any(_meets(grid, *_carried((x + shift, y), theirs, grid, name)) for shift in shifts)


def _spread(place: GeoBox) -> tuple[Points, Points]:
    """Return x and y of points all over a grid."""
    steps = np.linspace(0, 1, _EDGE_POINTS)
    cols, rows = (axis.ravel() for axis in np.meshgrid(steps * place.width_px, steps * place.height_px))
    return _moved(place.transform, cols, rows)


def _carried(points: tuple[Points, Points], start: GeoBox, to: GeoBox, name: str) -> tuple[Points, Points]:
    """Return points in another CRS, not finite where they have no place there. SceneError where none can have one."""
    if start.crs == to.crs or start.crs is None or to.crs is None:
        return points
    from pyproj import Transformer  # noqa: PLC0415 - a tenth of a second that most runs do not need
    from pyproj.exceptions import ProjError  # noqa: PLC0415

    try:
        transformer = Transformer.from_crs(start.crs.to_wkt(), to.crs.to_wkt(), always_xy=True)
    except ProjError as error:
        raise SceneError(
            f"cannot bring {name} from {_called(start)} to {_called(to)}: {' '.join(str(error).split()):.160}"
        ) from None
    x, y = transformer.transform(*points)
    return np.asarray(x), np.asarray(y)


def _meets(grid: GeoBox, x: Points, y: Points) -> bool:
    cols, rows = _moved(~grid.transform, x, y)
    known = np.isfinite(cols) & np.isfinite(rows)
    if not known.any():
        return False
    cols, rows = cols[known], rows[known]
    return bool(cols.min() < grid.width_px and cols.max() > 0 and rows.min() < grid.height_px and rows.max() > 0)


def _moved(transform: Affine, x: Points, y: Points) -> tuple[Points, Points]:
    a, b, c, d, e, f = transform[:6]
    return a * x + b * y + c, d * x + e * y + f


def _called(geobox: GeoBox) -> str:
    return f"{geobox.crs.to_string():.60}" if geobox.crs else "no CRS"


def _apart(name: str) -> SceneError:
    return SceneError(f"{name} and the map do not overlap; check their CRS and place with geoseg info")
