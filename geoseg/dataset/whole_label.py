"""One label for an image as a whole: the folder that it lies in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from geoseg.dataset.decoded import Decoded
from geoseg.raster import GeoBox, Strays, Window


@dataclass(frozen=True, slots=True)
class WholeLabel:
    """Every pixel of an image has one class."""

    path: str
    """The image."""
    code: int

    def decode(self, _grid: GeoBox, window: Window) -> Decoded:
        """Return the code everywhere in a window."""
        return Decoded(np.full(window.shape, self.code, np.uint8), Strays(0, window.size))
