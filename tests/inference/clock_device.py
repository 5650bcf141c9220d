"""A device that sleeps instead of scoring and returns no labels."""

from __future__ import annotations

import time
from typing import Any

from geoseg.model import FinishedRows, Slab, Ticket
from tests.inference.position_engine import PositionEngine


class Clock(PositionEngine):
    """A device that accepts work immediately and takes a fixed time per row of windows."""

    def __init__(self, seconds_a_row: float = 0.0) -> None:
        super().__init__()
        self.seconds_a_row = seconds_a_row

    def begin(self, course: Any) -> _ClockSweep:
        return _ClockSweep(self, course)


class _ClockSweep:
    def __init__(self, device: Clock, course: Any) -> None:
        self.device, self.course, self.row = device, course, -1

    def push(self, slab: Slab) -> Ticket:
        slab.release()
        self.row += 1
        return _ClockTicket(self, self.row)

    def finish(self) -> None:
        return None


class _ClockTicket:
    def __init__(self, sweep: _ClockSweep, row: int) -> None:
        self.sweep, self.row = sweep, row

    def result(self) -> list[FinishedRows]:
        time.sleep(self.sweep.device.seconds_a_row)
        return [FinishedRows(self.sweep.course.finished(self.row), {})]
