"""Labels of one legend read as another's: each class as one class, as a set of classes, or as none."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geoseg.dataset.color_mask import ColorMask
from geoseg.dataset.decoded import Decoded
from geoseg.dataset.label_polygons import LabelPolygons
from geoseg.dataset.label_raster import LabelRaster
from geoseg.dataset.whole_label import WholeLabel
from geoseg.legend import NODATA
from geoseg.raster import GeoBox, Window

OwnLabels = ColorMask | LabelRaster | LabelPolygons | WholeLabel
"""Labels as a data set has them."""


@dataclass(frozen=True, slots=True)
class BuiltUp:
    """What turns single buildings and roads into the blocks that they stand in.

    A pixel is of the class `code` where the classes `fills` have more than a share of the labelled pixels of a square
    around it: the share that its own class has in `absorbed`. Other classes stay as they are.
    """

    fills: tuple[int, ...]
    """Codes of the labels' own legend."""
    code: int
    """Of the target's legend."""
    around_px: int
    """Edge of the square, odd."""
    absorbed: tuple[tuple[int, float], ...]
    """(code of the labels' own legend, share), ascending by code."""


@dataclass(frozen=True, slots=True)
class MappedLabels:
    """Labels, and which code of the target each of theirs becomes."""

    own: OwnLabels
    table: bytes
    """256 codes of the target: classes, sets of classes, or 255."""
    built_up: BuiltUp | None = None

    def decode(self, grid: GeoBox, window: Window) -> Decoded:
        """Return the target's codes in a window inside the scene. SceneError as the labels' own."""
        found = self.own.decode(grid, window)
        codes = np.frombuffer(self.table, np.uint8)[found.codes]
        if self.built_up is not None:
            shares = self._shares(self.built_up, grid, window)
            least = np.full(256, np.inf, np.float32)
            for own, share in self.built_up.absorbed:
                least[own] = share
            codes[shares > least[found.codes]] = self.built_up.code
        return Decoded(codes, found.strays)

    def _shares(self, built_up: BuiltUp, grid: GeoBox, window: Window) -> NDArray[np.float32]:
        """Return (row, col) how much of the labelled pixels in the square around each is built."""
        half = built_up.around_px // 2
        wide = Window(window.row - half, window.col - half, window.height + 2 * half, window.width + 2 * half)
        inside = wide.intersection(Window(0, 0, grid.height_px, grid.width_px))
        if inside is None:
            return np.zeros(window.shape, np.float32)
        codes = self.own.decode(grid, inside).codes
        place = inside.relative_to(wide)
        sums = []
        for there in (np.isin(codes, built_up.fills), codes != NODATA):
            whole = np.zeros(wide.shape, np.bool_)
            whole[place.rows, place.cols] = there
            sums.append(_boxes(whole, built_up.around_px))
        return (sums[0] / np.maximum(sums[1], 1)).astype(np.float32)


def _boxes(there: NDArray[np.bool_], edge_px: int) -> NDArray[np.int32]:
    """Return how many pixels of each square are there: (row - edge + 1, col - edge + 1)."""
    down = np.zeros((there.shape[0] + 1, there.shape[1]), np.int32)
    np.cumsum(there, axis=0, dtype=np.int32, out=down[1:])
    rows = down[edge_px:] - down[:-edge_px]
    across = np.zeros((rows.shape[0], rows.shape[1] + 1), np.int32)
    np.cumsum(rows, axis=1, out=across[:, 1:])
    sums: NDArray[np.int32] = across[:, edge_px:] - across[:, :-edge_px]
    return sums
