"""A box of coordinates as pixels of a scene, over the 180th meridian too."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache

from rasterio.crs import CRS
from rasterio.warp import transform as transform_points
from rasterio.warp import transform_bounds

from geoseg.errors import SceneError, UsageError
from geoseg.raster.environment import GDAL_ERRORS, raster_environment, shown
from geoseg.raster.scene import Scene
from geoseg.raster.windows import Window

_SLIVER_PX = 1e-3
"""A pixel that a box touches by no more than this is outside: boxes are typed with rounded edges."""
_TURN = 2 * math.pi

Box = tuple[float, float, float, float]
"""West, south, east, north, as in RFC 7946, section 5: over the 180th meridian west is more than east."""


def window_of(scene: Scene, bbox: Box, crs: str | None = None) -> Window:
    """Return the pixels that a box touches, in the scene's CRS or in `crs`; of a rotated scene those of the rectangle.

    Raises UsageError for a box that is none, lies beside the scene, or at both of its ends; SceneError for a scene
    without a grid in a CRS.
    """
    place = scene.geobox
    if not place.has_transform or (crs is not None and place.crs is None):
        raise SceneError(
            f"{shown(scene.path)} has no grid in a CRS, so a box cannot be cut from it; "
            "warp it first (rio warp --dst-crs)"
        )
    theirs = place.crs if crs is None else _crs(crs)
    _check(bbox, theirs)
    parts = list(_parts(bbox, theirs))
    if theirs != place.crs and theirs is not None and place.crs is not None:
        parts = _moved(parts, theirs, place.crs)
    period = period_of(place.crs)
    shifts = (0.0, period, -period) if period else (0.0,)
    found = [_window(scene, (w + shift, s, e + shift, n)) for w, s, e, n in parts for shift in shifts]
    return _joined(scene, [window for window in found if window is not None])


def _crs(name: str) -> CRS:
    try:
        with raster_environment():
            return CRS.from_user_input(name)
    except GDAL_ERRORS as error:
        raise UsageError(
            f"a bbox in {name!r:.60} cannot be brought to the CRS of the scene: {' '.join(str(error).split())}"
        ) from error


def _check(bbox: Box, crs: CRS | None) -> None:
    is_round = crs is not None and crs.is_geographic
    is_box = len(bbox) == 4 and all(map(math.isfinite, bbox)) and bbox[1] < bbox[3]
    if is_box and (bbox[0] < bbox[2] or (is_round and bbox[2] < bbox[0] <= bbox[2] + _turn(crs))):
        return
    more = ", or W > E over the 180th meridian" if is_round else ""
    got = ",".join(f"{float(edge):.15g}" for edge in bbox)
    raise UsageError(f"bbox must be W,S,E,N with W < E and S < N{more}, got {got}")


def _turn(crs: CRS) -> float:
    """Return all the way around, in the unit of a geographic CRS."""
    return _TURN / float(crs.units_factor[1])


def _parts(bbox: Box, crs: CRS | None) -> Iterator[Box]:
    """Yield a box, in two where it reaches over the 180th meridian; longitudes are between -180 and 180 then."""
    west, south, east, north = map(float, bbox)
    if crs is None or not crs.is_geographic:
        yield west, south, east, north
        return
    turn = _turn(crs)
    east += turn if east < west else 0.0
    if east - west >= turn:
        yield -turn / 2, south, turn / 2, north
        return
    begin = (west + turn / 2) // turn * turn  # the shift to -180 ... 180
    west, east = (west - begin, east - begin) if begin else (west, east)
    yield west, south, min(east, turn / 2), north
    if east > turn / 2:
        yield -turn / 2, south, east - turn, north


def _moved(parts: Sequence[Box], crs: CRS, to: CRS) -> list[Box]:
    """Return boxes in another CRS; those that have no place there are left out, unless it is all of them."""
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
        reason = " ".join(str(failure).split()) if failure else "it has no place there"
        raise UsageError(
            f"a bbox in {crs.to_string()!r:.60} cannot be brought to the CRS of the scene: {reason}"
        ) from failure
    return moved


@lru_cache(maxsize=8)
def period_of(crs: CRS | None) -> float:
    """Return after how much of x the same places come again; 0 where they do not, or only after a gap."""
    if crs is None:
        return 0.0
    if crs.is_geographic:
        return _turn(crs)
    geographic = CRS.from_epsg(4326)
    lons = [-120.0, -119.0, 0.0, 1.0, 120.0, 121.0]  # at most one of the three steps is over the edge of the world
    try:
        with raster_environment():
            xs, ys = transform_points(geographic, crs, lons * 2, [0.0] * 6 + [40.0] * 6)
    except GDAL_ERRORS:
        return 0.0
    if not all(map(math.isfinite, (*xs, *ys))):
        return 0.0
    steps = [sorted(abs(xs[i + 1] - xs[i]) for i in range(start, start + 6, 2)) for start in (0, 6)]
    size = steps[0][1]
    is_even = all(math.isclose(step, size, rel_tol=1e-6) for row in steps for step in row[:2])
    is_level = max(ys[:6]) - min(ys[:6]) + max(ys[6:]) - min(ys[6:]) < 1e-6 * size
    return 360 * size if is_even and is_level and size > 0 else 0.0


def _window(scene: Scene, bbox: Box) -> Window | None:
    west, south, east, north = bbox
    into_px = ~scene.geobox.transform
    corners = [into_px @ corner for corner in ((west, south), (west, north), (east, south), (east, north))]
    left, right = (edge(col for col, _ in corners) for edge in (min, max))
    top, bottom = (edge(row for _, row in corners) for edge in (min, max))
    row, col = math.floor(top + _SLIVER_PX), math.floor(left + _SLIVER_PX)
    height, width = math.ceil(bottom - _SLIVER_PX) - row, math.ceil(right - _SLIVER_PX) - col
    return Window(row, col, max(1, height), max(1, width)).intersection(Window(0, 0, *scene.shape))


def _joined(scene: Scene, windows: Sequence[Window]) -> Window:
    """Return the rectangle around the parts of a box, which must not leave a gap between them."""
    if not windows:
        raise UsageError(
            f"the bbox lies beside {shown(scene.path)}, which reaches from W,S,E,N {_bounds(scene)}; give a box in "
            "that CRS, or name the box's own with `bbox_crs`"
        )
    rows = _spanned([(window.row, window.row_stop) for window in windows])
    cols = _spanned([(window.col, window.col_stop) for window in windows])
    if rows is None or cols is None:
        raise UsageError(
            f"the bbox lies at both ends of {shown(scene.path)}, which reaches from W,S,E,N {_bounds(scene)}: the "
            "180th meridian, or its like, is there; map its two parts one by one"
        )
    return Window(rows[0], cols[0], rows[1] - rows[0], cols[1] - cols[0])


def _spanned(intervals: list[tuple[int, int]]) -> tuple[int, int] | None:
    """Return the interval around several that touch or overlap; None where there is a gap of more than a pixel."""
    intervals.sort()
    start, stop = intervals[0]
    for low, high in intervals:
        if low > stop + 1:
            return None
        stop = max(stop, high)
    return start, stop


def _bounds(scene: Scene) -> str:
    height, width = scene.shape
    corners = [scene.geobox.transform @ corner for corner in ((0, 0), (width, 0), (0, height), (width, height))]
    xs, ys = [x for x, _ in corners], [y for _, y in corners]
    return ",".join(f"{edge:.12g}" for edge in (min(xs), min(ys), max(xs), max(ys)))
