"""Strips of a raster as the kernels want them: framed, each with the last row of the one above."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray


def framed(strips: Iterable[NDArray[Any]], background: int) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield (raster row of the frame's row 1, frame) for strips (row, col) in order, and a last one: a row of background.

    A frame has a column of background left and right, and in row 0 the last row of the strip above. What is open ends
    in the row of background below the raster, so nothing is left when the last frame is done.
    """
    first_row = 0
    above: NDArray[Any] | None = None
    for strip in strips:
        rows, cols = strip.shape
        frame = np.empty((rows + 1, cols + 2), strip.dtype)
        frame[:, [0, -1]] = background
        frame[0] = background if above is None else above
        frame[1:, 1:-1] = strip
        above = frame[-1].copy()
        yield first_row, frame
        first_row += rows
    if above is not None:
        yield first_row, np.stack([above, np.full_like(above, background)])
