"""The process of a command: a fast start, and Ctrl-C or SIGTERM at any time."""

from __future__ import annotations

import gc
import importlib
import importlib.util
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, ModuleType
from typing import Any, cast

from geoseg.errors import GeosegError
from geoseg_cli import end_at_once

_BLAS = "scipy.linalg.cython_blas"
_IMPORTS = "<frozen importlib."
_SOON_S = 0.01
_PATIENCE_S = 30.0
"""How long a run may take to end after an interrupt before it is interrupted again."""


class InterruptedRunError(GeosegError):
    """The user or the system stopped the run; the message says what was kept."""


@contextmanager
def fast_start() -> Iterator[None]:
    """Import numba without SciPy, and modules without garbage collection.

    numba imports SciPy's BLAS (0.15 s) even for kernels that multiply no matrices, like ours. Modules are never
    garbage, yet garbage collection takes a tenth of an import's time.
    """
    modules = cast("dict[str, Any]", sys.modules)
    hidden = _BLAS not in modules
    if hidden:
        modules[_BLAS] = None  # makes importing it fail, as without SciPy
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
        if hidden:
            modules.pop(_BLAS, None)


def load_boto3_when_used() -> None:
    """Delay loading boto3 until one of its attributes is used.

    If installed, rasterio imports it (0.17 s) for AWS keys that few scenes need. Python's own LazyLoader loads a module
    as soon as a second one imports it.
    """
    name = "boto3"
    if name in sys.modules or "AWS_ACCESS_KEY_ID" in os.environ:
        return
    spec, lock = importlib.util.find_spec(name), threading.Lock()
    if spec is None:
        return
    stub = ModuleType(name)

    def load(attribute: str) -> object:
        with lock:
            if sys.modules.get(name) is stub:
                del sys.modules[name]
        return getattr(importlib.import_module(name), attribute)

    stub.__spec__, stub.__getattr__ = spec, load  # type: ignore[method-assign]
    sys.modules[name] = stub


@contextmanager
def interrupts_between_imports() -> Iterator[None]:
    """Keep Ctrl-C out of Python's import code, which may lose it and keep the global import lock.

    Its weakref callbacks acquire that lock and release it two lines later. Python drops an exception raised in between,
    and any thread that imports something afterwards waits forever.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGINT) not in (signal.default_int_handler, end_at_once):
        yield  # Ctrl-C is ignored, or has another handler
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
            signal.signal(number, signal.SIG_DFL if handler is end_at_once else handler)


def interrupt_at_end_of_stdin() -> None:
    """Interrupt this process, as Ctrl-C does, when its stdin closes.

    A pipe closes when the program at its other end closes it or ends, even if that program is killed. So a program that
    starts geoseg can cancel it on any system without leaving an orphan: Windows has no signal for a process without a
    console. Child processes of this one get an empty stdin; on Windows a pipe in use would block them.
    """
    try:
        pipe = os.dup(0)
    except OSError:
        return  # started without a stdin
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.close(empty)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # started in the background by a shell
        signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=_wait_for_end, args=(pipe,), name="geoseg-stdin", daemon=True).start()


def _wait_for_end(pipe: int) -> None:
    while os.read(pipe, 4096):
        pass
    for _ in range(2):
        _signal_main_thread(signal.SIGINT)
        time.sleep(_PATIENCE_S)
    os._exit(1)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt, delayed if Python is about to acquire or release an import lock."""
    if frame is None or not frame.f_code.co_filename.startswith(_IMPORTS):
        raise KeyboardInterrupt
    retry = threading.Timer(_SOON_S, _signal_main_thread, (number,))
    retry.daemon = True
    retry.start()


def _signal_main_thread(number: int) -> None:
    main = threading.main_thread().ident
    if hasattr(signal, "pthread_kill") and main is not None:
        signal.pthread_kill(main, number)
    else:
        signal.raise_signal(number)
