"""The oracle: the windows of the grid summed over the whole scene, without tiles."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from geoseg.inference import Blend
from geoseg.inference.blend import axis_weights
from geoseg.legend import NODATA
from geoseg.raster import Scene, Window, WindowGrid
from tests.inference.position_engine import CLASSES, window_probabilities
from tests.model.mirrored import mirrored


def whole_probabilities(
    scene: Scene, grid: WindowGrid, blend: Blend, *, is_filled: bool = False
) -> NDArray[np.float32]:
    """Return the blended probabilities (class, row, col) of the whole scene, mirrored beyond its edges.

    `is_filled`: fill the gaps of each window, as networks and functions see them.
    """
    height = max(grid.height_px, grid.window_px)
    width = max(grid.width_px, grid.window_px)
    patch = scene.read(Window(0, 0, grid.height_px, grid.width_px))
    beyond = (0, height - grid.height_px), (0, width - grid.width_px)
    data = np.pad(patch.data, ((0, 0), *beyond), mode="symmetric")
    valid = np.pad(patch.valid, beyond, mode="symmetric")
    rows = axis_weights(grid.row_starts, grid.height_px, grid.window_px, blend)
    cols = axis_weights(grid.col_starts, grid.width_px, grid.window_px, blend)
    sums = np.zeros((CLASSES, height, width), np.float32)
    for i, row in enumerate(grid.row_starts):
        for j, col in enumerate(grid.col_starts):
            place = slice(row, row + grid.window_px), slice(col, col + grid.window_px)
            window = data[:, *place], valid[place]
            scored = window_probabilities(*(mirrored(*window) if is_filled else window))
            sums[:, *place] += scored * (rows[i][:, None] * cols[j][None, :])
    return sums[:, : grid.height_px, : grid.width_px]


def whole_map(
    scene: Scene, grid: WindowGrid, blend: Blend, codes: tuple[int, ...], *, is_filled: bool = False
) -> NDArray[np.uint8]:
    """Return the class codes (row, col) of the whole scene, 255 where it is not valid."""
    probabilities = whole_probabilities(scene, grid, blend, is_filled=is_filled)
    labels = np.asarray(codes, np.uint8)[probabilities.argmax(axis=0)]
    valid = scene.valid(Window(0, 0, grid.height_px, grid.width_px))
    return np.where(valid, labels, np.uint8(NODATA))
