"""Strips of a raster as the kernels want them: framed, each with the last row of the one above."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray


def framed(strips: Iterable[NDArray[Any]], background: int) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield (raster row of the frame's row 1, frame) for strips (row, col) in order.

    A frame has a column of background left and right, in row 0 the last row of the strip above (background above the
    raster), and in the last strip one more row of background below: there ends whatever is open.
    """
    first_row = 0
    above: NDArray[Any] | None = None
    coming = iter(strips)
    strip = next(coming, None)
    while strip is not None:
        following = next(coming, None)
        rows, cols = strip.shape
        frame = np.empty((rows + 1 + (following is None), cols + 2), strip.dtype)
        frame[:, [0, -1]] = background
        frame[0] = background if above is None else above
        frame[1 : rows + 1, 1:-1] = strip
        if following is None:
            frame[-1] = background
        above = frame[-1].copy()
        yield first_row, frame
        first_row += rows
        strip = following
