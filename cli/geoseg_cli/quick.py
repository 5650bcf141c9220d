"""What a command leaves out of its start: a process lives a second, and should not spend it on imports."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

_BLAS = "scipy.linalg.cython_blas"


@contextmanager
def quick_start() -> Iterator[None]:
    """Load numba without SciPy, and modules without looking for garbage among them.

    numba asks for SciPy's BLAS whether a kernel multiplies matrices or not (ours do not): 0.15 s. Nobody else uses
    numba in the command's process. Modules are never garbage, but a tenth of an import's time goes into finding out.
    """
    modules = cast("dict[str, Any]", sys.modules)
    hidden = _BLAS not in modules
    if hidden:
        modules[_BLAS] = None  # an import of it fails, as where SciPy is not installed
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
        if hidden:
            modules.pop(_BLAS, None)
