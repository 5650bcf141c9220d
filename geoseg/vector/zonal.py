"""Zonal statistics: the confidence of each region, added up strip by strip."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from geoseg.raster import Scene, Window, changed
from geoseg.vector.runs import Regions


def confidence_strips(scene: Scene, windows: Iterator[Window]) -> Iterator[NDArray[np.float32]]:
    """Yield strips (row, col) of confidence, NaN where it is not valid."""
    for window in windows:
        patch = scene.read(window)
        if patch.valid.shape != window.shape:
            raise changed(scene)
        strip = patch.data[0].astype(np.float32)
        strip[~patch.valid] = np.nan
        yield strip


@dataclass(slots=True)
class ConfidenceSums:
    """What has been added up for each region so far."""

    total: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    """(region,)"""
    count_px: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    """(region,) pixels that have a confidence."""

    def add(self, strip: NDArray[np.float32], regions: Regions) -> None:
        """Add a strip; the sums so far are of the regions that `regions.carried` renumbers."""
        total, count_px = np.zeros(len(regions)), np.zeros(len(regions), np.int64)
        np.add.at(total, regions.carried, self.total)
        np.add.at(count_px, regions.carried, self.count_px)
        _add(strip, regions.run_rows, regions.run_cols, regions.run_regions, total, count_px)
        self.total, self.count_px = total, count_px

    def means(self, regions: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        """Return the mean confidence of some regions, NaN where there is none, and the pixels that have one."""
        count_px = self.count_px[regions]
        with np.errstate(invalid="ignore"):
            return {"confidence": self.total[regions] / count_px, "confidence_px": count_px}

    def keep(self, regions: NDArray[np.bool_]) -> None:
        """Drop all but some (region,)."""
        self.total, self.count_px = self.total[regions], self.count_px[regions]


@njit(cache=True, nogil=True)
def _add(strip: Any, run_rows: Any, run_cols: Any, run_regions: Any, total: Any, count_px: Any) -> None:
    for row in range(strip.shape[0]):
        for run in range(run_rows[row + 1], run_rows[row + 2]):
            region = run_regions[run]
            if region < 0:
                continue
            stop = run_cols[run + 1] if run + 1 < run_rows[row + 2] else strip.shape[1] + 2
            for col in range(run_cols[run] - 1, stop - 1):
                if not np.isnan(strip[row, col]):
                    total[region] += strip[row, col]
                    count_px[region] += 1
