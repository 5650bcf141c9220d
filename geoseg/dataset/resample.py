"""Classes at another resolution: what a larger pixel holds for the most part. Of images `geoseg.raster` makes means."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geoseg.counts import codes_in
from geoseg.legend import NODATA

Floats = NDArray[np.float64]
"""Shares of any shape."""


@dataclass(frozen=True, slots=True)
class Axis:
    """How the pixels of one side of a scene become others: new pixel i covers [i, i + 1) * length / new_length."""

    length: int
    new_length: int

    @property
    def grows(self) -> bool:
        """Whether a new pixel is less than an old."""
        return self.new_length > self.length

    def source(self, start: int, stop: int) -> tuple[int, int]:
        """Return the old pixels, first and after the last, that new pixels start to stop are made of."""
        if self.grows:
            centers = self._centers(start, stop)
            return int(centers[0]), int(centers[-1]) + 1
        return start * self.length // self.new_length, -(-stop * self.length // self.new_length)

    def averaged(self, values: NDArray[np.uint8] | Floats, axis: int, start: int, stop: int) -> Floats:
        """Return means over new pixels start to stop; `values` begins with the first pixel of `source`."""
        ratio = self.length / self.new_length
        edges = np.arange(start, stop + 1) * ratio - self.source(start, stop)[0]
        edges = np.clip(edges, 0, values.shape[axis])
        whole = np.floor(edges + 1e-9).astype(np.int64)
        part = np.clip(edges - whole, 0, 1)
        sums = np.zeros([n + (i == axis) for i, n in enumerate(values.shape)])
        behind = [slice(None)] * values.ndim
        behind[axis] = slice(1, None)
        np.cumsum(values, axis=axis, dtype=np.float64, out=sums[tuple(behind)])
        cut = np.take(values, np.minimum(whole, values.shape[axis] - 1), axis=axis)
        weights = np.expand_dims(part, [i for i in range(values.ndim) if i != axis])
        means: Floats = np.diff(np.take(sums, whole, axis=axis) + cut * weights, axis=axis) / ratio
        return means

    def nearest(self, start: int, stop: int) -> NDArray[np.int64]:
        """Return for each new pixel the old one at its center, counted from the first of `source`."""
        return self._centers(start, stop) - self.source(start, stop)[0]

    def _centers(self, start: int, stop: int) -> NDArray[np.int64]:
        """Return the old pixel at the center of each new one."""
        center = (np.arange(start, stop) + 0.5) * self.length / self.new_length
        return np.minimum(center.astype(np.int64), self.length - 1)


def resample_codes(codes: NDArray[np.uint8], rows: Axis, cols: Axis, start: int, stop: int) -> NDArray[np.uint8]:
    """Return rows start to stop of labels: the class that most of a new pixel has, nearest where the scene grows.

    `codes` holds the rows `rows.source(start, stop)` and all columns. 255 only where more than half of a pixel is
    without label; of classes alike the first.
    """
    if rows.grows or cols.grows:
        return codes[rows.nearest(start, stop)[:, None], cols.nearest(0, cols.new_length)[None, :]]

    def share(code: int) -> Floats:
        across = cols.averaged((codes == code).view(np.uint8), 1, 0, cols.new_length)
        return rows.averaged(across, 0, start, stop)

    shape = stop - start, cols.new_length
    best, most = np.full(shape, NODATA, np.uint8), np.zeros(shape)
    present = codes_in(codes).tolist()
    for code in present:
        if code != NODATA:
            shares = share(code)
            wins = shares > most + 1e-9
            best[wins], most[wins] = code, shares[wins]
    if NODATA in present:
        best[share(NODATA) > 0.5 + 1e-9] = NODATA
    return best
