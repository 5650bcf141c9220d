"""Work done in threads, ahead of the reader: the next items are made while one is used."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import islice
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

_JOIN_TIMEOUT_S = 10.0
"""How long a closing reader waits for its thread; during garbage collection it may hold locks the thread needs."""


class _End:
    """Marker after the last item."""


class _Raised:
    """An exception raised while making an item."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


def prefetch(items: Iterable[_Item], depth: int = 1) -> Iterator[_Item]:
    """Yield the same items, made in a separate thread, `depth` of them ahead of the reader.

    An exception from making an item is raised in its turn. When the reader closes, the thread finishes its current item
    and closes `items`, if that is a generator, in the same thread: GDAL keeps its settings per thread.

    Garbage collection may end an abandoned reader at any point, so nothing here takes a lock that could already be
    held: a SimpleQueue may be used from a finalizer, a thread pool may not.
    """
    source = iter(items)
    requests: SimpleQueue[bool] = SimpleQueue()
    results: SimpleQueue[_Item | _End | _Raised] = SimpleQueue()
    close_errors: list[BaseException] = []

    def work() -> None:
        while requests.get():
            try:
                results.put(next(source, _End()))
            except BaseException as error:  # noqa: BLE001 - the reader raises it
                results.put(_Raised(error))
        try:
            getattr(source, "close", lambda: None)()
        except BaseException as error:  # noqa: BLE001 - as above
            close_errors.append(error)

    thread = Thread(target=work, name="geoseg-prefetch", daemon=True)  # abandoned readers do not keep Python alive
    try:
        thread.start()
        for _ in range(depth):
            requests.put(True)
        while not isinstance(item := results.get(), _End):
            if isinstance(item, _Raised):
                raise item.error
            requests.put(True)
            yield item
    finally:
        while not requests.empty():
            with suppress(Empty):
                requests.get_nowait()
        requests.put(False)
        with suppress(RuntimeError):  # Ctrl-C came before it was started
            thread.join(_JOIN_TIMEOUT_S)
        if close_errors:
            raise close_errors[0]


def prefetch_map(
    make: Callable[[_Item], _Result], items: Iterable[_Item], threads: int, depth: int
) -> Generator[_Result]:
    """Yield make(item) for each item, in order, made in several threads, `depth` of them ahead of the reader.

    An exception from making an item is raised in its turn. When the reader closes, items not yet started are not made.
    """
    source = iter(items)
    pool = ThreadPoolExecutor(threads, "geoseg-prefetch")
    try:
        waiting = deque(pool.submit(make, item) for item in islice(source, depth))
        while waiting:
            result = waiting.popleft().result()
            waiting.extend(pool.submit(make, item) for item in islice(source, 1))
            yield result
    finally:
        pool.shutdown(cancel_futures=True)
