"""Window probabilities summed where windows overlap, with nothing kept but the overlaps.

Windows come row by row. Of each, the pixels that no later window touches are finished at once, while they are still in
the processor's cache; what it shares with its right neighbour and with the row of windows below is carried there. So
the sums need the overlaps of one row of windows, not the tile, and a pixel's summands keep their order. Written once
for numpy and torch arrays: only slicing and in-place sums.
"""

from __future__ import annotations

from typing import Any

from geoseg.model import Engine


class Overlaps:
    """Sums of weighted probabilities that wait for a later window, for one tile.

    Rows and columns are counted from the first pixel of the windows that touch the tile.
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
        """Whether nothing waits for the next row of windows."""
        return self._below is None

    def start_row(self, shared_px: int) -> None:
        """Go down to the next row of windows, which will share so many pixels with the one below it."""
        self._above, self._left, self._below = self._below, None, None
        if shared_px > 0:
            self._below = self._engine.zeros((self._engine.classes, shared_px, self._width_px))

    def finish(self, weighted: Any, col: int, shared_px: int) -> Any:  # noqa: ANN401
        """Add what waits for a window to its weighted probabilities (class, row, col), and return its finished part.

        `col` is its first column, `shared_px` how many columns it shares with the next window, 0 for the last. The
        finished part (class, row, col) begins at its first pixel. The array given is changed.
        """
        left_px = 0 if self._left is None else self._left.shape[2]
        if left_px:
            weighted[:, :, :left_px] += self._left
        if self._above is not None:  # the columns on the left have had theirs, through the window there
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

    A tie goes to the first channel. A running maximum over the few classes is nine times as fast as numpy's argmax over
    the first axis.
    """
    xp = engine.xp
    best = probabilities[0] + 0
    channel = xp.zeros_like(best, dtype=xp.uint8)
    for index in range(1, engine.classes):
        higher = (probabilities[index] > best).view(xp.uint8)
        xp.maximum(channel, higher * index, out=channel)  # indexes ascend, so the larger is the later winner
        xp.maximum(best, probabilities[index], out=best)
    return channel, best


def percent(engine: Engine, probabilities: Any) -> Any:  # noqa: ANN401
    """Return probabilities as whole percents, uint8 of the engine's own arrays."""
    xp = engine.xp
    whole = xp.clip(probabilities * 100 + 0.5, 0, 100)
    return xp.asarray(whole, dtype=xp.uint8)
