"""Engines that wrap another: one averages over symmetries of the square, one lets a network see coarser pixels.

Finer windows are averaged for the network, and its probabilities interpolated back. The windows remain the scene's, and
their grid, weights and order of summation do not change. So every guarantee about the map holds for wrapped engines.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from geoseg.compiled import njit
from geoseg.errors import UsageError
from geoseg.model import UPRIGHT, Course, Engine, Pixels, Sweep, SweepingEngine, Turn, Weights, middles
from geoseg.raster import Window

_FEW = 4
"""Windows handled by numpy, with bit-identical results, before loading numba pays off."""
_COUNTS = (1, 2, 4, 8)
_TURNS = tuple(Turn(*flags) for flags in (
    (False, False, False), (False, False, True), (False, True, False), (False, True, True),
    (True, False, False), (True, False, True), (True, True, False), (True, True, True),
))  # fmt: skip


class _DerivedEngine:
    """An engine that computes with another one, on its device."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.device, self.classes = engine.device, engine.classes
        self.xp: ModuleType = engine.xp

    def zeros(self, shape: tuple[int, ...]) -> Any:
        """Return zeros on the engine's device."""
        return self._engine.zeros(shape)

    def download(self, array: Any) -> NDArray[Any]:
        """Return an array as a numpy array."""
        return self._engine.download(array)


class CoarseEngine(_DerivedEngine):
    """An engine for windows of `window_px` a side that passes them to another, averaged to `network_px` a side.

    The other one computes on numpy arrays; a torch engine averages on its device. An averaged pixel is the mean of the
    valid part of the ground that it covers; invalid if no part is valid. Probabilities are interpolated between the
    centers of the averaged pixels (bilinear), so they still add up to one.
    """

    def __init__(self, engine: Engine, window_px: int, network_px: int) -> None:
        super().__init__(engine)
        self._window_px = window_px
        self._network_px = network_px
        self._seen = 0

    def upload(self, data: NDArray[Any], valid: NDArray[np.bool_]) -> Pixels:
        """Keep pixels (band, row, col) and valid (row, col) in place: only their means are sent to the device."""
        return Pixels(data, valid)

    def probabilities(
        self, footprint: Pixels, windows: Sequence[Window], weights: Weights, turn: Turn = UPRIGHT
    ) -> Any:
        """Return the probabilities times the weights, float32 (n, class, row, col); see Engine."""
        side = self._network_px
        means = np.empty((len(footprint.data), len(windows) * side, side), np.float32)
        valid = np.empty(means.shape[1:], np.bool_)
        places = [Window(index * side, 0, side, side) for index in range(len(windows))]
        self._seen += len(windows)
        for window, place in zip(windows, places, strict=True):
            self._average(
                footprint.data[:, window.rows, window.cols],
                footprint.valid[window.rows, window.cols],
                means[:, place.rows],
                valid[place.rows],
            )
        coarse = self._engine.probabilities(
            self._engine.upload(means, valid), places, Weights.ones(len(windows), side), turn
        )
        fine = np.empty((*coarse.shape[:2], self._window_px, self._window_px), np.float32)
        self._interpolate(coarse, *middles(self._window_px, side), weights.rows, weights.cols, fine)
        return fine

    @property
    def _average(self) -> Callable[..., None]:
        return average if self._seen <= _FEW else average_compiled

    @property
    def _interpolate(self) -> Callable[..., None]:
        return interpolate if self._seen <= _FEW else interpolate_compiled


def average(data: Any, valid: Any, means: Any, any_valid: Any) -> None:
    """Compute the same as `average_compiled`, bit for bit."""
    (bands, height, width), (rows, cols) = data.shape, any_valid.shape
    sums, areas = np.zeros((bands, rows, width), np.float32), np.zeros((rows, width), np.float32)
    for fine, share in _covered(height, rows):
        shares = np.where(valid[fine], share.astype(np.float32)[:, None], np.float32(0))
        areas += shares
        sums += shares * data[:, fine].astype(np.float32)
    amount, area = np.zeros((bands, rows, cols)), np.zeros((rows, cols))
    for fine, share in _covered(width, cols):
        area += share * areas[:, fine]
        amount += share * sums[:, :, fine]
    np.greater(area, 0, out=any_valid)
    means[:] = np.divide(amount, area, out=np.zeros_like(amount), where=any_valid)


def _covered(length: int, parts: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float64]]]:
    """Yield the first fine pixel that each part of an axis covers and how much of it, then the second, and so on."""
    start, stop = np.arange(parts) * length / parts, np.arange(1, parts + 1) * length / parts
    first = start.astype(np.int64)
    last = np.minimum(np.ceil(stop).astype(np.int64), length)
    for number in range(int((last - first).max())):
        inside = first + number < last
        fine = np.where(inside, first + number, first)
        yield fine, np.where(inside, np.minimum(fine + 1.0, stop) - np.maximum(fine, start), 0.0)


