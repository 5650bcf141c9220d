"""Labels as a raster on any grid, seen through the grid of a scene: class codes, or colors of a legend."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from geoseg.dataset.labels.labels import Decoded, content_of
from geoseg.errors import SceneError
from geoseg.legend import NODATA, Legend
from geoseg.raster import (
    ColorCodes,
    GeoBox,
    Palette,
    Patch,
    Scene,
    Strays,
    Window,
    is_placed,
    most_frequent,
    opened,
    palette_of,
    shown,
    warped,
    whole_numbers,
    whole_shift,
    whole_turns,
)

_RGB = (1, 2, 3)


@dataclass(frozen=True, slots=True)
class _OfRaster:
    """What all labels that are a raster answer."""

    scene: Scene

    @property
    def path(self) -> str:
        """The file of the raster."""
        return self.scene.path

    @property
    def files(self) -> list[str]:
        """The file of the raster."""
        return [self.scene.path]

    @property
    def meaning(self) -> object:
        """What tells two readings of the raster apart."""
        raise NotImplementedError

    def stamp(self) -> list[object]:
        """Return what changes whenever the raster may have."""
        return [self.scene.fingerprint(), repr(self.meaning)]

    def content(self) -> list[str]:
        """Return what changes with the bytes of the raster. SceneError where it is gone."""
        return [content_of(self.scene)]


@dataclass(frozen=True, slots=True)
class LabelRaster(_OfRaster):
    """One band of whole numbers."""

    codes: tuple[tuple[int, int], ...]
    """(code in the file, code in the legend), ascending."""
    tolerance: float
    """Share of pixels with other codes that is ignored instead of refused."""

    @property
    def meaning(self) -> object:
        """The codes, and how many pixels may have others."""
        return self.codes, self.tolerance

    def decode(self, grid: GeoBox, window: Window) -> Decoded:
        """Return the legend's codes in a window of a scene's grid; nearest neighbor where the grids differ.

        SceneError where the file is damaged, or nothing says how the two lie on each other.
        """
        patch = whole_numbers(read_on(self.scene, grid, window), shown(self.scene.path))
        stored, known = patch.data[0], np.array([theirs for theirs, _ in self.codes])
        ours = np.array([code for _, code in self.codes], np.uint8)
        at = np.searchsorted(known, stored).clip(max=len(known) - 1)
        is_known = (known[at] == stored) & patch.valid
        codes = np.where(is_known, ours[at], np.uint8(NODATA))
        is_stray = ~is_known & patch.valid & (stored != NODATA)
        pixels = int(np.count_nonzero(is_stray))
        found = tuple(f"code {code}" for code in most_frequent(stored[is_stray])) if pixels else ()
        return Decoded(codes, Strays(pixels, window.size, found))


@dataclass(frozen=True, slots=True)
class ColorMask(_OfRaster):
    """A picture in a legend's colors: red, green and blue, or one band with a palette; nothing is rounded to a color.

    Transparent pixels have no label.
    """

    legend: Legend
    tolerance: float
    """Share of pixels in other colors that is ignored instead of refused."""
    palette: Palette | None

    @property
    def meaning(self) -> object:
        """The legend, how many pixels may have other colors, and the palette."""
        meaning = self.legend, self.tolerance
        return meaning if self.palette is None else (*meaning, self.palette)

    @classmethod
    def open(cls, path: str, legend: Legend, tolerance: float, grid: GeoBox) -> ColorMask:
        """Describe a mask. SceneError when it is no picture of bytes, or cannot be laid upon the scene's `grid`."""
        with opened(path) as dataset:
            alpha, palette = dataset.count in (2, 4), palette_of(dataset)
            count, has_table = dataset.count - alpha, dataset.colorinterp[0].name == "palette"
        if not (count == 3 or has_table):
            raise SceneError(
                f"{shown(path)} has {count} band(s), a mask of colors has red, green and blue; "
                "give the codes of one band as label rasters"
            )
        scene = Scene.open(path, bands=_RGB if count == 3 else (1,))
        if scene.dtype != "uint8":
            raise SceneError(f"{shown(path)} holds {scene.dtype}, a mask of colors holds bytes (uint8)")
        _color_codes(legend, None)  # which refuses two classes of one color
        check_place(scene, grid)
        return cls(scene, legend, tolerance, None if count == 3 else palette)

    def decode(self, grid: GeoBox, window: Window) -> Decoded:
        """Return the codes in a window of a scene's grid; nearest neighbor where the grids differ. SceneError."""
        found = _color_codes(self.legend, self.palette).read(read_on(self.scene, grid, window))
        return Decoded(np.where(found.known, found.codes, NODATA).astype(np.uint8), found.strays)


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
            f"{grid.width_px}, and at least one has no CRS or no transform to align them by; "
            "georeference them, or give labels of the scene's size"
        )


def read_on(labels: Scene, grid: GeoBox, window: Window) -> Patch:
    """Read a window of a grid from a raster on another; where that has no pixel, nothing is valid. SceneError."""
    theirs = labels.geobox
    if theirs == grid or not (is_placed(theirs) and is_placed(grid)):
        check_place(labels, grid)
        return labels.read(window)
    shift = whole_shift(theirs, grid)
    if shift is not None and len(whole_turns(theirs, grid)) == 1:
        return labels.read(Window(window.row + shift[0], window.col + shift[1], window.height, window.width))
    return warped(labels, grid[window])


@lru_cache(maxsize=16)
def _color_codes(legend: Legend, palette: Palette | None) -> ColorCodes:
    return ColorCodes.of(legend, palette)
