"""What a pixel of a map measures on the ground, row by row where rows differ."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from geoseg.evaluation.tally import Tally
from geoseg.raster.geobox import GeoBox
from geoseg.vector.measure import zones_m2
from geoseg.vector.pixel_size import PixelSize
from geoseg.vector.surface import Surface


@dataclass(frozen=True, slots=True)
class Ground:
    """The area of a pixel."""

    unit: str
    """m2, or px where the raster has no place."""
    pixel: float
    """Of the middle row."""
    rows: NDArray[np.float64] | None
    """(row,); None where all are alike."""

    @classmethod
    def of(cls, geobox: GeoBox) -> Self:
        """Measure a raster's pixels. SceneError where the transform has no area, or no place on the ellipsoid.

        In a geographic CRS rows differ along the parallels; in a rotated one all pixels count as the middle one.
        """
        surface, size = Surface.of(geobox), PixelSize.of(geobox)
        unit = "px" if surface.in_px else "m2"
        transform = geobox.transform
        if not surface.is_ellipsoid or transform.b or transform.d:
            return cls(unit, size.area_m2, None)
        y = transform.f + transform.e * np.arange(geobox.height_px + 1)
        lats = np.clip(y * surface.matrix[3], -math.pi / 2, math.pi / 2)
        return cls(unit, size.area_m2, np.abs(zones_m2(lats, surface) * transform.a * surface.matrix[0]))

    def by_pair(self, tally: Tally) -> dict[tuple[int, int], float]:
        """Return the area by code in the reference and in the map."""
        if self.rows is not None:
            return tally.areas
        return {pair: pixels * self.pixel for pair, pixels in tally.pixels.items()}

    def by_map_code(self, tally: Tally) -> dict[int, float]:
        """Return the area by code in the map, with a reference or without."""
        sums: dict[int, float] = {}
        for (_, code), area in self.by_pair(tally).items():
            sums[code] = sums.get(code, 0.0) + area
        return sums
