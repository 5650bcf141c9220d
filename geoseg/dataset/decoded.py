"""The class codes in a window, and how many pixels of it hold what no legend knows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geoseg.raster import Strays


@dataclass(frozen=True, slots=True)
class Decoded:
    """The labels of a window."""

    codes: NDArray[np.uint8]
    """(row, col); 255 where there is no label, strays among them."""
    strays: Strays
