"""How overlapping windows are weighted, so that no seam shows and every pixel's weights sum to one.

The window grid is separable, so are the weights: a pixel's weight in a window is its row's weight times its column's.
Each axis is normalized on its own (weights divided by their sum over the windows that cover the pixel), once, before
any pixel moves. Then nothing is left to divide: probabilities times weights add up to probabilities, on the rim of the
scene as in its middle.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import UsageError

Blend = Literal["hann", "linear", "gaussian", "mean", "crop"]
"""How windows are weighted.

hann: raised cosine; linear: tent; gaussian: sigma of window/8 (nnU-Net, doi 10.1038/s41592-020-01008-z); mean: all
windows alike; crop: the window whose centre is nearest, alone.
"""

DEFAULT_BLEND: Blend = "hann"
_GAUSSIAN_FLOOR = 1e-3
"""Of the centre's weight, so that a float32 sum keeps its digits where only the rim of a window covers a pixel."""


def check_blend(blend: str) -> Blend:
    """Return the blend's name; UsageError if there is none such."""
    if blend not in get_args(Blend):
        raise UsageError(f"blend must be one of {', '.join(get_args(Blend))}, got {blend!r}")
    return cast("Blend", blend)


def window_profile(blend: Blend, window_px: int) -> NDArray[np.float64]:
    """Return the weight of each pixel of a window along one axis, not normalized: positive, symmetric, (window_px,)."""
    position = (np.arange(window_px) + 0.5) / window_px
    if blend == "hann":
        return np.sin(np.pi * position) ** 2
    if blend == "gaussian":
        return np.maximum(np.exp(-0.5 * ((position - 0.5) * 8) ** 2), _GAUSSIAN_FLOOR)
    if blend == "mean":
        return np.ones(window_px)
    return np.asarray(1 - np.abs(2 * position - 1))


def axis_weights(
    starts: tuple[int, ...], length_px: int, window_px: int, blend: Blend, wanted: Sequence[int] | None = None
) -> NDArray[np.float32]:
    """Return the normalized weights of windows along one axis, float32 (window, pixel in the window).

    For each pixel 0 .. length_px - 1 the weights of all windows that cover it sum to one. Pixels beyond the axis weigh
    nothing. `wanted` are consecutive indexes of windows, by default all; the rest of the axis then costs nothing.
    """
    wanted = range(len(starts)) if wanted is None else wanted
    first, last = starts[wanted[0]], starts[wanted[-1]]
    near = [index for index, start in enumerate(starts) if first - window_px < start < last + window_px]
    origin = starts[near[0]]
    weights = _near_weights([starts[index] - origin for index in near], window_px, blend)
    chosen = weights[wanted[0] - near[0] : wanted[-1] - near[0] + 1]
    inside = np.add.outer([starts[index] for index in wanted], np.arange(window_px)) < length_px
    return np.where(inside, chosen, 0).astype(np.float32)


def _near_weights(starts: list[int], window_px: int, blend: Blend) -> NDArray[np.float64]:
    """Return the weights of neighbouring windows; those at either end may lack neighbours of their own."""
    profile = window_profile(blend, window_px)
    length_px = starts[-1] + window_px
    if blend == "crop":
        return _nearest_centre(starts, length_px, profile)
    total = np.zeros(length_px)
    for start in starts:
        total[start : start + window_px] += profile
    return np.stack([profile / total[start : start + window_px] for start in starts])


def _nearest_centre(starts: list[int], length_px: int, tent: NDArray[np.float64]) -> NDArray[np.float64]:
    best = np.zeros(length_px)
    owner = np.zeros(length_px, dtype=np.intp)
    for index, start in enumerate(starts):
        span = slice(start, start + tent.size)
        nearer = tent > best[span]  # a tie stays with the first window
        best[span] = np.where(nearer, tent, best[span])
        owner[span] = np.where(nearer, index, owner[span])
    return np.stack([owner[start : start + tent.size] == i for i, start in enumerate(starts)]).astype(np.float64)
