"""The process of a command: a fast start, and Ctrl-C or SIGTERM at any time."""

from __future__ import annotations

import gc
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, cast

from geoseg.errors import GeosegError

_BLAS = "scipy.linalg.cython_blas"
_IMPORTS = "<frozen importlib."
_SOON_S = 0.01


class InterruptedRunError(GeosegError):
    """The user or the system stopped the run; the message says what is kept."""


@contextmanager
def fast_start() -> Iterator[None]:
    """Import numba without SciPy, and modules without garbage collection.

    numba imports SciPy's BLAS (0.15 s) even for kernels that multiply no matrices, and ours do not. Modules are never
    garbage, yet a tenth of the time of an import goes into looking for some.
    """
    modules = cast("dict[str, Any]", sys.modules)
    hidden = _BLAS not in modules
    if hidden:
        modules[_BLAS] = None  # an import of it fails, as without SciPy
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
        if hidden:
            modules.pop(_BLAS, None)


@contextmanager
def interrupts_between_imports() -> Iterator[None]:
    """Keep Ctrl-C out of Python's import code, which may lose it and keep the lock of all imports.

    Its weakref callbacks take that lock on one line and release it on the next but one. Python drops an exception
    raised in between, and every thread that imports something later waits forever.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:  # ignored, or not ours
        yield
        return
    signal.signal(signal.SIGINT, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def termination_interrupts() -> Iterator[None]:
    """Treat SIGTERM, and Ctrl-Break on Windows, as Ctrl-C."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set handlers
        return
    signals = [getattr(signal, name) for name in ("SIGTERM", "SIGBREAK") if hasattr(signal, name)]
    before = [signal.signal(number, _interrupt) for number in signals]
    try:
        yield
    finally:
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt, a moment later if Python is about to take or release an import lock."""
    if frame is None or not frame.f_code.co_filename.startswith(_IMPORTS):
        raise KeyboardInterrupt
    again = threading.Timer(_SOON_S, _signal_main_thread, (number,))
    again.daemon = True
    again.start()


def _signal_main_thread(number: int) -> None:
    main = threading.main_thread().ident
    if hasattr(signal, "pthread_kill") and main is not None:
        signal.pthread_kill(main, number)
    else:
        signal.raise_signal(number)
