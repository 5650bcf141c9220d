"""The sliding band of rows in which window probabilities are summed.

Windows come row by row. Once the next row of windows starts below a pixel, that pixel is finished; so the sum needs as
many rows as a window has, never the whole tile. Written once for numpy and torch arrays: only slicing, in-place sums
and comparisons.
"""

from __future__ import annotations

from typing import Any

from geoseg.model.engines import Engine
from geoseg.raster.windows import Window


class RowBand:
    """Sums of weighted probabilities for the rows of one tile that are not finished yet.

    The buffer is (class, row, col): as wide as the tile, as tall as a window, float32, on the engine's device.
    """

    def __init__(self, engine: Engine, tile: Window, window_px: int) -> None:
        self._engine = engine
        self._tile = tile
        self._window_px = window_px
        self._row = tile.row - window_px  # scene row of the buffer's first row; nothing summed yet
        self._sums = engine.zeros((engine.classes, window_px, tile.width))

    def start_row(self, row: int) -> None:
        """Move the band down so that it starts at this scene row; take the rows above with `finished` before."""
        kept_px = max(self._row + self._window_px - row, 0)
        if kept_px:
            kept = self._sums[:, self._window_px - kept_px :]
            if 2 * kept_px > self._window_px:  # the rows would be overwritten before they are moved
                kept = kept + 0
            self._sums[:, :kept_px] = kept
        self._sums[:, kept_px:] = 0
        self._row = row

    def add(self, weighted: Any, window: Window) -> None:  # noqa: ANN401
        """Add one window's probabilities (class, row, col), already times their weights."""
        shared = window.intersection(Window(self._row, self._tile.col, self._window_px, self._tile.width))
        if shared is not None:
            here = shared.col - self._tile.col
            self._sums[:, :, here : here + shared.width] += weighted[:, :, shared.relative_to(window).cols]

    def finished(self, row_stop: int) -> tuple[Window, Any] | None:
        """Return the tile's finished pixels above a scene row, and their probabilities (class, row, col)."""
        rows = Window(self._row, self._tile.col, row_stop - self._row, self._tile.width).intersection(self._tile)
        if rows is None:
            return None
        first = rows.row - self._row
        return rows, self._sums[:, first : first + rows.height]


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
