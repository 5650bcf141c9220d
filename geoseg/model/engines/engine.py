"""What every engine promises: the same probabilities, whoever computes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from geoseg.raster import Window


class OutOfMemory(Exception):  # noqa: N818 (it is a condition to act on, and named as the torch one is)
    """The batch did not fit the device; the caller halves it."""


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

    def __getitem__(self, batch: slice) -> Weights:
        """Return the weights of some of the windows."""
        return Weights(self.rows[batch], self.cols[batch])


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

    def probabilities(self, footprint: Any, windows: Sequence[Window], weights: Weights) -> Any:  # noqa: ANN401 (of xp)
        """Return float32 (n, class, row, col) of windows inside the footprint; OutOfMemory if they are too many."""
        ...

    def zeros(self, shape: tuple[int, ...]) -> Any:  # noqa: ANN401 (of xp)
        """Return a float32 array of zeros where the engine computes."""
        ...

    def download(self, array: Any) -> NDArray[Any]:  # noqa: ANN401 (of xp)
        """Return an array of xp as numpy's."""
        ...
