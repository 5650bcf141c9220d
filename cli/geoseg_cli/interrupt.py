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


_IMPORTS = "<frozen importlib."
_SOON_S = 0.01


@contextmanager
def interrupts_between_imports() -> Iterator[None]:
    """Keep Ctrl-C out of Python's own code of imports, where it may be lost and leave the lock of all imports held.

    Its callbacks take that lock in one line and give it back in the next but one; an exception in between is dropped
    (weakref callbacks raise nowhere), and every thread that imports something later waits for ever.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:  # ignored, or somebody else's
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
    """Raise KeyboardInterrupt; soon, where Python is about to take or give back a lock of its imports."""
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
