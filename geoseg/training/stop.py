"""A training that the user, or the system, stops: after the batch at hand, so that it is kept."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


class Stop:
    """Whether somebody wants the run to stop."""

    def __init__(self) -> None:
        self.requested = False


@contextmanager
def polite_stop(say: Callable[[str], None]) -> Iterator[Stop]:
    """Have the first Ctrl-C, or SIGTERM, ask for a stop, and the second raise KeyboardInterrupt at once.

    In another thread than the main one, where Python lets nobody listen to signals, nothing changes.
    """
    stop = Stop()

    def ask(_number: int, _frame: FrameType | None) -> None:
        if stop.requested:
            raise KeyboardInterrupt
        stop.requested = True
        say("stopping after this batch, with a checkpoint; once more stops at once")

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, ask) for number in numbers]
    try:
        yield stop
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
