"""The kernels compiled before work begins: once on each machine, then they are loaded from the disk."""

from __future__ import annotations

from collections.abc import Callable
from threading import Timer

import numpy as np
from affine import Affine
from numba.core.registry import cpu_target

from geoseg.vector.measure import measure
from geoseg.vector.surface import Surface
from geoseg.vector.trace import Tracing, trace

_LOADED_S = 1.5
"""Loading takes less than this, compiling more."""


def load_compiler() -> None:
    """Load what numba loads when the first kernel is called, whichever that is."""
    cpu_target.typing_context.refresh()
    cpu_target.target_context.refresh()


def warm(dtype: str, tracing: Tracing, announce: Callable[[str], None]) -> None:
    """Trace a few pixels, as the raster will be traced; say so if that takes long."""
    said = Timer(
        _LOADED_S,
        announce,
        ["compiling for this processor; some seconds, the first time that geoseg draws polygons here"],
    )
    said.daemon = True
    said.start()
    try:
        polygons = trace(np.arange(4, dtype=dtype).reshape(2, 2), 0, Affine.identity(), tracing)
        measure(polygons, Surface((1.0, 0.0, 0.0, 1.0)))
    finally:
        said.cancel()
