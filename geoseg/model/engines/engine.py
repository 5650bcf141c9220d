"""The interface of all engines: windows in, probabilities out; or a sweep, with pixels in and finished rows out.

In a sweep, a device moves down a part of a scene. One thread, the device's owner, begins it, pushes its rows and ends
it. Another thread, the finisher, asks the tickets for their results, in order, while the owner keeps pushing. Any call
may raise OutOfMemory; the sweep is then discarded, and its unfinished rows start again with smaller batches.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import ModelError, one_line
from geoseg.raster import Window

if TYPE_CHECKING:
    from geoseg.raster.landcover import ProductName

HELD_SLABS = 2
"""Most slabs that a sweep may hold when `push` returns; with more, the readers could run out of buffers."""


class OutOfMemory(Exception):  # noqa: N818 - a condition to act on, named like torch's
    """The batch did not fit on the device; the caller halves it."""


_SHORT_OF_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "not enough memory",
    "alloc_failed",
    "cublas_status_not_initialized",
    "unable to find an engine to execute",
)
"""Parts of the messages of torch, CUDA, cuBLAS (its handle takes memory) and cuDNN (its workspace) in that case."""


def is_short_of_memory(fault: BaseException) -> bool:
    """Return whether an exception says that memory ran out, on the host or a device."""
    return isinstance(fault, MemoryError) or any(word in str(fault).lower() for word in _SHORT_OF_MEMORY)


@contextlib.contextmanager
def device_faults(device: str) -> Iterator[None]:
    """Turn errors of array operations into OutOfMemory if memory ran out, and otherwise into a one-line ModelError.

    CUDA reports errors late: one call's error may surface in any later call. So every call that touches a device's
    arrays belongs inside.
    """
    try:
        yield
    except (MemoryError, RuntimeError, AssertionError, ValueError) as fault:  # torch.OutOfMemoryError is a RuntimeError
        if is_short_of_memory(fault):
            raise OutOfMemory from None
        raise ModelError(f"torch failed on {device}: {one_line(fault)}") from None


@dataclass(frozen=True, slots=True)
class Weights:
    """Factors for the probabilities of each window of a batch: a pixel's row weight times its column weight.

    Applied with the softmax they cost nothing, since it divides by its sum anyway.
    """

    rows: NDArray[np.float32]
    """(n, row)."""
    cols: NDArray[np.float32]
    """(n, col)."""

    @classmethod
    def ones(cls, count: int, window_px: int) -> Weights:
        """Return weights of one."""
        return cls(np.ones((count, window_px), np.float32), np.ones((count, window_px), np.float32))

    @property
    def shape(self) -> tuple[int, int, int]:
        """(n, row, col) of the windows they apply to."""
        return len(self.rows), self.rows.shape[1], self.cols.shape[1]

    def __getitem__(self, batch: slice | Sequence[int]) -> Weights:
        """Return the weights of some of the windows, by index."""
        return Weights(self.rows[batch], self.cols[batch])


@dataclass(frozen=True, slots=True)
class Turn:
    """Transposed or not, then mirrored along rows and columns or not: one of the eight symmetries of a square."""

    transpose: bool = False
    flip_rows: bool = False
    flip_cols: bool = False

    def of_pixels(self, pixels: Any, xp: ModuleType) -> Any:  # noqa: ANN401 - an array of xp
        """Return pixels (..., row, col) turned; a view for numpy arrays."""
        turned = xp.swapaxes(pixels, -1, -2) if self.transpose else pixels
        return _mirrored(turned, self, xp)

    def of_weights(self, weights: Weights) -> Weights:
        """Return the weights for the probabilities of turned windows."""
        rows, cols = (weights.cols, weights.rows) if self.transpose else (weights.rows, weights.cols)
        rows, cols = rows[:, ::-1] if self.flip_rows else rows, cols[:, ::-1] if self.flip_cols else cols
        return Weights(np.ascontiguousarray(rows), np.ascontiguousarray(cols))

    def undone(self, pixels: Any, xp: ModuleType) -> Any:  # noqa: ANN401 - an array of xp
        """Return turned pixels (..., row, col) turned back."""
        back = _mirrored(pixels, self, xp)
        return xp.swapaxes(back, -1, -2) if self.transpose else back


def _mirrored(pixels: Any, turn: Turn, xp: ModuleType) -> Any:  # noqa: ANN401 - an array of xp
    axes = tuple(axis for axis, flip in ((-2, turn.flip_rows), (-1, turn.flip_cols)) if flip)
    return xp.flip(pixels, axes) if axes else pixels


UPRIGHT = Turn()
"""The window as it is in the scene."""


class Engine(Protocol):
    """Turns windows of a footprint into probabilities; thread-safe."""

    device: str
    """Human-readable: the CPU, CUDA: NVIDIA H200."""
    classes: int
    """Number of output channels."""
    xp: ModuleType
    """The module of its arrays: numpy or torch."""

    def upload(self, data: NDArray[Any], valid: NDArray[np.bool_]) -> Any:  # noqa: ANN401 - an engine's own
        """Copy stored pixels (band, row, col) and valid (row, col) to the device; no copy on the CPU."""

    def probabilities(
        self,
        footprint: Any,  # noqa: ANN401 - an engine's own
        windows: Sequence[Window],
        weights: Weights,
        turn: Turn = UPRIGHT,
    ) -> Any:  # noqa: ANN401 - of xp
        """Return float32 (n, class, row, col) for windows inside the footprint; OutOfMemory if there are too many.

        The network sees each window turned. Its output stays turned, and `weights` apply to it as such.
        """

    def zeros(self, shape: tuple[int, ...]) -> Any:  # noqa: ANN401 - of xp
        """Return a float32 array of zeros on the engine's device."""

    def download(self, array: Any) -> NDArray[Any]:  # noqa: ANN401 - of xp
        """Return an array of xp as a numpy array."""


