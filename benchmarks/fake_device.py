"""A device that computes nothing: one ordered stream that only sleeps. The rest of a run is real.

It takes slabs, returns their memory, and gives out labels made in advance. The owner and the finisher of the pipeline
treat it like any other device, so it waits whenever a GPU of that rate would wait.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

from geoseg.inference import Scoring
from geoseg.legend import LandCover, Legend
from geoseg.model import Course, EngineChoice, FinishedRows, ModelBundle, Slab, Ticket

_CLASSES = 7
_PATCH_PX = 24
"""Approximate edge of a spot of one class in the labels. They are noisier than real maps and take the host longer: 40
kB per megapixel in a map's blocks, where those of five hand-drawn FLAIR scenes take 9 to 23 and the demo model's maps
12; and 5.3 ms of CPU per megapixel to compress with overviews, where the demo model's maps take 3.4."""


class FakeDevice:
    """A device on which each window takes `seconds_a_window`, one after the other."""

    device = "a fake device"
    xp: ModuleType = np

    classes = _CLASSES

    def __init__(self, width_px: int, seconds_a_window: float) -> None:
        self.seconds_a_window = seconds_a_window
        self.busy_s = 0.0
        self.began: float | None = None
        self.free_at = 0.0
        """Time (`perf_counter`) at which the stream has finished all its work."""
        self.labels = spots(_CLASSES, 2048, width_px)

    def begin(self, course: Course) -> _FakeSweep:
        """Begin a sweep down a course."""
        return _FakeSweep(self, course)

    def run(self, windows: int) -> float:
        """Put windows on the stream; return the time at which they will be done."""
        now = time.perf_counter()
        self.began = now if self.began is None else self.began
        seconds = windows * self.seconds_a_window
        self.busy_s += seconds
        self.free_at = max(self.free_at, now) + seconds
        return self.free_at


class _FakeSweep:
    def __init__(self, device: FakeDevice, course: Course) -> None:
        self._device = device
        self._course = course
        self._row = 0

    def push(self, slab: Slab) -> Ticket:
        slab.release()
        done_at = self._device.run(len(self._course.col_starts))
        place = self._course.finished(self._row)
        self._row += 1
        rows = np.arange(place.row, place.row_stop) % len(self._device.labels)
        first = rows[0]
        if first + place.height <= len(self._device.labels):
            labels = self._device.labels[first : first + place.height, : place.width]
        else:
            labels = self._device.labels[: place.height, : place.width]
        return _FakeTicket(done_at, FinishedRows(place, {"labels": labels}))

    def finish(self) -> None:
        return None


class _FakeTicket:
    def __init__(self, done_at: float, rows: FinishedRows) -> None:
        self._done_at = done_at
        self._rows = rows

    def result(self) -> Sequence[FinishedRows]:
        time.sleep(max(0.0, self._done_at - time.perf_counter()))
        return (self._rows,)


def unused_model(window_px: int) -> ModelBundle:
    """Return a model whose network never runs."""
    legend = Legend(LandCover(code, f"class {code}", (code, code, code)) for code in range(_CLASSES))
    return ModelBundle.from_callable(_never, legend=legend, window_px=window_px, overlap_px=window_px // 4)


def _never(batch: NDArray[np.float32]) -> NDArray[np.float32]:
    raise NotImplementedError(f"{len(batch)} windows went to the network")


@contextmanager
def in_place_of_the_cpu(device: FakeDevice | None) -> Iterator[None]:
    """Make geoseg run models on a fake device, fed as a GPU is."""

    def opened(_scoring: Scoring) -> FakeDevice | None:
        return device

    with patch.object(EngineChoice, "on_cpu", property(lambda _: False)), patch.object(Scoring, "open", opened):
        yield


def spots(classes: int, height_px: int, width_px: int) -> NDArray[Any]:
    """Return spots of classes (row, col), uint8, with ragged edges."""
    generator = np.random.default_rng(0)
    shape = -(-height_px // _PATCH_PX), -(-width_px // _PATCH_PX)
    coarse = generator.integers(0, classes, shape, dtype=np.uint8)
    fine = coarse.repeat(_PATCH_PX, axis=0).repeat(_PATCH_PX, axis=1)[:height_px, :width_px]
    shift = np.cumsum(generator.integers(-1, 2, height_px)) % width_px
    rolled = [np.roll(row, int(by)) for row, by in zip(fine, shift, strict=True)]
    return np.stack(rolled)
