"""Labels as a raster of class codes on any grid, seen through the grid of a scene."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from geoseg.dataset.decoded import Decoded
from geoseg.errors import SceneError
from geoseg.legend import NODATA
from geoseg.raster import (
    GeoBox,
    Patch,
    Scene,
    Strays,
    Window,
    is_placed,
    shown,
    some,
    turns,
    warped,
    whole_numbers,
    whole_shift,
)


@dataclass(frozen=True, slots=True)
class LabelRaster:
    """One band of whole numbers."""

    scene: Scene
    codes: tuple[tuple[int, int], ...]
    """(code in the file, code in the legend), ascending."""
    tolerance: float
    """Share of pixels with other codes that is ignored instead of refused."""

    def decode(self, grid: GeoBox, window: Window) -> Decoded:
        """Return the legend's codes in a window of a scene's grid; nearest neighbour where the grids differ.

        SceneError where the file is damaged, or the two have no place in common to be laid upon each other by.
        """
        patch = whole_numbers(read_on(self.scene, grid, window), shown(self.scene.path))
        stored, known = patch.data[0], np.array([theirs for theirs, _ in self.codes])
        ours = np.array([code for _, code in self.codes], np.uint8)
        at = np.searchsorted(known, stored).clip(max=len(known) - 1)
        is_known = (known[at] == stored) & patch.valid
        codes = np.where(is_known, ours[at], np.uint8(NODATA))
        is_stray = ~is_known & patch.valid & (stored != NODATA)
        pixels = int(np.count_nonzero(is_stray))
        found = tuple(f"code {code}" for code in some(stored[is_stray])) if pixels else ()
        return Decoded(codes, Strays(pixels, window.size, found))


def check_codes(scene: Scene) -> None:
    """Raise SceneError unless a raster is one band of numbers; that floats are whole is seen when they are read."""
    if len(scene.band_indexes) != 1 or np.dtype(scene.dtype).kind not in "iuf":
        raise SceneError(
            f"{shown(scene.path)} has {len(scene.band_indexes)} band(s) of {scene.dtype}; labels are one band of "
            "whole numbers, or a picture in the colors of a legend"
        )


def check_place(labels: Scene, grid: GeoBox) -> None:
    """Raise SceneError unless labels can be laid upon a scene's grid: by their places, or pixel by pixel."""
    if is_placed(labels.geobox) and is_placed(grid):
        return
    if labels.shape != grid.shape:
        raise SceneError(
            f"{shown(labels.path)} is {labels.shape[0]} x {labels.shape[1]} pixels, its scene {grid.height_px} x "
            f"{grid.width_px}, and not both have a CRS and a transform to be laid upon each other by; "
            "georeference them, or give labels of the scene's size"
        )


def read_on(labels: Scene, grid: GeoBox, window: Window) -> Patch:
    """Read a window of a grid from a raster on another; where that has no pixel, nothing is valid. SceneError."""
    theirs = labels.geobox
    if theirs == grid or not (is_placed(theirs) and is_placed(grid)):
        check_place(labels, grid)
        return labels.read(window)
    shift = whole_shift(theirs, grid)
    if shift is not None and len(turns(theirs, grid)) == 1:
        return labels.read(Window(window.row + shift[0], window.col + shift[1], window.height, window.width))
    return warped(labels, grid[window])