@dataclass(frozen=True, slots=True)
class Pixels:
    """A footprint as read."""

    data: NDArray[Any]
    """(band, row, col), stored dtype."""
    valid: NDArray[np.bool_]
    """(row, col)."""


class HostEngine:
    """Base of engines on numpy arrays: pixels and results stay in host memory."""

    xp: ModuleType = np

    def upload(self, data: NDArray[Any], valid: NDArray[np.bool_]) -> Pixels:
        """Keep pixels (band, row, col) and valid (row, col) in place."""
        return Pixels(data, valid)

    def zeros(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """Return a float32 array of zeros."""
        return np.zeros(shape, np.float32)

    def download(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return the array itself."""
        return array


@dataclass(frozen=True, slots=True, eq=False)
class Course:
    """The windows of a sweep: rows of windows from the top down, all with the same columns.

    They are consecutive rows and columns of a scene's grid. Windows extend beyond the scene only if it is smaller than
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
    """Most windows at once; a sweep may fill a batch with windows of several rows."""
    output_codes: tuple[int, ...]
    """The class code of each channel of the network."""
    keep: tuple[ProductName, ...]
    """The products to return of finished rows."""

    @property
    def width_px(self) -> int:
        """Number of columns of the scene that the windows cover."""
        return self.col_starts[-1] + self.window_px - self.col_starts[0]

    def footprint(self, number: int) -> Window:
        """Return all pixels of a row of windows."""
        return self._rows(self.row_starts[number], self.row_starts[number] + self.window_px)

    def fresh(self, number: int) -> Window:
        """Return the pixels of a row of windows that the row above does not share: those of its slab."""
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
    """The fresh pixels of a row of windows, in memory that is reused."""

    data: NDArray[Any]
    """(band, row, col) in the stored dtype."""
    valid: NDArray[np.bool_] | None
    """(row, col), True = valid; None if all are."""
    label_mask: NDArray[np.bool_] | None
    """(row, col), True for valid pixels in the mapped area; None if the whole scene is mapped."""
    release: Callable[[], None]
    """Called by the sweep once, from any thread, when nothing reads the arrays any more."""


@dataclass(frozen=True, slots=True, eq=False)
class FinishedRows:
    """Rows of the map that no later window touches."""

    place: Window
    """In the scene; all columns of the course."""
    products: Mapping[ProductName, NDArray[np.uint8]]
    """As in `SceneMapping`: class codes (row, col), percentages (row, col) and (class, row, col); 255 where the scene
    is invalid, and any value outside the mapped area. Empty if that area has no pixel in these rows."""
    is_finite: bool = True
    """False if the network's output is not finite; the products are then meaningless."""


class Ticket(Protocol):
    """A claim on rows that the device is still working on."""

    def result(self) -> Sequence[FinishedRows]:
        """Wait for the device and return the rows, in order. Called once."""


class Sweep(Protocol):
    """One device moving down a course.

    A pixel's windows are summed in the grid's order, left to right and then down, so labels depend neither on the
    course nor on the batches. A window entirely in nodata or outside the mapped area is not run.
    """

    def push(self, slab: Slab) -> Ticket | None:
        """Take the fresh pixels of the next row of windows, without waiting for the device's sums.

        Returns a claim on the rows finished by all slabs pushed so far, if there are any. At most `HELD_SLABS` slabs
        are unreleased when it returns, so it may wait until the first of them is copied.
        """

    def finish(self) -> Ticket | None:
        """Score the windows that still wait for a full batch; return a claim on the remaining rows."""


class SweepingEngine(Engine, Protocol):
    """An engine with its own sweeps; all others are driven window by window."""

    def begin(self, course: Course) -> Sweep:
        """Start at the top of a course. Earlier sweeps of the engine must be finished or discarded."""

    def host_array(self, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
        """Return uninitialized host memory that the device copies from quickly."""
