"""The pixels of a grid that lie in an area of interest (their centers do), or in a box (it touches them)."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import Self

import numpy as np
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.io import MemoryFile
from rasterio.warp import transform_bounds

from geoseg.errors import OutsideError, SceneError, UsageError, one_line
from geoseg.raster.environment import GDAL_ERRORS, raster_environment
from geoseg.raster.geobox import Box, GeoBox, crs_named, period_of, turn_of
from geoseg.raster.windows import Tiling, Window

_SLIVER_PX = 1e-3
"""A pixel that a box touches by no more than this is outside: users type boxes with rounded edges."""
_STRIP_PX = 1 << 20
"""Pixels tested together when looking for one that is inside."""
_POINTS_A_CELL, _MOST_POINTS = 8, 4096
"""Per side."""
_TILE_SHAPE = 512, 1 << 16
_MOST_MASKS = 32
_masks: dict[str, MemoryFile] = {}
"""Masks of areas as rasters, the latest last."""
_lock = Lock()


@dataclass(frozen=True, slots=True)
class AreaOfInterest:
    """Polygons on a grid of pixels, as a value: it travels with a plan, and areas with the same digest are equal.

    A pixel is inside if a line from its center to the left crosses an odd number of edges. Every crossing is
    computed from the ends of its edge, so the result does not depend on the window.
    """

    edges: NDArray[np.float64] = field(compare=False, repr=False)
    """(edge, 4): column and row of its upper end, then of its lower end. Horizontal edges are left out."""
    digest: str
    """Of the polygons as given."""
    given: str | None = field(default=None, compare=False)
    """The path that the polygons were read from, as given; None for shapes."""

    @classmethod
    def of(cls, rings: list[NDArray[np.float64]], digest: str, given: str | None = None) -> Self:
        """Return the area inside closed rings (point, 2) of columns and rows; a ring inside another is a hole."""
        ends = [np.hstack([ring[:-1], ring[1:]]) for ring in rings]
        edges = np.concatenate(ends) if ends else np.empty((0, 4))
        edges = edges[edges[:, 1] != edges[:, 3]]
        downwards = edges[:, 1] < edges[:, 3]
        return cls(np.where(downwards[:, None], edges, edges[:, [2, 3, 0, 1]]), digest, given)

    def __getitem__(self, window: Window) -> AreaOfInterest:
        """Return the same area on the grid that starts at a window."""
        return replace(self, edges=self.edges - np.array([window.col, window.row] * 2, np.float64))

    def scaled(self, shape: tuple[int, int], to: tuple[int, int]) -> AreaOfInterest:
        """Return the same area on a grid with the same extent and another number of (rows, cols)."""
        factor = np.array([to[1] / shape[1], to[0] / shape[0]] * 2)
        return self if shape == to else replace(self, edges=self.edges * factor)

    def within(self, shape: tuple[int, int]) -> Window | None:
        """Return the rectangle of a grid's pixels around the area; None if no pixel's center is inside."""
        if not len(self.edges):
            return None
        low, high = self.edges.min(axis=0), self.edges.max(axis=0)
        row, col = math.floor(low[1] + 0.5), math.floor(min(low[0], low[2]) + 0.5)
        height, width = math.ceil(high[3] - 0.5) - row, math.ceil(max(high[0], high[2]) - 0.5) - col
        if height < 1 or width < 1:
            return None
        box = Window(row, col, height, width).intersection(Window(0, 0, *shape))
        return box if box is not None and self.touches(box) else None

    def touches(self, box: Window) -> bool:
        """Return whether any pixel of a window is inside."""
        return any(self.mask(strip).any() for strip in box.tiles(max(1, _STRIP_PX // box.width), box.width))

    def may_touch(self, box: Window) -> bool:
        """Return whether any pixel of a window may be inside: quick, and only False is certain."""
        near = self.edges[(self.edges[:, 3] >= box.row) & (self.edges[:, 1] <= box.row_stop)]
        is_outside = (near[:, [0, 2]].max(axis=1) < box.col) | (near[:, [0, 2]].min(axis=1) > box.col_stop)
        left, top, right, bottom = near[~is_outside].T[:, :, None]
        cols, rows = np.array([box.col, box.col_stop] * 2), np.array([box.row, box.row, box.row_stop, box.row_stop])
        sides = np.sign((right - left) * (rows - top) - (bottom - top) * (cols - left))  # (edge, corner)
        crosses = np.abs(sides.sum(axis=1)) < len(cols)
        return bool(crosses.any() or self.mask(Window(box.row, box.col, 1, 1)).any())

    def mask(self, window: Window) -> NDArray[np.bool_]:
        """Return which pixels (row, col) of a window are inside; the window may extend beyond the grid."""
        first = window.row + 0.5  # the center of the first row
        near = self.edges[(self.edges[:, 1] <= window.row_stop - 0.5) & (self.edges[:, 3] > first)]
        begin = np.maximum(np.ceil(near[:, 1] - first), 0).astype(np.int64)
        stop = np.minimum(np.ceil(near[:, 3] - first), window.height).astype(np.int64)
        counts = np.maximum(stop - begin, 0)
        edge_of_crossing = np.repeat(np.arange(len(near)), counts)
        rows = (
            np.arange(len(edge_of_crossing)) - np.repeat(np.cumsum(counts) - counts, counts) + begin[edge_of_crossing]
        )
        left, top, right, bottom = near[edge_of_crossing].T
        crossing = left + (rows + first - top) * ((right - left) / (bottom - top))
        cols = np.clip(np.floor(crossing + 0.5) - window.col, 0, window.width).astype(np.int64)
        crossed = np.zeros((window.height, window.width + 1), np.uint8)
        np.bitwise_xor.at(crossed, (rows, cols), 1)
        inside: NDArray[np.bool_] = np.bitwise_xor.accumulate(crossed, axis=1, out=crossed)[:, :-1].view(np.bool_)
        return inside

    def share_touched(self, shape: tuple[int, int], cells: tuple[int, int]) -> float:
        """Return the share of a grid's cells that the area touches, from up to 8 x 8 sample points per cell."""
        down, across = (max(1, min(_POINTS_A_CELL, _MOST_POINTS // count)) for count in cells)
        points = self.decimated(shape, (cells[0] * down, cells[1] * across))
        return float(points.reshape(cells[0], down, cells[1], across).any(axis=(1, 3)).mean())

    def decimated(self, shape: tuple[int, int], to: tuple[int, int]) -> NDArray[np.bool_]:
        """Return the mask on a grid with the same extent and another number of (rows, cols)."""
        return self.scaled(shape, to).mask(Window(0, 0, *to))


def mask_file(area: AreaOfInterest, shape: tuple[int, int]) -> str:
    """Return GDAL's name for the mask of an area on a grid of (rows, cols), as a raster: 1 inside, 0 elsewhere.

    It is compressed in memory, for views of this process; the latest ones are kept.
    """
    key = hashlib.sha256(area.edges.tobytes() + repr(shape).encode()).hexdigest()
    with _lock:
        if key not in _masks:
            _masks[key] = _written(area, shape)
        for old in list(_masks)[:-_MOST_MASKS]:
            _masks.pop(old).close()
        return str(_masks[key].name)


def _written(area: AreaOfInterest, shape: tuple[int, int]) -> MemoryFile:
    stored = {"driver": "GTiff", "dtype": "uint8", "count": 1, "nbits": 1, "compress": "deflate", "sparse_ok": True}
    file = MemoryFile(ext=".tif")
    with (
        raster_environment(),
        file.open(height=shape[0], width=shape[1], tiled=True, bigtiff="if_safer", **stored) as raster,
    ):
        for tile in Tiling(*shape, *_TILE_SHAPE):
            inside = area.mask(tile)
            if inside.any():
                raster.write(inside.view(np.uint8), 1, window=tile.to_rasterio())
    return file


def window_of(place: GeoBox, bbox: Box, crs: str | None, name: str) -> Window:
    """Return the window of the pixels that a box touches; the box is in the raster's CRS or in `crs`.

    `name` is the raster's name in messages. Raises UsageError for an invalid box, or one outside the raster or at both
    of its ends; SceneError for a raster without a grid in a CRS.
    """
    if not place.has_grid or (crs is not None and place.crs is None):
        raise SceneError(
            f"{name} has no CRS or transform that places its pixels, so it cannot be cropped to a box; "
            f"{place.grid_hint}",
            "bbox",
        )
    box_crs = place.crs if crs is None else crs_named(crs, of=" of the `bbox`")
    _check(bbox, box_crs)
    parts = list(_parts(bbox, box_crs))
    if box_crs != place.crs and box_crs is not None and place.crs is not None:
        parts = _in_crs(parts, box_crs, place.crs)
    period = period_of(place.crs)
    shifts = (0.0, period, -period) if period else (0.0,)
    candidates = [_window(place, (w + shift, s, e + shift, n)) for w, s, e, n in parts for shift in shifts]
    windows = [window for window in candidates if window is not None]
    if not windows:
        raise _outside_error(place, name, parts[0], crs)
    return _enclosing_window(place, name, windows)


def _outside_error(place: GeoBox, name: str, box: Box, crs: str | None) -> OutsideError:
    hint = "give a box in that CRS, or name the box's own with `crs`"
    if crs is not None:
        hint = f"in that CRS it is {_edges(box)}: check it, and `crs`, which is {crs!r:.60}"
    return OutsideError(f"`bbox` lies outside {_extent_text(place, name)}; {hint}", "bbox")


def _extent_text(place: GeoBox, name: str) -> str:
    return f"{name}, which extends from W,S,E,N {_edges(place.bounds)}"


def _edges(box: Box) -> str:
    return ",".join(f"{edge:.12g}" for edge in box)


def _check(bbox: Box | None, crs: CRS | None) -> None:
    if bbox is None:
        raise UsageError("`bbox` must be four numbers: west, south, east, north, got None", "bbox")
    is_round = crs is not None and crs.is_geographic
    is_box = len(bbox) == 4 and all(map(math.isfinite, bbox)) and bbox[1] < bbox[3]
    if is_box and (bbox[0] < bbox[2] or (is_round and bbox[2] < bbox[0] <= bbox[2] + turn_of(crs))):
        return
    more = ", or W > E over the 180th meridian" if is_round else ""
    got = ",".join(f"{float(edge):.15g}" for edge in bbox)
    raise UsageError(f"`bbox` must be W,S,E,N with W < E and S < N{more}, got {got}", "bbox")


def _parts(bbox: Box, crs: CRS | None) -> Iterator[Box]:
    """Yield a box, in two parts if it crosses the 180th meridian, with longitudes between -180 and 180."""
    west, south, east, north = map(float, bbox)
    if crs is None or not crs.is_geographic:
        yield west, south, east, north
        return
    turn = turn_of(crs)
    east += turn if east < west else 0.0
    if east - west >= turn:
        yield -turn / 2, south, turn / 2, north
        return
    begin = (west + turn / 2) // turn * turn  # the shift to -180 ... 180
    west, east = (west - begin, east - begin) if begin else (west, east)
    yield west, south, min(east, turn / 2), north
    if east > turn / 2:
        yield -turn / 2, south, east - turn, north


def _in_crs(parts: Sequence[Box], crs: CRS, to: CRS) -> list[Box]:
    """Return boxes in another CRS without those that have no place in it; UsageError if none has."""
    moved, failure = [], None
    for part in parts:
        try:
            with raster_environment():
                box: Box = transform_bounds(crs, to, *part, densify_pts=21)
        except GDAL_ERRORS as error:
            failure = error
            continue
        if all(map(math.isfinite, box)):
            moved.append(box)
    if not moved:
        reason = one_line(failure, None) if failure else "it lies outside that CRS"
        raise UsageError(
            f"a `bbox` in {crs.to_string()!r:.60} cannot be reprojected to the scene's CRS: {reason}", "bbox"
        ) from failure
    return moved


def _window(place: GeoBox, bbox: Box) -> Window | None:
    west, south, east, north = bbox
    into_px = ~place.transform
    corners = [into_px @ corner for corner in ((west, south), (west, north), (east, south), (east, north))]
    left, right = (edge(col for col, _ in corners) for edge in (min, max))
    top, bottom = (edge(row for _, row in corners) for edge in (min, max))
    row, col = math.floor(top + _SLIVER_PX), math.floor(left + _SLIVER_PX)
    height, width = math.ceil(bottom - _SLIVER_PX) - row, math.ceil(right - _SLIVER_PX) - col
    return Window(row, col, max(1, height), max(1, width)).intersection(Window(0, 0, *place.shape))


def _enclosing_window(place: GeoBox, name: str, windows: Sequence[Window]) -> Window:
    """Return the rectangle around the parts of a box. There must be no gap between them."""
    rows = _enclosing_interval([(window.row, window.row_stop) for window in windows])
    cols = _enclosing_interval([(window.col, window.col_stop) for window in windows])
    if rows is None or cols is None:
        raise UsageError(
            f"`bbox` lies at both ends of {_extent_text(place, name)}: the 180th meridian, or its equivalent, is "
            "there; map its two parts separately",
            "bbox",
        )
    return Window(rows[0], cols[0], rows[1] - rows[0], cols[1] - cols[0])


def _enclosing_interval(intervals: list[tuple[int, int]]) -> tuple[int, int] | None:
    """Return the interval around several that touch or overlap; None if a gap is wider than a pixel."""
    intervals.sort()
    start, stop = intervals[0]
    for low, high in intervals:
        if low > stop + 1:
            return None
        stop = max(stop, high)
    return start, stop