def interpolate(coarse: Any, below: Any, above: Any, share: Any, row_weights: Any, col_weights: Any, fine: Any) -> None:
    """Compute the same as `interpolate_compiled`, bit for bit."""
    for n, k in np.ndindex(fine.shape[:2]):
        first, second = coarse[n, k][:, below], coarse[n, k][:, above]
        wide = first + (second - first) * share
        low, high = wide[below], wide[above]
        value = low + (high - low) * share[:, None]
        np.multiply(value * row_weights[n][:, None], col_weights[n], out=fine[n, k])


def symmetric(engine: Engine, count: int) -> Engine:
    """Return an engine that scores every window in `count` symmetries; for 1, the engine itself."""
    if count == 1:
        return engine
    return SweepingSymmetricEngine(engine, count) if hasattr(engine, "begin") else SymmetricEngine(engine, count)


class SymmetricEngine(_DerivedEngine):
    """An engine that scores every window in 1, 2 (mirrored), 4 or 8 symmetries, at that many times the cost."""

    def __init__(self, engine: Engine, count: int) -> None:
        super().__init__(engine)
        self.turns = _TURNS[:count]

    def upload(self, data: NDArray[Any], valid: NDArray[np.bool_]) -> Any:
        """Copy the footprint to the device, once: windows are turned when they are cut."""
        return self._engine.upload(data, valid)

    def probabilities(self, footprint: Any, windows: Sequence[Window], weights: Weights, turn: Turn = UPRIGHT) -> Any:
        """Return the mean over all symmetries, turned back; see Engine. `turn` must be UPRIGHT."""
        if turn != UPRIGHT:
            raise ValueError("an engine that turns windows itself takes no turn")
        total: Any = None
        for symmetry in self.turns:
            scores = self._engine.probabilities(footprint, windows, symmetry.of_weights(weights), symmetry)
            back = symmetry.undone(scores, self.xp)
            total = back if total is None else total + back
        return total / len(self.turns)


class TurningEngine(SweepingEngine, Protocol):
    """An engine whose sweeps score every window in turns that the caller chooses."""

    def begin(self, course: Course, turns: Sequence[Turn] = (UPRIGHT,)) -> Sweep:
        """Start a sweep of a course; see `SweepingEngine`."""


