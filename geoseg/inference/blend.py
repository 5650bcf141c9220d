"""How overlapping windows are weighted and summed, so that no seam shows.

The window grid is separable, and so are the weights: a pixel's weight in a window is its row's weight times its
column's. Each axis is normalized on its own (weights divided by their sum over the windows that cover the pixel), once,
before any pixel moves. No division is needed afterwards: probabilities times weights add up to probabilities, at the
edge of the scene as in its middle.

Windows come row by row. Pixels of a window that no later window touches are finished at once, while they are still in
the processor's cache. Pixels shared with the right neighbor or with the row of windows below are carried over to it. So
memory holds the overlaps of one row of windows, not the tile, and each pixel's terms are added in a fixed order. The
same code runs on numpy and torch arrays: it only slices and adds in place.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any, Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import UsageError
from geoseg.model import Engine

Blend = Literal["hann", "linear", "gaussian", "mean", "crop"]
"""How windows are weighted.

hann: raised cosine; linear: tent; gaussian: sigma of window/8 (nnU-Net, doi 10.1038/s41592-020-01008-z); mean: all
windows equally; crop: only the window whose center is nearest.
"""

DEFAULT_BLEND: Blend = "hann"
_GAUSSIAN_FLOOR = 1e-3
"""Fraction of the center's weight. Keeps float32 sums precise where only the edge of a window covers a pixel."""
_ROWS_AT_ONCE = 128
"""Rows of a window's probabilities processed at a time, so that they stay in the processor's cache."""


def check_blend(blend: str) -> Blend:
    """Return the blend's name; UsageError if there is no such blend."""
    if blend not in get_args(Blend):
        raise UsageError(f"`blend` must be one of {', '.join(get_args(Blend))}, got {blend!r}", "blend")
    return cast("Blend", blend)


def window_profile(blend: Blend, window_px: int) -> NDArray[np.float64]:
    """Return the unnormalized weight of each pixel of a window along one axis: positive, symmetric, (window_px,)."""
    position = (np.arange(window_px) + 0.5) / window_px
    if blend == "hann":
        return np.sin(np.pi * position) ** 2
    if blend == "gaussian":
        return np.maximum(np.exp(-0.5 * ((position - 0.5) * 8) ** 2), _GAUSSIAN_FLOOR)
    if blend == "mean":
        return np.ones(window_px)
    return 2 * np.minimum(position, position[::-1])  # equal to the last bit on both sides: crop compares them


def axis_weights(
    starts: tuple[int, ...], length_px: int, window_px: int, blend: Blend, indexes: Sequence[int] | None = None
) -> NDArray[np.float32]:
    """Return the normalized weights of windows along one axis, float32 (window, pixel in the window).

    For each pixel 0 .. length_px - 1 the weights of all windows that cover it sum to one. Pixels beyond the axis get
    zero. `indexes` are consecutive window indexes, all by default; the rest of the axis is then not computed.
    """
    indexes = range(len(starts)) if indexes is None else indexes
    first, last = starts[indexes[0]], starts[indexes[-1]]
    near = [index for index, start in enumerate(starts) if first - window_px < start < last + window_px]
    origin = starts[near[0]]
    weights = _near_weights([starts[index] - origin for index in near], window_px, blend)
    chosen = weights[indexes[0] - near[0] : indexes[-1] - near[0] + 1]
    inside = np.add.outer([starts[index] for index in indexes], np.arange(window_px)) < length_px
    return np.where(inside, chosen, 0).astype(np.float32)


def _near_weights(starts: list[int], window_px: int, blend: Blend) -> NDArray[np.float64]:
    """Return the weights of consecutive windows; the first and last ones may lack a neighbor."""
    profile = window_profile(blend, window_px)
    length_px = starts[-1] + window_px
    if blend == "crop":
        return _nearest_center(starts, length_px, profile)
    total = np.zeros(length_px)
    for start in starts:
        total[start : start + window_px] += profile
    return np.stack([profile / total[start : start + window_px] for start in starts])


