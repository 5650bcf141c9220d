"""The input of a network for a window: normalized pixels, with gaps filled by the image mirrored at their edges.

Unfilled, a gap would be the mean of the training imagery, a gray surface that no camera sees. Nine DeepGlobe tiles were
cut by a random line. Of the pixels up to 16, 48 and 96 px from it, 0.554, 0.602 and 0.650 were right with a gap of the
mean, 0.615, 0.642 and 0.670 with a mirrored gap, and 0.658, 0.663 and 0.678 in the uncut tile.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.compiled import njit
from geoseg.model.bundle import Scale
from geoseg.model.engines.engine import Pixels, Turn
from geoseg.raster import Window

_NO_NEIGHBOR = 1 << 20
"""Stands for the position of a valid pixel if there is none; larger than any window."""
_WINDOWS_WITHOUT_NUMBA = 8
"""Number of windows for which loading numba takes longer than it saves, 50 ms each."""
_count = itertools.count()
_EXACT = 2**24
"""Beyond this, float32 does not hold every integer."""
_STRIP_ROWS = 32
"""Rows of all bands that stay in the processor's cache while they are processed."""


@dataclass(frozen=True, slots=True)
class Preparation:
    """How stored pixels are converted to a network's input."""

    scale: Scale | None
    """The range that stored values are clipped to."""
    gain: NDArray[np.float32]
    """(band,)."""
    bias: NDArray[np.float32]
    """(band,)."""
    dtype: str = "float32"
    """The network's input dtype."""
    channels_last: bool = False
    """(n, row, col, band) instead of (n, band, row, col)."""


def network_input(footprint: Pixels, windows: Sequence[Window], turn: Turn, preparation: Preparation) -> NDArray[Any]:
    """Return windows of a footprint, turned, as the network's input; gaps are filled, or 0 (the mean) if impossible."""
    side = windows[0].height
    image = np.empty((len(windows), len(footprint.data), side, side), np.float32)
    with np.errstate(all="ignore"):  # values that are not finite are reported when probabilities are checked
        for normalized, window in zip(image, windows, strict=True):
            _normalize(turn.of_pixels(footprint.data[:, window.rows, window.cols], np), preparation, normalized)
            has_value = fill_gaps(normalized, turn.of_pixels(footprint.valid[window.rows, window.cols], np))
            if not has_value.all():
                np.copyto(normalized, 0, where=~has_value)
        if not preparation.dtype.startswith("float"):
            kind = np.iinfo(preparation.dtype)
            ends = np.clip([kind.min, kind.max], -_EXACT, _EXACT)
            np.clip(np.rint(image, out=image), *ends.astype(np.float32), out=image)
        ordered = image.transpose(0, 2, 3, 1) if preparation.channels_last else image
        return np.ascontiguousarray(ordered, preparation.dtype)


def _normalize(stored: NDArray[Any], preparation: Preparation, normalized: NDArray[np.float32]) -> None:
    """Write stored pixels (band, row, col), normalized, into `normalized`, strip by strip."""
    gain, bias = preparation.gain[:, None, None], preparation.bias[:, None, None]
    for start in range(0, stored.shape[1], _STRIP_ROWS):
        strip = normalized[:, start : start + _STRIP_ROWS]
        strip[:] = stored[:, start : start + _STRIP_ROWS]
        if preparation.scale is not None:
            np.clip(strip, *preparation.scale, out=strip)
        np.multiply(strip, gain, out=strip)
        np.add(strip, bias, out=strip)


