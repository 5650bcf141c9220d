"""Threads that send each other requests: one mailbox per thread, or a shared one for a crew.

No lock is taken here that another thread may hold for long, and a SimpleQueue may be used from a finalizer.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Thread

Do = Callable[[], object]

_POLL_S = 0.5
"""Longest wait at a time: on Windows, Ctrl-C does not wake a thread that waits indefinitely."""


class EndOfRunError(Exception):
    """The run has ended; never seen outside the thread that it ends."""


def _stop() -> None:
    raise EndOfRunError


def _look_again() -> None:
    pass


class Mailbox:
    """Requests to one thread from others; it serves them only while it waits."""

    def __init__(self) -> None:
        self._requests: SimpleQueue[Do] = SimpleQueue()
        self._stopped = False

    def ask(self, do: Do) -> None:
        """Make the thread call `do`, at once if it is waiting; may be called by any thread."""
        self._requests.put(do)

    def wake(self) -> None:
        """Make the thread check its condition again; may be called by any thread."""
        self._requests.put(_look_again)

    def stop(self) -> None:
        """End the thread the next time it waits."""
        self._stopped = True
        self._requests.put(_stop)

    def wait_for(self, ready: Callable[[], bool]) -> float:
        """Serve requests until `ready()` is true, and return the seconds spent without any."""
        waited_s = 0.0
        while not ready():
            if self._stopped:
                raise EndOfRunError
            began = time.perf_counter()
            do: Do | None = None
            with suppress(Empty):
                do = self._requests.get(timeout=_POLL_S)
            waited_s += time.perf_counter() - began
            if do is not None:
                do()
        return waited_s

    def empty(self) -> None:
        """Serve the pending requests and suppress their errors: the one that ended the run is raised already."""
        with suppress(Empty):
            while True:
                do = self._requests.get_nowait()
                with suppress(Exception):
                    do()


class Crew:
    """Threads that share one queue of requests; an exception goes to `fail` and ends its thread."""

    def __init__(self, name: str, size: int, fail: Callable[[BaseException], None]) -> None:
        self._requests: SimpleQueue[Do] = SimpleQueue()
        self._stopped = False
        self.threads = [named_thread(f"{name}-{number}", self._work, fail) for number in range(size)]

    def ask(self, do: Do) -> None:
        """Make one of the threads call `do`, in the order of the requests."""
        self._requests.put(do)

    def stop(self) -> None:
        """End the threads; requests not yet started are dropped."""
        self._stopped = True
        for _ in self.threads:
            self._requests.put(_stop)

    def _work(self) -> None:
        while not self._stopped:
            self._requests.get()()


def named_thread(name: str, work: Callable[[], None], fail: Callable[[BaseException], None]) -> Thread:
    """Return a daemon thread that passes the exception that ends it to `fail`, except for EndOfRunError."""

    def working() -> None:
        try:
            work()
        except EndOfRunError:
            pass
        except BaseException as error:  # noqa: BLE001 - the thread that waits for the run reraises it
            fail(error)

    return Thread(target=working, name=f"geoseg-{name}", daemon=True)
