"""Windows to the network in equal batches; halved when the memory is short."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from typing import Any
from weakref import WeakKeyDictionary

from geoseg.errors import GeosegError, GeosegWarning
from geoseg.model import Engine, OutOfMemory, Weights
from geoseg.raster import Window

_fitting: WeakKeyDictionary[Engine, int] = WeakKeyDictionary()
"""The largest batch that fits an engine which once ran out of memory: the next tile need not find out again."""


def score(
    engine: Engine,
    footprint: Any,  # noqa: ANN401 - an engine's own kind of array
    windows: Sequence[Window],
    weights: Weights,
    batch_size: int,
) -> Iterator[Any]:
    """Yield the probabilities (class, row, col) of each window times its weights, in order.

    The windows are split into equal batches, none padded. A batch that does not fit the memory is halved, and so are
    all later ones; a single window that does not fit raises GeosegError.
    """
    done = 0
    while done < len(windows):
        batches = math.ceil((len(windows) - done) / min(batch_size, _fitting.get(engine, batch_size)))
        batch = windows[done : done + math.ceil((len(windows) - done) / batches)]
        try:
            probabilities = engine.probabilities(footprint, batch, weights[done : done + len(batch)])
        except OutOfMemory:
            _halve(engine, len(batch), weights.shape[1])
            continue
        yield from probabilities
        done += len(batch)


def _halve(engine: Engine, batch_size: int, window_px: int) -> None:
    if batch_size == 1:
        raise GeosegError(
            f"one window of {window_px} x {window_px} pixels does not fit the memory of {engine.device}; "
            "take a smaller `window`, or `device='cpu'`"
        )
    if engine not in _fitting:
        message = (
            f"{engine.device} ran out of memory with {batch_size} windows a batch; going on with {batch_size // 2}"
        )
        warnings.warn(message, GeosegWarning, stacklevel=2)
    _fitting[engine] = min(_fitting.get(engine, batch_size), batch_size // 2)
