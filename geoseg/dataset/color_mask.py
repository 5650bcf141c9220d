"""Labels as a picture: each class is a color, and nothing is rounded to it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from geoseg.dataset.decoded import Decoded
from geoseg.dataset.label_raster import check_place, read_on
from geoseg.errors import SceneError
from geoseg.legend import NODATA, Legend
from geoseg.raster import ColorCodes, GeoBox, Palette, Scene, Window, opened, palette_of, shown

_RGB = (1, 2, 3)


@dataclass(frozen=True, slots=True)
class ColorMask:
    """A picture in a legend's colors. Transparent pixels have no label."""

    scene: Scene
    """The picture: red, green and blue, or one band with a palette."""
    legend: Legend
    tolerance: float
    """Share of pixels in other colors that is ignored instead of refused."""
    palette: Palette | None

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


@lru_cache(maxsize=16)
def _color_codes(legend: Legend, palette: Palette | None) -> ColorCodes:
    return ColorCodes.of(legend, palette)
