"""Probabilities from a function that the caller provides: any library's network, a rule, a lookup."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import GeosegError, ModelError, one_line
from geoseg.given import is_network
from geoseg.machine import in_every_fork
from geoseg.model.bundle import ModelBundle, Scale
from geoseg.model.engines.engine import UPRIGHT, HostEngine, OutOfMemory, Pixels, Turn, Weights, is_short_of_memory
from geoseg.model.engines.network_input import Preparation, network_input
from geoseg.raster import Window

_SUM_TOLERANCE = 0.01
"""How far the sum of a pixel's probabilities may be from one; half precision stays within it."""
_calling = threading.Lock()
"""Held during calls, since functions may not be thread-safe."""


def _call_afresh() -> None:
    global _calling  # noqa: PLW0603 - another thread of the parent may hold the lock
    _calling = threading.Lock()


in_every_fork(_call_afresh)


class CallableEngine(HostEngine):
    """Cuts and normalizes windows, calls the function of a bundle, and checks its result.

    Raises ModelError if the result is not probabilities, or the function fails.
    """

    name = "function"
    device = "the function's device"
    precision = "float32"

    def __init__(self, bundle: ModelBundle, window_px: int, scale: Scale | None) -> None:
        if bundle.function is None:
            raise ValueError(f"{bundle.name} is a network, not a function")
        self.classes = len(bundle.output_codes)
        self._function = bundle.function
        self._title = bundle.name
        self._window_px = window_px
        self._preparation = Preparation(scale, *bundle.normalization.gain_bias(scale))

    def probabilities(
        self, footprint: Pixels, windows: Sequence[Window], weights: Weights, turn: Turn = UPRIGHT
    ) -> NDArray[np.float32]:
        """Return float32 (n, class, row, col), times the weights; OutOfMemory if the batch is too large."""
        batch = network_input(footprint, windows, turn, self._preparation)
        found = self._checked(self._called(batch), len(windows))
        return found * (weights.rows[:, None, :, None] * weights.cols[:, None, None, :])

    def _called(self, batch: NDArray[np.float32]) -> Any:  # noqa: ANN401 - any result
        try:
            with _calling:
                return _asked(self._function, batch)
        except MemoryError:
            raise OutOfMemory from None
        except GeosegError:
            raise
        except Exception as fault:
            if is_short_of_memory(fault):  # torch's, of a GPU
                raise OutOfMemory from None
            raise ModelError(f"the function {self._title} failed: {type(fault).__name__}: {one_line(fault)}") from fault

    def _checked(self, given: Any, count: int) -> NDArray[np.float32]:  # noqa: ANN401 - any result
        if hasattr(given, "detach"):  # a tensor, maybe on a GPU, maybe with a gradient
            given = given.detach().cpu().float().numpy()
        wanted = (count, self.classes, self._window_px, self._window_px)
        shape = np.shape(given)
        if shape != wanted:
            raise ModelError(
                f"the function {self._title} gives {_kind(given)} of shape {shape}; it must give probabilities "
                f"(n, class, row, col), here {wanted}"
            )
        try:
            values = np.asarray(given)
            found = values.astype(np.float32) if values.dtype.kind != "c" else None
        except (TypeError, ValueError):
            found = None
        if found is None:
            raise ModelError(f"the function {self._title} gives {_kind(given)}; it must give real numbers") from None
        if not np.isfinite(found).all():
            raise ModelError(f"the function {self._title} gives values that are not finite; probabilities are")
        off = max(float(np.abs(found.sum(axis=1) - 1).max()), -float(found.min()))
        if off > _SUM_TOLERANCE:
            raise ModelError(
                f"the function {self._title} gives values from {found.min():.3g} to {found.max():.3g} whose sums over "
                f"the classes are off by up to {off:.3g}; probabilities sum to one: apply a softmax"
            )
        return found


def _asked(function: Any, batch: NDArray[np.float32]) -> Any:  # noqa: ANN401 - a function and its result
    """Return the function's result; a torch network gets a tensor on the device and of the dtype of its weights."""
    if not is_network(function):
        return function(batch)
    import torch  # noqa: PLC0415 - already loaded by the caller's network

    weight = next((each for each in function.parameters() if each.is_floating_point()), torch.empty(0))
    with torch.inference_mode():
        return function(torch.from_numpy(batch).to(weight.device, weight.dtype))


def _kind(given: object) -> str:
    kind = type(given)
    return f"{kind.__module__}.{kind.__qualname__}"
