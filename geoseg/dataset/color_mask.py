"""Labels as a picture: each class is a colour, and nothing is rounded to it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from geoseg.dataset.decoded import Decoded, Strays, some
from geoseg.errors import SceneError, UsageError
from geoseg.legend import NODATA, Legend
from geoseg.raster.environment import shown
from geoseg.raster.geobox import GeoBox
from geoseg.raster.handles import opened
from geoseg.raster.scene import Scene
from geoseg.raster.windows import Window

_RGB = (1, 2, 3)


@dataclass(frozen=True, slots=True)
class ColorMask:
    """A picture of the scene's own size in a legend's colours. Transparent pixels have no label."""

    scene: Scene
    """The picture: red, green and blue, or one band with a colour table."""
    legend: Legend
    tolerance: float
    """Share of pixels in other colours that is ignored instead of refused."""

    @classmethod
    def open(cls, path: str, legend: Legend, tolerance: float, grid: GeoBox) -> ColorMask:
        """Describe a mask. SceneError when it is no picture of bytes, or of another size than the scene's `grid`."""
        with opened(path) as dataset:
            alpha = dataset.count in (2, 4)
            count, has_table = dataset.count - alpha, dataset.colorinterp[0].name == "palette"
        if not (count == 3 or has_table):
            raise SceneError(
                f"{shown(path)} has {count} band(s), a mask of colours has red, green and blue; "
                "give the codes of one band as a label raster with --labels"
            )
        scene = Scene.open(path, bands=_RGB if count == 3 else (1,))
        if scene.dtype != "uint8":
            raise SceneError(f"{shown(path)} holds {scene.dtype}, a mask of colours holds bytes (uint8)")
        check_colors(legend)
        if scene.shape != grid.shape:
            raise SceneError(
                f"{shown(path)} is {scene.shape[0]} x {scene.shape[1]} pixels, its scene {grid.height_px} x "
                f"{grid.width_px}; a mask of colours has the size of its scene"
            )
        return cls(scene, legend, tolerance)

    def decode(self, _grid: GeoBox, window: Window) -> Decoded:
        """Return the codes in a window inside the picture. SceneError where the file is damaged."""
        patch = self.scene.read(window)
        if len(self.scene.band_indexes) == 1:
            keys = _table_keys(self.scene.path)[patch.data[0]]
        else:
            red, green, blue = (band.astype(np.uint32) for band in patch.data)
            keys = red << 16 | green << 8 | blue
        codes = _codes_by_color(self.legend)[keys]
        is_stray = codes == NODATA
        if not patch.valid.all():
            is_stray &= patch.valid
            codes[~patch.valid] = NODATA
        pixels = int(np.count_nonzero(is_stray))
        colors = (f"rgb({key >> 16},{key >> 8 & 255},{key & 255})" for key in some(keys[is_stray])) if pixels else ()
        return Decoded(codes, Strays(pixels, window.size, tuple(colors)))


def check_colors(legend: Legend) -> None:
    """Raise UsageError when two classes share a colour: a mask could not tell them apart."""
    owners: dict[tuple[int, int, int], str] = {}
    for land_cover in legend:
        other = owners.setdefault(land_cover.color, land_cover.name)
        if other != land_cover.name:
            raise UsageError(f"{other} and {land_cover.name} share the colour {land_cover.color}; give each its own")


@lru_cache(maxsize=2)
def _codes_by_color(legend: Legend) -> NDArray[np.uint8]:
    """Return (2^24,) red * 65536 + green * 256 + blue -> code; few of the 16 MB are ever looked at."""
    table = np.full(1 << 24, NODATA, np.uint8)
    for land_cover in legend:
        red, green, blue = land_cover.color
        table[red << 16 | green << 8 | blue] = land_cover.code
    table.flags.writeable = False
    return table


@lru_cache(maxsize=64)
def _table_keys(path: str) -> NDArray[np.uint32]:
    with opened(path) as dataset:
        colors = dataset.colormap(1)
    keys = np.zeros(256, np.uint32)
    for index, (red, green, blue, *_) in colors.items():
        keys[index] = red << 16 | green << 8 | blue
    return keys
