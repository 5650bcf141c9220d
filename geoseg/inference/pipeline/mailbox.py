"""Threads that tell each other what to do: a mailbox for each, a common one for a crew.

Nothing here takes a lock that another thread may hold for long, and queues of this kind may be used from a finalizer.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Thread

Do = Callable[[], object]

_LOOK_S = 0.5
"""Ctrl-C does not wake a thread that waits without end on Windows."""


class EndOfRunError(Exception):
    """The run has ended; nobody sees it but the thread that ends."""


def _stop() -> None:
    raise EndOfRunError


def _look_again() -> None:
    pass


class Mailbox:
    """What other threads ask one thread to do; it does so while it waits, and nowhere else."""

    def __init__(self) -> None:
        self._asked: SimpleQueue[Do] = SimpleQueue()
        self._stopped = False

    def ask(self, do: Do) -> None:
        """Have the thread do something, at once if it waits; any thread may ask."""
        self._asked.put(do)

    def wake(self) -> None:
        """Have the thread see whether what it waits for is so; any thread may ask."""
        self._asked.put(_look_again)

    def stop(self) -> None:
        """End the thread where it waits next."""
        self._stopped = True
        self._asked.put(_stop)

    def wait_for(self, ready: Callable[[], bool]) -> float:
        """Do what is asked until something is so, and return the seconds that nothing was asked for."""
        waited_s = 0.0
        while not ready():
            if self._stopped:
                raise EndOfRunError
            began = time.perf_counter()
            do: Do | None = None
            with suppress(Empty):
                do = self._asked.get(timeout=_LOOK_S)
            waited_s += time.perf_counter() - began
            if do is not None:
                do()
        return waited_s

    def empty(self) -> None:
        """Do what is asked already, and let no fault of it out: what must be known of it is known."""
        with suppress(Empty):
            while True:
                do = self._asked.get_nowait()
                with suppress(Exception):
                    do()


class Crew:
    """Threads that do whatever is next; what one of them raises goes to `fail`, and ends it."""

    def __init__(self, name: str, size: int, fail: Callable[[BaseException], None]) -> None:
        self._asked: SimpleQueue[Do] = SimpleQueue()
        self._stopped = False
        self.threads = [named_thread(f"{name}-{number}", self._work, fail) for number in range(size)]

    def ask(self, do: Do) -> None:
        """Have one of them do something; in the order asked for."""
        self._asked.put(do)

    def stop(self) -> None:
        """End them; what has not begun is not done."""
        self._stopped = True
        for _ in self.threads:
            self._asked.put(_stop)

    def _work(self) -> None:
        while not self._stopped:
            self._asked.get()()


def named_thread(name: str, work: Callable[[], None], fail: Callable[[BaseException], None]) -> Thread:
    """Return a thread that tells of what ends it, but for the end of the run; a forgotten one lets Python end."""

    def working() -> None:
        try:
            work()
        except EndOfRunError:
            pass
        except BaseException as error:  # noqa: BLE001 - the thread that waits for the run raises it
            fail(error)

    return Thread(target=working, name=f"geoseg-{name}", daemon=True)
