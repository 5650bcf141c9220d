"""Labels decoded window by window without a cache, for comparison with what was written."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from geoseg.dataset import Pair
from geoseg.legend import NODATA
from geoseg.raster import Strays, Window


def reference_codes(pair: Pair, window: Window) -> NDArray[np.uint8]:
    """Return the class codes (row, col) in a window of the scene's grid; the window may extend beyond the scene.

    They are 255 where there is no label, where the scene is not valid, and outside the scene. Raise SceneError if a
    file is damaged or holds too large a share of colors or codes that are not in the legend.
    """
    check_labels(pair)
    codes = np.full(window.shape, NODATA, np.uint8)
    inside = window.intersection(pair.whole)
    if inside is not None:
        found = pair.decode(inside).codes
        found[~pair.scene.valid(inside)] = NODATA
        place = inside.relative_to(window)
        codes[place.rows, place.cols] = found
    return codes


def check_labels(pair: Pair) -> str | None:
    """Scan all labels of a pair; return a note if some are ignored, raise SceneError if too many are."""
    if pair.labels.tolerance is None:
        return None
    return pair.judge(sum((pair.decode(window).strays for window in pair.strips()), Strays()))
