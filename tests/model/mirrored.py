"""The oracle for what a network sees in a gap: for each pixel, search along its row and column."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def mirrored(image: NDArray[Any], valid: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return the image (band, row, col) with its gaps filled, and the mask (row, col) of visible pixels."""
    found, seen = image.astype(np.float64), valid.copy()
    height, width = valid.shape
    for row, col in np.argwhere(~valid):
        for distance in range(1, max(height, width)):
            steps = [(0, -distance), (0, distance), (-distance, 0), (distance, 0)]
            edges = [(row + down, col + right) for down, right in steps]
            edges = [at for at in edges if 0 <= at[0] < height and 0 <= at[1] < width and valid[at]]
            if not edges:
                continue
            beyond = [(2 * at[0] - row, 2 * at[1] - col) for at in edges]
            sources = [
                far if 0 <= far[0] < height and 0 <= far[1] < width and valid[far] else near
                for far, near in zip(beyond, edges, strict=True)
            ]
            found[:, row, col] = np.mean([image[:, at[0], at[1]].astype(np.float64) for at in sources], axis=0)
            seen[row, col] = True
            break
    return found, seen
