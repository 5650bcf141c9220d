"""Work done ahead of its reader, in threads: the next items are made while one is used."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")


class _End:
    """Stands behind the last item."""


def prefetch(items: Iterable[Item], depth: int = 1) -> Iterator[Item]:
    """Yield the same items, made in one thread of their own, `depth` of them ahead of the reader.

    What making one raises comes out in its turn. When the reader leaves, the thread finishes the item it is at and
    closes `items`, if that is a generator, where it was run: GDAL keeps its settings by thread.
    """
    source = iter(items)
    pool = ThreadPoolExecutor(1, "geoseg-prefetch")
    waiting: deque[Future[Item | _End]] = deque()
    try:
        waiting.extend(pool.submit(next, source, _End()) for _ in range(depth))
        while not isinstance(item := waiting.popleft().result(), _End):
            waiting.append(pool.submit(next, source, _End()))
            yield item
    finally:
        for future in waiting:
            future.cancel()
        try:
            # Ctrl-C while the thread starts leaves it at work, unknown to the pool: its generator cannot be closed yet.
            # At the interpreter's end (RuntimeError) no thread takes work any more.
            with suppress(ValueError, RuntimeError):
                pool.submit(getattr(source, "close", lambda: None)).result()
        finally:
            pool.shutdown()  # wakes that thread too, which the interpreter would wait for without end


def prefetch_map(make: Callable[[Item], Made], items: Iterable[Item], threads: int, depth: int) -> Generator[Made]:
    """Yield make(item) of each item, in their order, made in several threads, `depth` of them ahead of the reader.

    What making one raises comes out in its turn. When the reader leaves, what has not begun is not made.
    """
    source = iter(items)
    pool = ThreadPoolExecutor(threads, "geoseg-prefetch")
    try:
        waiting = deque(pool.submit(make, item) for item in islice(source, depth))
        while waiting:
            made = waiting.popleft().result()
            waiting.extend(pool.submit(make, item) for item in islice(source, 1))
            yield made
    finally:
        pool.shutdown(cancel_futures=True)
