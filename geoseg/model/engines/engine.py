"""What every engine promises: the same probabilities of windows; or a sweep, pixels in and finished rows out.

In a sweep a device goes down a part of a scene. One thread, the device's owner, begins it, pushes its rows and ends it.
Another thread, the finisher, asks the tickets for their result, in their order, while the owner pushes on. Any call may
raise OutOfMemory; the sweep is then thrown away, and its unfinished rows begin again with smaller batches.
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
"""So many slabs a sweep may hold when `push` returns: with more the readers could run out of buffers."""


class OutOfMemory(Exception):  # noqa: N818 - it is a condition to act on, and named as the torch one is
    """The batch did not fit the device; the caller halves it."""


_SHORT_OF_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "not enough memory",
    "alloc_failed",
    "cublas_status_not_initialized",
    "unable to find an engine to execute",
)
"""One of these is in what torch, CUDA, cuBLAS (its handle takes memory) and cuDNN (its workspace) say then."""


def is_short_of_memory(fault: BaseException) -> bool:
    """Return whether a fault says that memory is short, of whatever kind."""
    return isinstance(fault, MemoryError) or any(word in str(fault).lower() for word in _SHORT_OF_MEMORY)


@contextlib.contextmanager
def device_faults(device: str) -> Iterator[None]:
    """Turn what arrays raise into OutOfMemory where memory is short, and into a ModelError of one line elsewhere.

    CUDA reports late: a fault of one call may come up in any later one, so every call that touches the arrays of a
    device belongs inside.
    """
    try:
        yield
    except MemoryError:
        raise OutOfMemory from None
    except (RuntimeError, AssertionError, ValueError) as fault:  # torch.OutOfMemoryError is a child of the first
        if is_short_of_memory(fault):
            raise OutOfMemory from None
        raise ModelError(f"torch failed on {device}: {one_line(fault)}") from None


@dataclass(frozen=True, slots=True)
class Weights:
    """What the probabilities of each window of a batch are multiplied by: its row's weight times its column's.

    It costs nothing there: the softmax divides by its sum anyway.
    """

    rows: NDArray[np.float32]
    """(n, row)."""
    cols: NDArray[np.float32]
    """(n, col)."""

    @classmethod
    def ones(cls, count: int, window_px: int) -> Weights:
        """Return weights that change nothing."""
        return cls(np.ones((count, window_px), np.float32), np.ones((count, window_px), np.float32))

    @property
    def shape(self) -> tuple[int, int, int]:
        """(n, row, col) of the windows they are for."""
        return len(self.rows), self.rows.shape[1], self.cols.shape[1]

    def __getitem__(self, batch: slice | Sequence[int]) -> Weights:
        """Return the weights of some of the windows, by their places."""
        return Weights(self.rows[batch], self.cols[batch])


@dataclass(frozen=True, slots=True)
class Turn:
    """Transposed or not, then mirrored along rows and columns or not: one of the eight symmetries of a square."""

    transpose: bool = False
    flip_rows: bool = False
    flip_cols: bool = False

    def of_pixels(self, pixels: Any, xp: ModuleType) -> Any:  # noqa: ANN401 - an array of xp
        """Return pixels (..., row, col) turned; numpy's are a view."""
        turned = xp.swapaxes(pixels, -1, -2) if self.transpose else pixels
        return _mirrored(turned, self, xp)

    def of_weights(self, weights: Weights) -> Weights:
        """Return what the probabilities of turned windows are multiplied by."""
        rows, cols = (weights.cols, weights.rows) if self.transpose else (weights.rows, weights.cols)
        rows, cols = rows[:, ::-1] if self.flip_rows else rows, cols[:, ::-1] if self.flip_cols else cols
        return Weights(np.ascontiguousarray(rows), np.ascontiguousarray(cols))

    def undone(self, pixels: Any, xp: ModuleType) -> Any:  # noqa: ANN401 - an array of xp
        """Return turned pixels (..., row, col) as they were before."""
        back = _mirrored(pixels, self, xp)
        return xp.swapaxes(back, -1, -2) if self.transpose else back


def _mirrored(pixels: Any, turn: Turn, xp: ModuleType) -> Any:  # noqa: ANN401 - an array of xp
    axes = tuple(axis for axis, flip in ((-2, turn.flip_rows), (-1, turn.flip_cols)) if flip)
    return xp.flip(pixels, axes) if axes else pixels


UPRIGHT = Turn()
"""As the window lies in the scene."""


class Engine(Protocol):
    """Windows of a footprint to probabilities; may be called from several threads at once."""

    name: str
    """onnxruntime or torch."""
    device: str
    """For people: the CPU, CUDA: NVIDIA H200."""
    precision: str
    """float32, bf16 or fp16."""
    classes: int
    """Number of output channels."""
    xp: ModuleType
    """numpy or torch, whichever its arrays belong to."""

    def upload(self, data: NDArray[Any], valid: NDArray[np.bool_]) -> Any:  # noqa: ANN401 - an engine's own
        """Bring pixels (band, row, col) as stored, and valid (row, col), to the device; the CPU copies nothing."""
        ...

    def probabilities(
        self,
        footprint: Any,  # noqa: ANN401 - an engine's own
        windows: Sequence[Window],
        weights: Weights,
        turn: Turn = UPRIGHT,
    ) -> Any:  # noqa: ANN401 - of xp
        """Return float32 (n, class, row, col) of windows inside the footprint; OutOfMemory if they are too many.

        The network sees each window turned; `weights` are for what it returns, which stays turned.
        """
        ...

    def zeros(self, shape: tuple[int, ...]) -> Any:  # noqa: ANN401 - of xp
        """Return a float32 array of zeros where the engine computes."""
        ...

    def download(self, array: Any) -> NDArray[Any]:  # noqa: ANN401 - of xp
        """Return an array of xp as numpy's."""
        ...


@dataclass(frozen=True, slots=True)
class Pixels:
    """A footprint as it was read."""

    data: NDArray[Any]
    """(band, row, col), stored dtype."""
    valid: NDArray[np.bool_]
    """(row, col)."""


class HostEngine:
    """What engines share whose arrays are numpy's: pixels stay where they are, and so does what comes of them."""

    xp: ModuleType = np

    def upload(self, data: NDArray[Any], valid: NDArray[np.bool_]) -> Pixels:
        """Keep pixels (band, row, col) and valid (row, col) where they are."""
        return Pixels(data, valid)

    def zeros(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """Return a float32 array of zeros."""
        return np.zeros(shape, np.float32)

    def download(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return the array itself."""
        return array


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
    """False where the network returned something other than a number; the products are then worth nothing."""


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