def _nearest_center(starts: list[int], length_px: int, tent: NDArray[np.float64]) -> NDArray[np.float64]:
    best = np.zeros(length_px)
    owner = np.zeros(length_px, dtype=np.intp)
    for index, start in enumerate(starts):
        span = slice(start, start + tent.size)
        nearer = tent > best[span]  # a tie stays with the first window
        best[span] = np.where(nearer, tent, best[span])
        owner[span] = np.where(nearer, index, owner[span])
    return np.stack([owner[start : start + tent.size] == i for i, start in enumerate(starts)]).astype(np.float64)


class Overlaps:
    """Partial sums of weighted probabilities of one tile that still need later windows.

    Rows and columns count from the first pixel of the windows that touch the tile.
    """

    def __init__(self, engine: Engine, width_px: int, window_px: int) -> None:
        self._engine = engine
        self._width_px = width_px
        self._window_px = window_px
        self._above: Any = None  # (class, row, col): from the row of windows above, as wide as all of them
        self._below: Any = None
        self._left: Any = None  # (class, row, col): from the window on the left, as tall as a window

    @property
    def is_empty(self) -> bool:
        """Whether no partial sums are pending for the next row of windows."""
        return self._below is None

    def start_row(self, shared_px: int) -> None:
        """Move on to the next row of windows, which shares `shared_px` rows of pixels with the one below it."""
        spare, self._above, self._left, self._below = self._above, self._below, None, None
        if shared_px <= 0:
            return
        if spare is None or spare.shape[1] < shared_px:
            spare = self._engine.zeros((self._engine.classes, shared_px, self._width_px))
        self._below = spare[:, :shared_px]  # not zeroed: the windows of this row write every pixel

    def finish(self, weighted: Any, col: int, shared_px: int) -> Any:  # noqa: ANN401
        """Add the pending sums to a window's weighted probabilities (class, row, col), and return its finished part.

        `col` is its first column, `shared_px` how many columns it shares with the next window, 0 for the last. The
        finished part (class, row, col) begins at its first pixel. `weighted` is modified in place.
        """
        left_px = 0 if self._left is None else self._left.shape[2]
        if left_px:
            weighted[:, :, :left_px] += self._left
        if self._above is not None:  # the left columns got theirs through the window on the left
            rows = self._above.shape[1]
            weighted[:, :rows, left_px:] += self._above[:, :, col + left_px : col + self._window_px]
        own_cols = self._window_px - shared_px
        self._left = weighted[:, :, own_cols:] if shared_px else None
        if self._below is None:
            return weighted[:, :, :own_cols]
        own_rows = self._window_px - self._below.shape[1]
        self._below[:, :, col : col + own_cols] = weighted[:, own_rows:, :own_cols]
        return weighted[:, :own_rows, :own_cols]


def most_probable(engine: Engine, probabilities: Any) -> tuple[Any, Any]:  # noqa: ANN401
    """Return the channel of the highest probability, uint8 (row, col), and that probability, float32 (row, col).

    A tie goes to the first channel. With few classes, a running maximum is many times faster than numpy's argmax over
    the first axis and twice as fast as torch's max over it. A GPU does it in one call.
    """
    xp = engine.xp
    if xp is not np and probabilities.device.type != "cpu":
        best, channel = xp.max(probabilities, 0)
        return channel.to(xp.uint8), best
    best = xp.empty_like(probabilities[0])
    channel = xp.zeros_like(best, dtype=xp.uint8)
    for row in range(0, best.shape[0], _ROWS_AT_ONCE):
        rows = slice(row, row + _ROWS_AT_ONCE)
        _rise(probabilities[:, rows], best[rows], channel[rows], xp)
    return channel, best


def _rise(probabilities: Any, highest: Any, channel: Any, xp: ModuleType) -> None:  # noqa: ANN401
    """Write the highest probability and its channel: the last one that exceeds all before it."""
    highest[:] = probabilities[0]
    for index in range(1, len(probabilities)):
        higher = (probabilities[index] > highest).view(channel.dtype)
        xp.maximum(highest, probabilities[index], out=highest)
        higher *= index
        xp.maximum(channel, higher, out=channel)


def percent(engine: Engine, probabilities: Any) -> Any:  # noqa: ANN401
    """Return probabilities as whole percentages, a uint8 array of the engine's own kind."""
    xp = engine.xp
    whole = xp.clip(probabilities * 100 + 0.5, 0, 100)
    return xp.asarray(whole, dtype=xp.uint8)
