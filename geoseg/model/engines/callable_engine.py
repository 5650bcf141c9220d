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
_call_lock = threading.Lock()
"""Held during calls, since functions may not be thread-safe."""


def _renew_call_lock() -> None:
    global _call_lock  # noqa: PLW0603 - another thread of the parent may hold the lock
    _call_lock = threading.Lock()


in_every_fork(_renew_call_lock)


class CallableEngine(HostEngine):
    """Cuts and normalizes windows, calls the function of a bundle, and checks its result.

    Raises ModelError if the result is not probabilities, or the function fails.
    """

    device = "the function's device"

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
        values = self._checked(self._scores(batch), len(windows))
        return values * (weights.rows[:, None, :, None] * weights.cols[:, None, None, :])

    def _scores(self, batch: NDArray[np.float32]) -> Any:  # noqa: ANN401 - any result
        try:
            with _call_lock:
                return _evaluate(self._function, batch)
        except GeosegError:
            raise
        except Exception as fault:
            if is_short_of_memory(fault):
                raise OutOfMemory from None
            raise ModelError(f"the function {self._title} failed: {type(fault).__name__}: {one_line(fault)}") from fault

    def _checked(self, output: Any, count: int) -> NDArray[np.float32]:  # noqa: ANN401 - any result
        if hasattr(output, "detach"):  # a tensor, maybe on a GPU, maybe with a gradient
            output = output.detach().cpu().float().numpy()
        expected = (count, self.classes, self._window_px, self._window_px)
        try:
            shape = np.shape(output)
            form = f"of shape {shape}"
        except (TypeError, ValueError, RuntimeError):  # rows of different lengths, tensors on a GPU or with gradients
            shape, form = (), "that is no array"
        if shape != expected:
            raise ModelError(
                f"the function {self._title} gives {_kind(output)} {form}; it must give probabilities "
                f"(n, class, row, col), here {expected}"
            )
        try:
            values = np.asarray(output)
            probabilities = values.astype(np.float32) if values.dtype.kind != "c" else None
        except (TypeError, ValueError):
            probabilities = None
        if probabilities is None:
            raise ModelError(f"the function {self._title} gives {_kind(output)}; it must give real numbers") from None
        if not np.isfinite(probabilities).all():
            raise ModelError(f"the function {self._title} gives values that are not finite; give probabilities")
        error = max(float(np.abs(probabilities.sum(axis=1) - 1).max()), -float(probabilities.min()))
        if error > _SUM_TOLERANCE:
            raise ModelError(
                f"the function {self._title} gives values from {probabilities.min():.3g} to {probabilities.max():.3g} "
                f"whose sums over the classes are off by up to {error:.3g}; make them sum to one with a softmax"
            )
        return probabilities


def _evaluate(function: Any, batch: NDArray[np.float32]) -> Any:  # noqa: ANN401 - a function and its result
    """Return the function's result; a torch network gets a tensor on the device and of the dtype of its weights."""
    if not is_network(function):
        return function(batch)
    import torch  # noqa: PLC0415 - already loaded by the caller's network

    weight = next((parameter for parameter in function.parameters() if parameter.is_floating_point()), torch.empty(0))
    with torch.inference_mode():
        return function(torch.from_numpy(batch).to(weight.device, weight.dtype))


def _kind(value: object) -> str:
    kind = type(value)
    return f"{kind.__module__}.{kind.__qualname__}"
