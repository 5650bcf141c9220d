"""What a pixel of a map measures on the ground, row by row where rows differ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from geoseg.evaluation.tally import Tally
from geoseg.raster import GeoBox, Surface
from geoseg.vector import PixelSize, row_areas_m2


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
        if not surface.is_ellipsoid or geobox.transform.b or geobox.transform.d:
            return cls(unit, size.area_m2, None)
        return cls(unit, size.area_m2, row_areas_m2(geobox, surface))

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
