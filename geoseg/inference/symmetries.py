"""Test-time augmentation: the mean of what a network says of a window turned and mirrored, as an engine of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import UsageError
from geoseg.model import UPRIGHT, Course, Engine, Sweep, SweepingEngine, Turn, Weights
from geoseg.raster import Window

_COUNTS = (1, 2, 4, 8)


_TURNS = tuple(Turn(*flags) for flags in (
    (False, False, False), (False, False, True), (False, True, False), (False, True, True),
    (True, False, False), (True, False, True), (True, True, False), (True, True, True),
))  # fmt: skip


def symmetric(engine: Engine, count: int) -> Engine:
    """Return an engine that asks another for every window in so many ways; at 1 that one itself.

    UsageError for another count than 1, 2, 4 or 8.
    """
    if check_symmetries(count) == 1:
        return engine
    return SweepingSymmetricEngine(engine, count) if hasattr(engine, "begin") else SymmetricEngine(engine, count)


class SymmetricEngine:
    """An engine that asks another for every window in 1, 2 (mirrored), 4 or 8 ways; takes as many times as long."""

    def __init__(self, engine: Engine, count: int) -> None:
        self._engine = engine
        self.turns = _TURNS[: check_symmetries(count)]
        self.name, self.device, self.precision = engine.name, engine.device, engine.precision
        self.classes, self.xp = engine.classes, engine.xp

    def upload(self, data: NDArray[Any], valid: NDArray[np.bool_]) -> Any:  # noqa: ANN401 - see Engine
        """Bring the footprint to the device, once: windows are turned when they are cut."""
        return self._engine.upload(data, valid)

    def probabilities(
        self,
        footprint: Any,  # noqa: ANN401 - see Engine
        windows: Sequence[Window],
        weights: Weights,
        turn: Turn = UPRIGHT,
    ) -> Any:  # noqa: ANN401 - see Engine
        """Return the mean over all ways, turned back; see Engine. `turn` is UPRIGHT: it has turns of its own."""
        if turn != UPRIGHT:
            raise ValueError("an engine that turns windows itself is not asked for turned ones")
        total: Any = None
        for own in self.turns:
            found = self._engine.probabilities(footprint, windows, own.of_weights(weights), own)
            back = own.undone(found, self.xp)
            total = back if total is None else total + back
        return total / len(self.turns)

    def zeros(self, shape: tuple[int, ...]) -> Any:  # noqa: ANN401 - see Engine
        """Return zeros where the engine computes."""
        return self._engine.zeros(shape)

    def download(self, array: Any) -> NDArray[Any]:  # noqa: ANN401 - see Engine
        """Return an array as numpy's."""
        return self._engine.download(array)


class TurningEngine(SweepingEngine, Protocol):
    """An engine whose sweeps score every window in turns of the caller's."""

    def begin(self, course: Course, turns: Sequence[Turn] = (UPRIGHT,)) -> Sweep:
        """Begin to go down a course; see `SweepingEngine`."""
        ...


class SweepingSymmetricEngine(SymmetricEngine):
    """The same over an engine with sweeps of its own, which turns windows in them."""

    def begin(self, course: Course) -> Sweep:
        """Begin to go down a course, every window scored in all ways; see `SweepingEngine`."""
        return cast("TurningEngine", self._engine).begin(course, self.turns)

    def host_array(self, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
        """Return memory of this machine from which the device copies quickly; see `SweepingEngine`."""
        return cast("TurningEngine", self._engine).host_array(shape, dtype)


def check_symmetries(count: int) -> int:
    """Return the number of ways; UsageError for another number."""
    if count not in _COUNTS:
        raise UsageError(f"`tta` is 1, 2, 4 or 8 symmetries of the square, got {count}", "tta")
    return count
