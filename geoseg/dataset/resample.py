"""Pixels and classes at another resolution: what a larger pixel holds, on the average or for the most part."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.counts import codes_in
from geoseg.legend import NODATA
from geoseg.raster import Patch

Floats = NDArray[np.float64]
"""Weights or sums of any shape."""


@dataclass(frozen=True, slots=True)
class Axis:
    """How the pixels of one side of a scene become others: new pixel i covers [i, i + 1) * length / new_length."""

    length: int
    new_length: int

    @property
    def shrinks(self) -> bool:
        """Whether a new pixel covers more than one old."""
        return self.new_length < self.length

    def source(self, start: int, stop: int) -> tuple[int, int]:
        """Return the old pixels, first and after the last, that new pixels start to stop are made of."""
        if self.shrinks:
            return start * self.length // self.new_length, -(-stop * self.length // self.new_length)
        low, high, _ = self._neighbours(start, stop)
        return int(low[0]), int(high[-1]) + 1

    def averaged(self, values: NDArray[Any], axis: int, start: int, stop: int) -> Floats:
        """Return means over new pixels start to stop; `values` begins with the first pixel of `source`."""
        first, _ = self.source(start, stop)
        ratio = self.length / self.new_length
        edges = np.arange(start, stop + 1) * ratio - first
        edges = np.clip(edges, 0, values.shape[axis])
        whole = np.floor(edges + 1e-9).astype(np.int64)
        part = np.clip(edges - whole, 0, 1)
        exact = _sum_type(values.dtype, self.length)
        sums = np.zeros([n + (i == axis) for i, n in enumerate(values.shape)], exact)
        behind = [slice(None)] * values.ndim
        behind[axis] = slice(1, None)
        np.cumsum(values, axis=axis, dtype=exact, out=sums[tuple(behind)])
        there = np.take(sums, whole, axis=axis).astype(np.float64)
        cut = np.take(values, np.minimum(whole, values.shape[axis] - 1), axis=axis)
        there += cut * _along(part, axis, values.ndim)
        means: Floats = np.diff(there, axis=axis) / ratio
        return means

    def interpolated(self, values: NDArray[Any], axis: int, start: int, stop: int) -> Floats:
        """Return linear interpolations at the centres of new pixels; the outermost pixels go on to the edge."""
        low, high, part = self._neighbours(start, stop)
        first = int(low[0])
        weight = _along(part, axis, values.ndim)
        result: Floats = np.take(values, low - first, axis=axis) * (1 - weight)
        result += np.take(values, high - first, axis=axis) * weight
        return result

    def nearest(self, start: int, stop: int) -> NDArray[np.int64]:
        """Return for each new pixel the old one at its centre, counted from the first of `source`."""
        first, _ = self.source(start, stop)
        centre = (np.arange(start, stop) + 0.5) * self.length / self.new_length
        return np.minimum(centre.astype(np.int64), self.length - 1) - first

    def _neighbours(self, start: int, stop: int) -> tuple[NDArray[np.int64], NDArray[np.int64], Floats]:
        at = (np.arange(start, stop) + 0.5) * self.length / self.new_length - 0.5
        at = np.clip(at, 0, self.length - 1)
        low = np.floor(at).astype(np.int64)
        return low, np.minimum(low + 1, self.length - 1), at - low


def resample_image(patch: Patch, rows: Axis, cols: Axis, start: int, stop: int) -> Patch:
    """Return rows start to stop of an image: means where it shrinks, interpolated linearly where it grows.

    `patch` holds the rows `rows.source(start, stop)` and all columns. Only valid pixels count; a new pixel is valid
    where at least half of it was.
    """
    weights = patch.valid.astype(np.uint8)
    all_valid = bool(patch.valid.all())
    share = np.ones((stop - start, cols.new_length)) if all_valid else _both(weights, rows, cols, start, stop)
    data = np.empty((patch.data.shape[0], stop - start, cols.new_length), patch.data.dtype)
    for band, values in enumerate(patch.data):
        sums = _both(values if all_valid else np.where(patch.valid, values, 0), rows, cols, start, stop)
        mean = sums if all_valid else sums / np.where(share > 0, share, 1)
        data[band] = np.rint(mean) if np.issubdtype(data.dtype, np.integer) else mean
    return Patch(data, share >= 0.5 - 1e-9)


def resample_codes(codes: NDArray[np.uint8], rows: Axis, cols: Axis, start: int, stop: int) -> NDArray[np.uint8]:
    """Return rows start to stop of labels: the class that most of a new pixel has, nearest where the scene grows.

    255 only where more than half of it is without label; of classes alike the first.
    """
    if not (rows.shrinks and cols.shrinks):
        return codes[rows.nearest(start, stop)[:, None], cols.nearest(0, cols.new_length)[None, :]]
    present = codes_in(codes)
    shape = stop - start, cols.new_length
    best, most = np.full(shape, NODATA, np.uint8), np.zeros(shape)
    for code in present[present != NODATA]:
        share = _both((codes == code).view(np.uint8), rows, cols, start, stop)
        wins = share > most + 1e-9
        best[wins], most[wins] = code, share[wins]
    if NODATA in present:
        best[_both((codes == NODATA).view(np.uint8), rows, cols, start, stop) > 0.5 + 1e-9] = NODATA
    return best


def _sum_type(dtype: np.dtype[Any], length: int) -> type[np.number[Any]]:
    """Return the smallest type that holds sums along a side exactly; of real numbers as exactly as there is one."""
    if np.issubdtype(dtype, np.floating):
        return np.float64
    return np.int32 if dtype.itemsize == 1 and length < 2**23 else np.int64


def _both(values: NDArray[Any], rows: Axis, cols: Axis, start: int, stop: int) -> Floats:
    """Return (row, col) resampled along both sides."""
    across = (cols.averaged if cols.shrinks else cols.interpolated)(values, 1, 0, cols.new_length)
    return (rows.averaged if rows.shrinks else rows.interpolated)(across, 0, start, stop)


def _along(weights: Floats, axis: int, ndim: int) -> Floats:
    shape = [1] * ndim
    shape[axis] = len(weights)
    return weights.reshape(shape)
