"""How much of each class a map has: all its pixels where they are not too many, else an even sample of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import numpy as np

from geoseg.display.shrunk import Shrunk
from geoseg.display.slots import Slots
from geoseg.legend import NODATA
from geoseg.raster import GeoBox, Window

COUNTED_PX = 100_000_000
"""Maps of more pixels are counted in an overview."""
_EVEN = 1e-9
_STRIPS = 64
_STRIP_PX = 8_000_000


@dataclass(frozen=True, slots=True)
class Tally:
    """Areas by code, the nodata left out."""

    areas: dict[int, float]
    """m2 on the ground, or pixels where `in_px`."""
    in_px: bool
    step: float
    """One pixel in so many rows and columns was counted; 1 is all of them."""

    @classmethod
    def of(cls, landcover: Shrunk, slots: Slots) -> Self:
        """Count a map's codes, strip by strip: a pixel's area differs from north to south."""
        scene = landcover.scene
        rows, cols = scene.shape
        thinned = max(1.0, math.sqrt(rows * cols / COUNTED_PX))
        sums = np.zeros(NODATA + 1)
        in_px, even_gsd_m = scene.geobox.gsd_m is None, _even_gsd_m(scene.geobox)
        with landcover.at(thinned if thinned == 1.0 else thinned * 2) as (dataset, factor):
            step_row, step_col = rows / dataset.height, cols / dataset.width
            height = max(1, min(math.ceil(dataset.height / _STRIPS), _STRIP_PX // dataset.width))
            for top in range(0, dataset.height, height):
                count = min(height, dataset.height - top)
                area = ((top, top + count), (0, dataset.width))
                codes = dataset.read(1, window=area)
                valid = dataset.dataset_mask(window=area) if dataset.count == 1 else dataset.read(2, window=area)
                strip = Window(round(top * step_row), 0, max(1, round(count * step_row)), cols)
                pixel = 1.0 if in_px else (even_gsd_m or typical_gsd_m(scene.geobox[strip]) or 0.0) ** 2
                counts = np.bincount(slots.of(codes, valid != 0).ravel(), minlength=NODATA + 1)
                sums += counts * (pixel * step_row * step_col)
        areas = {code: float(sums[slots[code]]) for code in sorted(slots.codes)}
        return cls({code: area for code, area in areas.items() if area}, in_px, factor)


def typical_gsd_m(box: GeoBox) -> float | None:
    """Return metres a pixel on the ground, from five places: the centre alone may be a pole, where none can be told."""
    found = [gsd_m for gsd_m in _gsds_m(box, 2) if gsd_m is not None]
    return float(np.median(found)) if found else None


def _even_gsd_m(box: GeoBox) -> float | None:
    """Return metres a pixel where they are the same all over the map; None where they are not, or not known."""
    found = [*_gsds_m(box, 2), *_gsds_m(box, 64)]
    if any(gsd_m is None or abs(gsd_m / (found[0] or 1.0) - 1) > _EVEN for gsd_m in found):
        return None
    return found[0]


def _gsds_m(box: GeoBox, share: int) -> list[float | None]:
    """Return metres a pixel in the middle of the map, and of four parts of that share of a side in its corners."""
    height, width = max(1, box.height_px // share), max(1, box.width_px // share)
    corners = [(row, col) for row in (0, box.height_px - height) for col in (0, box.width_px - width)]
    return [part.gsd_m for part in (box, *(box[Window(row, col, height, width)] for row, col in corners))]
