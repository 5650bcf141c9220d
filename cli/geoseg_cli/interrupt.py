"""A run that the user, or the system, stops."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from geoseg.errors import GeosegError


class InterruptedRunError(GeosegError):
    """The user, or the system, stopped the run; the message says what is kept."""


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


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
