"""What every engine promises: the same probabilities, whoever computes them."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from geoseg.raster.windows import Window


class OutOfMemory(Exception):  # noqa: N818 (it is a condition to act on, and named as the torch one is)
    """The batch did not fit the device; the caller halves it."""


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

    def probabilities(self, footprint: Any, windows: Sequence[Window], window_px: int) -> Any:  # noqa: ANN401 (of xp)
        """Return float32 (n, class, row, col) of windows inside the footprint; OutOfMemory if they are too many."""
        ...

    def zeros(self, shape: tuple[int, ...]) -> Any:  # noqa: ANN401 (of xp)
        """Return a float32 array of zeros where the engine computes."""
        ...

    def download(self, array: Any) -> NDArray[Any]:  # noqa: ANN401 (of xp)
        """Return an array of xp as numpy's."""
        ...