def fill_gaps(image: NDArray[np.float32], valid: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Fill the gaps of an image (band, row, col) in place; return which pixels (row, col) now hold a value.

    A gap pixel gets the value of its mirror image across the nearest valid pixel of its row or column, the edge; or of
    the edge itself, if the mirror image is not valid. If several edges are equally near it gets their mean, so that a
    turned image is filled the same way. Without a valid pixel in its row and column, a pixel stays unchanged.
    """
    if valid.all():
        return valid
    if next(_count) < _WINDOWS_WITHOUT_NUMBA and "numba" not in sys.modules:
        result, has_value = filled(image[None], valid[None, None], np)
        image[:] = result[0]
        return np.asarray(has_value[0, 0])
    seen = np.array(valid, order="C")
    _fill(image, np.ascontiguousarray(valid), seen)
    return seen


@njit(cache=True, nogil=True)
def _fill(image: Any, valid: Any, seen: Any) -> None:  # noqa: ANN401 - numba's arrays
    """See `fill_gaps`."""
    bands, height, width = image.shape
    below = _next_valid_row(valid)
    above, right = np.full(width, -_NO_NEIGHBOR, np.int32), np.empty(width, np.int32)
    for row in range(height):
        next_col = _NO_NEIGHBOR
        for col in range(width - 1, -1, -1):
            if valid[row, col]:
                next_col = col
            right[col] = next_col
        left = -_NO_NEIGHBOR
        for col in range(width):
            if valid[row, col]:
                left, above[col] = col, row
                continue
            up, down = row - above[col], below[row, col] - row
            nearest = min(col - left, right[col] - col, up, down)
            if nearest >= _NO_NEIGHBOR // 2:
                continue
            seen[row, col] = True
            # edges that are farther away are ignored
            west = _source(valid[row], left, col) if col - left == nearest else -1
            east = _source(valid[row], right[col], col) if right[col] - col == nearest else -1
            north = _source(valid[:, col], above[col], row) if up == nearest else -1
            south = _source(valid[:, col], below[row, col], row) if down == nearest else -1
            count = np.float32((west >= 0) + (east >= 0) + (north >= 0) + (south >= 0))
            for band in range(bands):
                pixels = image[band]
                across = (pixels[row, west] if west >= 0 else 0) + (pixels[row, east] if east >= 0 else 0)
                along = (pixels[north, col] if north >= 0 else 0) + (pixels[south, col] if south >= 0 else 0)
                pixels[row, col] = np.float32(np.float32(across) + np.float32(along)) / count


@njit(cache=True, nogil=True)
def _next_valid_row(valid: Any) -> Any:  # noqa: ANN401 - as above
    """Return the row of the nearest valid pixel at or below each pixel; _NO_NEIGHBOR if there is none."""
    height, width = valid.shape
    below = np.empty((height, width), np.int32)
    next_row = np.full(width, _NO_NEIGHBOR, np.int32)
    for row in range(height - 1, -1, -1):
        for col in range(width):
            if valid[row, col]:
                next_row[col] = row
            below[row, col] = next_row[col]
    return below


@njit(cache=True, nogil=True, inline="always")
def _source(valid: Any, edge: Any, place: Any) -> Any:  # noqa: ANN401 - as above
    """Return the position mirrored at an edge on a line of pixels, or the edge if that is not valid."""
    beyond = 2 * edge - place
    if 0 <= beyond < len(valid) and valid[beyond]:
        return beyond
    return edge


def filled(image: Any, valid: Any, xp: ModuleType) -> tuple[Any, Any]:  # noqa: ANN401 - arrays of xp, numpy or torch
    """Return windows (n, band, row, col) with gaps filled, and which pixels (n, 1, row, col) hold a value.

    Bit-identical to `fill_gaps` on each window; does not wait for the device.
    """
    nearest_by_axis = [_nearest(valid[:, 0], axis, xp) for axis in (2, 1)]
    nearest = xp.minimum(*(xp.minimum(*(distance for _, distance in pair)) for pair in nearest_by_axis))
    total, count = xp.zeros_like(image), xp.zeros_like(image[:, :1])
    for axis, pair in zip((2, 1), nearest_by_axis, strict=True):
        values = xp.zeros_like(image)
        for edge, distance in pair:
            tied = ((distance == nearest) & (nearest < _NO_NEIGHBOR // 2))[:, None]
            values = values + xp.where(tied, _mirrored(image, valid[:, 0], edge, axis, xp), xp.zeros_like(image))
            count = count + tied
        total = total + values
    fill = ~valid & (count > 0)
    return xp.where(fill, total / xp.where(fill, count, xp.ones_like(count)), image), valid | fill


def _nearest(valid: Any, axis: int, xp: ModuleType) -> list[tuple[Any, Any]]:  # noqa: ANN401 - as above
    """Return the nearest valid position (n, row, col) before and after each pixel along an axis, with its distance."""
    places = _places(valid, axis, xp)
    none = xp.zeros_like(places) + _NO_NEIGHBOR
    before = _running_max(xp.where(valid, places, -none), axis, xp)
    after = -xp.flip(_running_max(xp.flip(xp.where(valid, -places, -none), (axis,)), axis, xp), (axis,))
    return [(before, places - before), (after, after - places)]


def _mirrored(image: Any, valid: Any, edge: Any, axis: int, xp: ModuleType) -> Any:  # noqa: ANN401 - as above
    """Return the values (n, band, row, col) mirrored at each pixel's edge, or of the edge if those are not valid."""
    last = valid.shape[axis] - 1
    edge = xp.clip(edge, 0, last)
    beyond = 2 * edge - _places(valid, axis, xp)
    beyond = xp.where((beyond >= 0) & (beyond <= last), beyond, edge)
    source = xp.where(_values_at(valid, beyond, axis, xp), beyond, edge)
    return _values_at(image, source[:, None], axis + 1, xp)


def _values_at(values: Any, places: Any, axis: int, xp: ModuleType) -> Any:  # noqa: ANN401 - as above
    """Return the values at some positions along an axis."""
    return np.take_along_axis(values, places, axis) if xp is np else xp.take_along_dim(values, places.long(), axis)


def _places(valid: Any, axis: int, xp: ModuleType) -> Any:  # noqa: ANN401 - as above
    """Return the position (1, row, col) of each pixel along an axis."""
    places = xp.arange(valid.shape[axis], dtype=xp.int32, **({} if xp is np else {"device": valid.device}))
    return places[None, None] if axis == 2 else places[None, :, None]


def _running_max(values: Any, axis: int, xp: ModuleType) -> Any:  # noqa: ANN401 - as above
    """Return the running maximum (n, row, col) along an axis."""
    return np.maximum.accumulate(values, axis=axis) if xp is np else xp.cummax(values, axis).values
