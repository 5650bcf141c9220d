"""A device goes down a part of a scene: rows of pixels in, finished rows of the map out.

One thread, the device's owner, begins a sweep, pushes its rows and ends it. Another thread, the finisher, asks the
tickets for their result, in their order, while the owner pushes on. Any call may raise OutOfMemory; the sweep is then
thrown away, and its unfinished rows begin again with smaller batches.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from geoseg.model.engines.engine import Engine
from geoseg.raster import Window
from geoseg.raster.landcover import ProductName

HELD_SLABS = 2
"""So many slabs a sweep may hold when `push` returns: with more the readers could run out of buffers."""


@dataclass(frozen=True, slots=True, eq=False)
class Course:
    """What a sweep runs: rows of windows from the top down, each of the same columns.

    Consecutive rows and columns of the grid of a scene. Windows lie outside of the scene only where it is smaller than
    one of them.
    """

    row_starts: tuple[int, ...]
    """The first row, in the scene, of each row of windows."""
    col_starts: tuple[int, ...]
    """The first column, in the scene, of each column of windows."""
    window_px: int
    row_weights: NDArray[np.float32]
    """(row of windows, row in the window): a window's weights are one of these times one of `col_weights`."""
    col_weights: NDArray[np.float32]
    """(column of windows, column in the window)."""
    batch_size: int
    """At most so many windows at once; a sweep may fill a batch with windows of several rows."""
    output_codes: tuple[int, ...]
    """The class code of each channel of the network."""
    keep: tuple[ProductName, ...]
    """Which products of the finished rows are asked for."""

    @property
    def width_px(self) -> int:
        """How many columns of the scene the windows cover."""
        return self.col_starts[-1] + self.window_px - self.col_starts[0]

    def footprint(self, number: int) -> Window:
        """Return all pixels of a row of windows."""
        return self._rows(self.row_starts[number], self.row_starts[number] + self.window_px)

    def fresh(self, number: int) -> Window:
        """Return the pixels of a row of windows that the row above does not have: those of its slab."""
        above = self.row_starts[number] if number == 0 else self.row_starts[number - 1] + self.window_px
        return self._rows(above, self.row_starts[number] + self.window_px)

    def finished(self, number: int) -> Window:
        """Return the pixels of a row of windows that no later row touches."""
        last = number + 1 == len(self.row_starts)
        stop = self.row_starts[number] + self.window_px if last else self.row_starts[number + 1]
        return self._rows(self.row_starts[number], stop)

    def _rows(self, first: int, stop: int) -> Window:
        return Window(first, self.col_starts[0], stop - first, self.width_px)


@dataclass(frozen=True, slots=True, eq=False)
class Slab:
    """The fresh pixels of a row of windows, in memory that is used again."""

    data: NDArray[Any]
    """(band, row, col) in the stored dtype."""
    valid: NDArray[np.bool_] | None
    """(row, col), True = valid; None where all are."""
    wanted: NDArray[np.bool_] | None
    """(row, col), True for valid pixels of the area that is mapped; None where that is all of the scene."""
    release: Callable[[], None]
    """The sweep calls it once, when nothing reads the arrays any more; any thread may."""


@dataclass(frozen=True, slots=True, eq=False)
class FinishedRows:
    """Rows of the map that no later window touches."""

    place: Window
    """In the scene; all columns of the course."""
    products: Mapping[ProductName, NDArray[np.uint8]]
    """As `SceneMapping` keeps them: class codes (row, col), percents (row, col) and (class, row, col), 255 where the
    scene is not valid, and anything outside the area that is mapped. Empty if that area has no pixel in these rows."""
    is_finite: bool = True
    """False where the network returned something that is no number; the products are then worth nothing."""


class Ticket(Protocol):
    """A claim on rows that the device is still at."""

    def result(self) -> Sequence[FinishedRows]:
        """Wait for the device, and return the rows, in order; called once."""
        ...


class Sweep(Protocol):
    """One device on its way down a course.

    The sums of a pixel are those of its windows in the grid's order, left to right and then down, so labels depend
    neither on the course nor on the batches. A window that lies in nodata, or outside the area that is mapped, is not
    run.
    """

    def push(self, slab: Slab) -> Ticket | None:
        """Take the fresh pixels of the next row of windows, and never wait for the device's sums.

        Returns a claim on whatever rows are finished with all that was pushed so far, if any are. At most
        `HELD_SLABS` slabs are not released when it returns: it may wait until the first of them is copied.
        """
        ...

    def finish(self) -> Ticket | None:
        """Score what still waits for a full batch; return a claim on the rows that are left."""
        ...


class SweepingEngine(Engine, Protocol):
    """An engine with sweeps of its own; all others are driven window by window."""

    def begin(self, course: Course) -> Sweep:
        """Begin at the top of a course. Earlier sweeps of the engine are at their end or thrown away."""
        ...

    def host_array(self, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
        """Return memory of this machine, not filled, from which the device copies quickly."""
        ...
