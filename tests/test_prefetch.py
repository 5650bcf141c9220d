from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial

import pytest

from geoseg.prefetch import prefetch, prefetch_map

Ahead = Callable[[Iterable[int], int], Iterator[int]]


def mapped(items: Iterable[int], depth: int) -> Iterator[int]:
    return prefetch_map(lambda item: item, items, 3, depth)


BOTH = pytest.mark.parametrize("ahead", [prefetch, mapped])


def wait_for(condition: Callable[[], bool]) -> bool:
    stop = time.monotonic() + 5
    while not condition() and time.monotonic() < stop:
        time.sleep(0.005)
    return condition()


@BOTH
@pytest.mark.parametrize("depth", [1, 3, 50])
@pytest.mark.parametrize("count", [0, 1, 20])
def test_the_items_are_the_same_in_the_same_order(ahead: Ahead, depth: int, count: int) -> None:
    assert list(ahead(range(count), depth)) == list(range(count))


@pytest.mark.parametrize("depth", [1, 4])
def test_no_more_than_depth_items_are_made_ahead(depth: int) -> None:
    made: list[int] = []
    reader = prefetch((made.append(i) or i for i in range(100)), depth)
    assert next(reader) == 0
    assert wait_for(lambda: len(made) == depth + 1)
    time.sleep(0.05)
    assert len(made) == depth + 1
    reader.close()


def test_items_are_made_in_one_thread_that_is_not_the_readers_and_closed_there() -> None:
    threads: list[int] = []

    def items() -> Iterator[int]:
        try:
            for i in range(9):
                threads.append(threading.get_ident())
                yield i
        finally:
            threads.append(threading.get_ident())

    reader = prefetch(items())
    next(reader)
    reader.close()
    assert len(set(threads)) == 1
    assert threading.get_ident() not in threads
    assert len(threads) < 9


def test_what_an_item_raises_comes_out_in_its_turn() -> None:
    def items() -> Iterator[int]:
        yield from (1, 2)
        raise KeyError("three")

    reader = prefetch(items(), 3)
    assert [next(reader), next(reader)] == [1, 2]
    with pytest.raises(KeyError):
        next(reader)


def test_what_make_raises_comes_out_in_its_turn() -> None:
    reader = prefetch_map(partial(int, base=10), ["1", "x", "3"], 2, 3)
    assert next(reader) == 1
    with pytest.raises(ValueError, match="x"):
        next(reader)


def test_several_are_made_at_once_and_none_after_the_reader_has_left() -> None:
    meet, made = threading.Barrier(3, timeout=5), []

    def make(item: int) -> int:
        if item < 3:
            meet.wait()  # passes only if three threads wait here
        made.append(item)
        return item

    reader = prefetch_map(make, range(100), 3, 4)
    assert next(reader) == 0
    reader.close()
    assert len(made) <= 6


def test_what_has_not_begun_is_not_made_when_the_reader_leaves() -> None:
    made: list[int] = []
    go = threading.Event()

    def make(item: int) -> int:
        if item:
            go.wait(5)
        made.append(item)
        return item

    reader = prefetch_map(make, range(100), 1, 50)
    assert next(reader) == 0
    threading.Timer(0.05, go.set).start()
    reader.close()
    assert len(made) <= 2


@BOTH
def test_no_thread_is_left(ahead: Ahead) -> None:
    before = threading.active_count()
    for _ in ahead(range(5), 2):
        pass
    reader = ahead(range(5), 2)
    next(reader)
    reader.close()
    assert threading.active_count() == before


@pytest.mark.parametrize("how", ["prefetch(items())", "prefetch_map(str, items(), 2, 2)"])
def test_an_interruption_while_the_thread_starts_ends_the_process(how: str) -> None:
    program = f"""
        import threading, time
        from geoseg.prefetch import prefetch, prefetch_map

        start = threading.Thread.start

        def interrupted(thread):
            start(thread)
            if "prefetch" in thread.name:
                threading.Thread.start = start
                raise KeyboardInterrupt  # before the pool has noted the thread

        def items():
            time.sleep(0.3)
            yield from range(5)

        threading.Thread.start = interrupted
        kept = {how}
        try:
            next(kept)
        except KeyboardInterrupt as error:
            keep = error  # and with it the frames and the pool in them
        print("over")
    """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (run.stdout, run.stderr, run.returncode) == ("over\n", "", 0)


def test_garbage_collection_may_end_a_reader_in_the_middle_of_a_pools_work() -> None:
    program = """
    import gc
    from concurrent.futures import thread
    from geoseg.prefetch import prefetch

    class Kept:
        def __init__(self):
            self.me, self.reader = self, prefetch(iter(range(9)))
            next(self.reader)

    gc.disable()
    Kept()
    with thread._global_shutdown_lock:  # as within ThreadPoolExecutor.submit
        gc.collect()
    print("done")
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    told = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    assert told.stdout == "done\n"
