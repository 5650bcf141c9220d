"""Work done ahead, in a thread of its own: reading, tracing and writing go on side by side."""

from __future__ import annotations

from collections.abc import Iterator
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import TypeVar

Item = TypeVar("Item")

_LOOK_AROUND_S = 0.1


def ahead(items: Iterator[Item], depth: int = 1) -> Iterator[Item]:
    """Yield the same items, while the thread makes up to `depth` more. What it raises comes out here.

    When the reader leaves, the thread stops at its next item.
    """
    made: Queue[tuple[Item] | BaseException | None] = Queue(depth)
    left = Event()
    thread = Thread(target=_make, args=(items, made, left), daemon=True)
    thread.start()
    try:
        while (item := made.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item[0]
    finally:
        left.set()
        while thread.is_alive():  # it may wait for room
            try:
                made.get(timeout=_LOOK_AROUND_S)
            except Empty:
                thread.join(_LOOK_AROUND_S)


def _make(items: Iterator[Item], made: Queue[tuple[Item] | BaseException | None], left: Event) -> None:
    try:
        for item in items:
            if not _put(made, (item,), left):
                return
        _put(made, None, left)
    except BaseException as error:  # noqa: BLE001 - it is raised where the items are read
        _put(made, error, left)


def _put(
    made: Queue[tuple[Item] | BaseException | None], item: tuple[Item] | BaseException | None, left: Event
) -> bool:
    while not left.is_set():
        try:
            made.put(item, timeout=_LOOK_AROUND_S)
        except Full:
            continue
        return True
    return False
