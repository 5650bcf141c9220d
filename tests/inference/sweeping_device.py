"""A device with its own sweeps that does everything late: it holds slabs and scores only when a result is awaited."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.legend import NODATA
from geoseg.model import Course, FinishedRows, OutOfMemory, Slab, Ticket
from geoseg.raster import Window
from tests.inference.position_engine import PositionEngine, window_probabilities


class SweepingDevice(PositionEngine):
    """`fits`: its largest batch. `late`: running out of memory surfaces only when the second result is awaited."""

    def __init__(self, fits: int = 10**9, *, late: bool = False) -> None:
        super().__init__(fits)
        self.late = late
        self.courses: list[Course] = []
        self.windows_run = 0

    def begin(self, course: Course) -> SlowSweep:
        self.courses.append(course)
        return SlowSweep(self, course)


class SlowSweep:
    def __init__(self, device: SweepingDevice, course: Course) -> None:
        self.device, self.course = device, course
        self.fits = course.batch_size <= device.fits
        self.pushed = self.scored = 0
        self.held: list[Slab] = []
        self.data: NDArray[Any] | None = None
        self.valid = self.label_mask = np.zeros((0, course.width_px), np.bool_)
        self.sums = np.zeros((device.classes, 0, course.width_px), np.float32)

    def push(self, slab: Slab) -> Ticket | None:
        if not self.fits and not self.device.late:
            raise OutOfMemory
        assert slab.data.shape[1:] == self.course.fresh(self.pushed).shape
        self.pushed += 1
        self.held.append(slab)
        return self._claim() if self.pushed % 2 == 0 else None

    def finish(self) -> Ticket | None:
        assert self.pushed == len(self.course.row_starts)
        return self._claim()

    def _claim(self) -> Ticket:
        slabs = []
        for slab in self.held:
            valid = np.ones(slab.data.shape[1:], np.bool_) if slab.valid is None else slab.valid.copy()
            slabs.append((slab.data.copy(), valid, valid if slab.label_mask is None else slab.label_mask.copy()))
            slab.release()
        self.held = []
        return SlowTicket(self, slabs)

    def score(self, data: NDArray[Any], valid: NDArray[np.bool_], label_mask: NDArray[np.bool_]) -> FinishedRows:
        """Score the next row of windows, one after the other, from its fresh pixels."""
        course, row, window_px = self.course, self.scored, self.course.window_px
        self.scored += 1
        if self.data is not None:
            kept = window_px - data.shape[1]
            data = np.concatenate([self.data[:, self.data.shape[1] - kept :], data], axis=1)
            valid, label_mask = (
                np.concatenate([above[above.shape[0] - kept :], below])
                for above, below in ((self.valid, valid), (self.label_mask, label_mask))
            )
        self.data, self.valid, self.label_mask = data, valid, label_mask
        sums = np.zeros((self.device.classes, window_px, course.width_px), np.float32)
        sums[:, : self.sums.shape[1]] = self.sums
        for col, start in enumerate(course.col_starts):
            window = Window(0, start - course.col_starts[0], window_px, window_px)
            if label_mask[window.rows, window.cols].any():
                self.device.windows_run += 1
                scored = window_probabilities(data[:, window.rows, window.cols], valid[window.rows, window.cols])
                weights = course.row_weights[row][:, None] * course.col_weights[col][None, :]
                sums[:, window.rows, window.cols] += scored * weights
        place = course.finished(row)
        self.sums = sums[:, place.height :]
        if not valid.any():
            return FinishedRows(place, {})
        labels = np.asarray(course.output_codes, np.uint8)[sums[:, : place.height].argmax(axis=0)]
        return FinishedRows(place, {"labels": np.where(valid[: place.height], labels, np.uint8(NODATA))})


class SlowTicket:
    def __init__(self, sweep: SlowSweep, slabs: list[tuple[NDArray[Any], ...]]) -> None:
        self.sweep, self.slabs = sweep, slabs

    def result(self) -> list[FinishedRows]:
        if not self.sweep.fits and self.sweep.scored:
            raise OutOfMemory
        return [self.sweep.score(*slab) for slab in self.slabs]


def unused(batch: NDArray[np.float32]) -> NDArray[np.float32]:
    """Stand in for the network of a model that the device replaces; must never be called."""
    raise NotImplementedError(f"{len(batch)} windows went to the network")
