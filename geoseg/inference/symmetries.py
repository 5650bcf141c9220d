"""Test-time augmentation: the mean of what a network says of a window turned and mirrored, as an engine of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import UsageError
from geoseg.model import Engine, Weights
from geoseg.raster import Window

_COUNTS = (1, 2, 4, 8)


@dataclass(frozen=True, slots=True)
class _Turn:
    """Transposed or not, then mirrored along rows and columns or not: the eight symmetries of a square."""

    transpose: bool
    flip_rows: bool
    flip_cols: bool

    def of_pixels(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """Turn pixels (..., row, col)."""
        turned = pixels.swapaxes(-1, -2) if self.transpose else pixels
        return np.ascontiguousarray(turned[..., :: -1 if self.flip_rows else 1, :: -1 if self.flip_cols else 1])

    def of_window(self, window: Window, shape: tuple[int, int]) -> Window:
        """Turn a window of a footprint of that shape."""
        row, col, height, width = window.row, window.col, window.height, window.width
        if self.transpose:
            row, col, height, width, shape = col, row, width, height, (shape[1], shape[0])
        row = shape[0] - row - height if self.flip_rows else row
        col = shape[1] - col - width if self.flip_cols else col
        return Window(row, col, height, width)

    def of_weights(self, weights: Weights) -> Weights:
        """Turn the weights of windows."""
        rows, cols = (weights.cols, weights.rows) if self.transpose else (weights.rows, weights.cols)
        rows, cols = rows[:, ::-1] if self.flip_rows else rows, cols[:, ::-1] if self.flip_cols else cols
        return Weights(np.ascontiguousarray(rows), np.ascontiguousarray(cols))

    def undo(self, probabilities: Any, xp: ModuleType) -> Any:  # noqa: ANN401 - an engine's own kind of array
        """Turn probabilities (n, class, row, col) back."""
        axes = tuple(axis for axis, flip in ((2, self.flip_rows), (3, self.flip_cols)) if flip)
        back = xp.flip(probabilities, axes) if axes else probabilities
        return xp.swapaxes(back, 2, 3) if self.transpose else back


_TURNS = tuple(_Turn(*flags) for flags in (
    (False, False, False), (False, False, True), (False, True, False), (False, True, True),
    (True, False, False), (True, False, True), (True, True, False), (True, True, True),
))  # fmt: skip


def symmetric(engine: Engine, count: int) -> Engine:
    """Return an engine that asks another for every window in so many ways; at 1 that one itself.

    UsageError for another count than 1, 2, 4 or 8.
    """
    return engine if check_symmetries(count) == 1 else SymmetricEngine(engine, count)


class SymmetricEngine:
    """An engine that asks another for every window in 1, 2 (mirrored), 4 or 8 ways; takes as many times as long."""

    def __init__(self, engine: Engine, count: int) -> None:
        self._engine = engine
        self._turns = _TURNS[: check_symmetries(count)]
        self.name, self.device, self.precision = engine.name, engine.device, engine.precision
        self.classes, self.xp = engine.classes, engine.xp

    def upload(self, data: NDArray[Any], valid: NDArray[np.bool_]) -> Any:  # noqa: ANN401 - see Engine
        """Bring the footprint to the device in each of the ways."""
        turned = [self._engine.upload(turn.of_pixels(data), turn.of_pixels(valid)) for turn in self._turns]
        return valid.shape, turned

    def probabilities(self, footprint: Any, windows: Sequence[Window], weights: Weights) -> Any:  # noqa: ANN401
        """Return the mean over all ways, turned back; see Engine."""
        shape, turned = footprint
        total: Any = None
        for turn, pixels in zip(self._turns, turned, strict=True):
            places = [turn.of_window(window, shape) for window in windows]
            found = turn.undo(self._engine.probabilities(pixels, places, turn.of_weights(weights)), self.xp)
            total = found + 0 if total is None else total + found
        return total / len(self._turns)

    def zeros(self, shape: tuple[int, ...]) -> Any:  # noqa: ANN401 - see Engine
        """Return zeros where the engine computes."""
        return self._engine.zeros(shape)

    def download(self, array: Any) -> NDArray[Any]:  # noqa: ANN401 - see Engine
        """Return an array as numpy's."""
        return self._engine.download(array)


def check_symmetries(count: int) -> int:
    """Return the number of ways; UsageError for another number."""
    if count not in _COUNTS:
        raise UsageError(f"`tta` is 1, 2, 4 or 8 symmetries of the square, got {count}", "tta")
    return count
