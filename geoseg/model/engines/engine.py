"""What every engine promises: the same probabilities, whoever computes them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import ModelError
from geoseg.model.bundle import one_line
from geoseg.raster import Window


class OutOfMemory(Exception):  # noqa: N818 (it is a condition to act on, and named as the torch one is)
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
    """Tell whether a fault says that memory is short, of whatever kind."""
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

    def of_pixels(self, pixels: Any, xp: ModuleType) -> Any:  # noqa: ANN401 (an array of xp)
        """Return pixels (..., row, col) turned; numpy's are a view."""
        turned = xp.swapaxes(pixels, -1, -2) if self.transpose else pixels
        return _mirrored(turned, self, xp)

    def of_weights(self, weights: Weights) -> Weights:
        """Return what the probabilities of turned windows are multiplied by."""
        rows, cols = (weights.cols, weights.rows) if self.transpose else (weights.rows, weights.cols)
        rows, cols = rows[:, ::-1] if self.flip_rows else rows, cols[:, ::-1] if self.flip_cols else cols
        return Weights(np.ascontiguousarray(rows), np.ascontiguousarray(cols))

    def undone(self, pixels: Any, xp: ModuleType) -> Any:  # noqa: ANN401 (an array of xp)
        """Return turned pixels (..., row, col) as they were before."""
        back = _mirrored(pixels, self, xp)
        return xp.swapaxes(back, -1, -2) if self.transpose else back


def _mirrored(pixels: Any, turn: Turn, xp: ModuleType) -> Any:  # noqa: ANN401 (an array of xp)
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

    def upload(self, data: NDArray[Any], valid: NDArray[np.bool_]) -> Any:  # noqa: ANN401 (an engine's own)
        """Bring pixels (band, row, col) as stored, and valid (row, col), to the device; the CPU copies nothing."""
        ...

    def probabilities(
        self,
        footprint: Any,  # noqa: ANN401 (an engine's own)
        windows: Sequence[Window],
        weights: Weights,
        turn: Turn = UPRIGHT,
    ) -> Any:  # noqa: ANN401 (of xp)
        """Return float32 (n, class, row, col) of windows inside the footprint; OutOfMemory if they are too many.

        The network sees each window turned; `weights` are for what it returns, which stays turned.
        """
        ...

    def zeros(self, shape: tuple[int, ...]) -> Any:  # noqa: ANN401 (of xp)
        """Return a float32 array of zeros where the engine computes."""
        ...

    def download(self, array: Any) -> NDArray[Any]:  # noqa: ANN401 (of xp)
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