class SweepingSymmetricEngine(SymmetricEngine):
    """A `SymmetricEngine` around an engine that has its own sweeps and turns windows in them."""

    def begin(self, course: Course) -> Sweep:
        """Start a sweep of a course that scores every window in all symmetries; see `SweepingEngine`."""
        return cast("TurningEngine", self._engine).begin(course, self.turns)

    def host_array(self, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
        """Return host memory that the device copies from quickly; see `SweepingEngine`."""
        return cast("TurningEngine", self._engine).host_array(shape, dtype)


def check_symmetries(count: int) -> int:
    """Return the number of symmetries; UsageError unless it is 1, 2, 4 or 8."""
    if count not in _COUNTS:
        raise UsageError(f"`tta` must be 1, 2, 4 or 8, got {count}", "tta")
    return count


@njit(cache=True, nogil=True)
def average_compiled(data: Any, valid: Any, means: Any, any_valid: Any) -> None:
    """Write the means of the valid pixels of `data` (band, row, col) to `means` (band, row, col), which is coarser.

    Each coarse pixel covers a rectangle of fine ones, weighted by the area covered. `any_valid` (row, col) becomes True
    if any of them is valid; elsewhere the mean is 0. Each inner loop does one thing to a row, so that the compiler
    vectorizes over columns.
    """
    bands, height, width = data.shape
    rows, cols = any_valid.shape
    fine_cols, col_shares = _covered_compiled(width, cols)
    sums, areas, shares = np.empty((bands, width), np.float32), np.empty(width, np.float32), np.empty(width, np.float32)
    amount, area = np.empty(cols, np.float64), np.empty(cols, np.float64)
    for row in range(rows):
        top, bottom = row * height / rows, (row + 1) * height / rows
        sums[:] = 0.0
        areas[:] = 0.0
        for fine in range(int(top), min(int(np.ceil(bottom)), height)):
            _share(valid[fine], np.float32(min(fine + 1.0, bottom) - max(float(fine), top)), shares, areas)
            for band in range(bands):
                _add(data[band, fine], shares, sums[band])
        _gather(areas, fine_cols, col_shares, area)
        _mark(area, any_valid[row])
        for band in range(bands):
            _gather(sums[band], fine_cols, col_shares, amount)
            _divide(amount, area, means[band, row])


@njit(inline="always")
def _share(valid: Any, share: Any, shares: Any, areas: Any) -> None:
    """Compute each fine pixel's share of a row, zero for invalid ones, and add it to the areas."""
    for col in range(shares.size):
        shares[col] = share if valid[col] else np.float32(0.0)
    for col in range(shares.size):
        areas[col] += shares[col]


@njit(inline="always")
def _add(line: Any, shares: Any, total: Any) -> None:
    for col in range(shares.size):  # invalid pixels hold finite values, and their share is 0
        total[col] += shares[col] * np.float32(line[col])


@njit(inline="always")
def _gather(line: Any, fine_cols: Any, col_shares: Any, total: Any) -> None:
    total[:] = 0.0
    for number in range(len(fine_cols)):
        places, shares = fine_cols[number], col_shares[number]
        for col in range(total.size):
            total[col] += shares[col] * line[places[col]]


@njit(inline="always")
def _mark(area: Any, any_valid: Any) -> None:
    for col in range(area.size):
        any_valid[col] = area[col] > 0.0


@njit(inline="always")
def _divide(amount: Any, area: Any, mean: Any) -> None:
    for col in range(area.size):  # np.divide does not check for zero, so the loop vectorizes
        mean[col] = np.divide(amount[col], area[col]) if area[col] > 0.0 else 0.0


@njit(inline="always")
def _covered_compiled(length: Any, parts: Any) -> Any:
    """Return the fine pixels that each part of an axis covers, (number, part), and their shares; 0 for padding."""
    most = 0
    for part in range(parts):
        most = max(most, min(int(np.ceil((part + 1) * length / parts)), length) - int(part * length / parts))
    places, shares = np.zeros((most, parts), np.uint32), np.zeros((most, parts), np.float64)
    for part in range(parts):
        start, stop = part * length / parts, (part + 1) * length / parts
        first = int(start)
        for number in range(most):
            fine = first + number
            is_covered = fine < min(int(np.ceil(stop)), length)
            places[number, part] = fine if is_covered else first
            shares[number, part] = min(fine + 1.0, stop) - max(float(fine), start) if is_covered else 0.0
    return places, shares


@njit(cache=True, nogil=True)
def interpolate_compiled(
    coarse: Any, below: Any, above: Any, share: Any, row_weights: Any, col_weights: Any, fine: Any
) -> None:
    """Write `coarse` (n, class, row, col), interpolated and times the weights (n, row), (n, col), to `fine`.

    Each coarse row is widened once; the loop between two of them vectorizes over columns.
    """
    count, classes, window_px, _ = fine.shape
    is_double = coarse.shape[3] > 1 and window_px == 2 * coarse.shape[3]
    wide, held = np.empty((2, window_px), np.float32), np.empty(2, np.int64)
    for n in range(count):
        columns = col_weights[n]
        for k in range(classes):
            held[:] = -1
            for row in range(window_px):
                for at in (below[row], above[row]):
                    if held[at % 2] != at:
                        held[at % 2] = at
                        if is_double:
                            _widen_twofold(coarse[n, k, at], share, wide[at % 2])
                        else:
                            _widen(coarse[n, k, at], below, above, share, wide[at % 2])
                low, high = wide[below[row] % 2], wide[above[row] % 2]
                _between(low, high, share[row], row_weights[n, row], columns, fine[n, k, row])


@njit(inline="always")
def _between(low: Any, high: Any, upper: Any, weight: Any, columns: Any, line: Any) -> None:
    for col in range(line.size):
        line[col] = (low[col] + (high[col] - low[col]) * upper) * weight * columns[col]


@njit(inline="always")
def _widen(line: Any, below: Any, above: Any, share: Any, wide: Any) -> None:
    for col in range(wide.size):
        first = line[below[col]]
        wide[col] = first + (line[above[col]] - first) * share[col]


@njit(inline="always")
def _widen_twofold(line: Any, share: Any, wide: Any) -> None:
    """Do what `_widen` does for exactly twice as many pixels: without lookups, so the loop vectorizes."""
    last = line.size - 1
    wide[0] = line[0] + (line[1] - line[0]) * share[0]
    for col in range(last):
        first = line[col]
        step = line[col + 1] - first
        wide[2 * col + 1] = first + step * share[2 * col + 1]
        wide[2 * col + 2] = first + step * share[2 * col + 2]
    wide[2 * last + 1] = line[last - 1] + (line[last] - line[last - 1]) * share[2 * last + 1]
