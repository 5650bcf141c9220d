"""The tiles of a run on a Dask cluster: a window of them in flight, each worker checked when it joins.

Every worker holds the task; what is sent for a tile is its number. A future is dropped once its tile is journaled, so a
worker that dies takes with it what it had in hand and nothing else. Imported only where Dask's client is.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from distributed import CancelledError, Client, LocalCluster, WorkerPlugin, as_completed, get_worker
from distributed.scheduler import KilledWorker

from geoseg.errors import GeosegError, OutputError, UsageError

_IN_FLIGHT = 2
"""Tiles for each thread of the workers: one in work, the next at hand."""
_LEAST_IN_FLIGHT = 16
"""A cluster that grows with what waits must see something wait."""
_TRIES = 3
"""Of a tile that fails, but for an option that cannot be right: the network may fail for a moment."""
_CONNECT_S = 20
_FIRST_LOOK_S, _LOOK_S = 1.0, 30.0
_LOOK_AT_WORKERS_S = 0.5


@dataclass(frozen=True, slots=True)
class _Held:
    task: Callable[[int], Any]
    fault: str | None
    """Why this worker cannot do it."""


_held: dict[str, _Held] = {}
"""What this process was told of runs that go on."""


class Unfit(Exception):  # noqa: N818 (it is an answer of a worker, which goes without it)
    """A worker cannot do the task; another may."""

    def __init__(self, worker: str, reason: str) -> None:
        super().__init__(worker, reason)
        self.worker, self.reason = worker, reason


class HoldTask(WorkerPlugin):
    """Gives every worker, whenever it joins, the task of a run, and has it look whether it can do that.

    `unfit` returns why a process cannot do the task, or None.
    """

    def __init__(self, run: str, task: Callable[[int], Any], unfit: Callable[[], str | None] | None) -> None:
        self.name = f"geoseg-{run}"
        self.run, self._task, self._unfit = run, task, unfit

    def setup(self, worker: Any) -> None:  # noqa: ANN401, ARG002 - as distributed calls it
        """Hold the task."""
        _held[self.run] = _Held(self._task, None if self._unfit is None else self._unfit())

    def teardown(self, worker: Any) -> None:  # noqa: ANN401, ARG002 - as distributed calls it
        """Forget it."""
        _held.pop(self.run, None)


def do_held(run: str, index: int) -> Any:  # noqa: ANN401 - what the task returns
    """Do the task that this worker holds; Unfit where it cannot."""
    held = _held.get(run)
    if held is None or held.fault is not None:
        reason = "it does not hold the task" if held is None else held.fault
        raise Unfit(get_worker().address, str(reason))
    return held.task(index)


@dataclass(slots=True)
class _Flight:
    """The tiles in flight."""

    client: Any
    run: str
    waiting: deque[int]
    done: Any = field(default_factory=lambda: as_completed(raise_errors=False))
    index_of: dict[str, int] = field(default_factory=dict)
    """By the key of a future; each try of a tile has its own."""
    unfit: dict[str, str] = field(default_factory=dict)
    """Why workers are left out, by address."""
    failures: Counter[int] = field(default_factory=Counter)
    """By tile."""
    sent: Iterator[int] = field(default_factory=itertools.count)

    threads: dict[str, int] = field(default_factory=dict)
    """Of the workers, by address, as they were a moment ago: asking the scheduler takes as long as sending a tile."""
    looked: float = -_LOOK_AT_WORKERS_S

    def fill(self) -> None:
        """Send tiles until enough are in flight."""
        threads = self._threads()
        fit = [address for address in threads if address not in self.unfit] if self.unfit else None
        if self.unfit and threads and not fit:
            address, reason = next(iter(self.unfit.items()))
            raise OutputError(f"no Dask worker can do the work; {address}: {reason}")
        most = max(_LEAST_IN_FLIGHT, _IN_FLIGHT * sum(threads.values()))
        count = min(len(self.waiting), most - len(self.index_of))
        if count <= 0:
            return
        indexes = [self.waiting.popleft() for _ in range(count)]
        keys = [f"geoseg-tile-{self.run}-{index}-{next(self.sent)}" for index in indexes]
        do = partial(do_held, self.run)
        futures = self.client.map(do, indexes, key=keys, pure=False, workers=fit)
        self.index_of.update(zip(keys, indexes, strict=True))
        self.done.update(futures)

    def _threads(self) -> dict[str, int]:
        now = time.monotonic()
        if self.unfit or not self.threads or now - self.looked >= _LOOK_AT_WORKERS_S:
            self.threads, self.looked = self.client.nthreads(), now
        return self.threads

    def landed(self, futures: Sequence[Any]) -> Iterator[Any]:
        """Yield the results of tiles that ended well; then the others are tried again, or raise what ends the run."""
        ended = [future for future in futures if future.status == "finished"]
        results = self.client.gather(ended)
        for future in ended:
            self.index_of.pop(future.key)
            future.release()  # from here on nobody asks for it, so nobody computes it again
        yield from results
        for future in futures:
            if future not in ended:
                self._failed(future)

    def _failed(self, future: Any) -> None:  # noqa: ANN401 - distributed has no types
        """Have a tile tried again, or raise what ends the run."""
        status = future.status
        if status not in {"error", "cancelled"}:  # its worker died with the result: Dask computes it again
            self.done.add(future)
            return
        index = self.index_of.pop(future.key)
        fault = future.exception() if status == "error" else CancelledError(future.key)
        future.release()
        if isinstance(fault, Unfit):
            self.unfit[fault.worker] = fault.reason
        elif isinstance(fault, KilledWorker):
            raise GeosegError(
                f"tile {index} killed every worker that it was given to; give the workers more memory "
                "(memory_limit of Dask's workers), or take a smaller `tile`; the finished tiles are kept"
            ) from None
        elif isinstance(fault, CancelledError):
            raise OutputError(
                f"the Dask scheduler at {_address(self.client)} has left; the finished tiles are kept: start it and "
                "run the same command again"
            ) from None
        else:
            self.failures[index] += 1
            if self.failures[index] >= _TRIES or isinstance(fault, UsageError):
                raise fault
        self.waiting.appendleft(index)


def run_on_cluster(
    client: Any,  # noqa: ANN401 - distributed has no types
    plugin: HoldTask,
    indexes: Sequence[int],
    finished: Callable[[Any], None],
    announce: Callable[[str], None],
) -> None:
    """Have the workers of a client do a task for each index; `finished` gets each result, in this thread.

    Raises what a task raises again and again, and GeosegError or OutputError where no worker can do it, a tile kills
    workers, or the scheduler leaves. `announce` gets a line for each worker that is left out, and when there is none.
    """
    with _holding(client, plugin), _told_of_no_worker(client, announce):
        flight = _Flight(client, plugin.run, deque(indexes))
        flight.fill()
        for futures in flight.done.batches():
            known = len(flight.unfit)
            for result in flight.landed(futures):
                finished(result)
            for address, reason in list(flight.unfit.items())[known:]:
                announce(f"the Dask worker {address} is left out: {reason}")
            flight.fill()


@contextmanager
def _holding(client: Any, plugin: HoldTask) -> Iterator[None]:  # noqa: ANN401 - distributed has no types
    try:
        client.register_plugin(plugin)
    except (OSError, TimeoutError, ValueError) as fault:
        raise OutputError(f"the Dask scheduler at {_address(client)} does not answer: {fault}") from None
    try:
        yield
    finally:
        with suppress(Exception):  # a scheduler that has left
            client.unregister_worker_plugin(plugin.name)


@contextmanager
def _told_of_no_worker(client: Any, announce: Callable[[str], None]) -> Iterator[None]:  # noqa: ANN401
    """Say so while a client has no worker: adaptive clusters start them for tasks that wait, queues when they like."""
    left = threading.Event()

    def watch() -> None:
        wait_s = _FIRST_LOOK_S
        while not left.wait(wait_s):
            wait_s = _LOOK_S
            if not client.nthreads():
                announce(f"the Dask client at {_address(client)} has no worker; waiting for one (Ctrl-C ends)")

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        left.set()


@contextmanager
def connected(cluster: str) -> Iterator[None]:
    """Make a client current: of the scheduler at an address or in a scheduler file, or of N processes on this machine.

    Raises UsageError for what is none of these, OutputError where no scheduler answers.
    """
    if cluster.isdecimal() and int(cluster):
        with (
            LocalCluster(n_workers=int(cluster), threads_per_worker=1, dashboard_address=None) as local,
            Client(local),
        ):
            yield
        return
    if "://" not in cluster and not cluster.endswith(".json"):
        raise UsageError(
            "`cluster` is the address of a Dask scheduler (tcp://host:8786), its scheduler file (.json), or a number "
            f"of processes on this machine; got {cluster!r:.80}",
            "cluster",
        )
    where = {"address": cluster} if "://" in cluster else {"scheduler_file": cluster}
    try:
        client = Client(**where, timeout=_CONNECT_S)
    except (OSError, TimeoutError, ValueError) as fault:
        raise OutputError(
            f"no Dask scheduler answers at {cluster}: {' '.join(str(fault).split()):.160}; check that it runs and "
            "that its port can be reached",
            "cluster",
        ) from None
    with client:
        yield


def _address(client: Any) -> str:  # noqa: ANN401 - distributed has no types
    return str(client.scheduler.address) if client.scheduler is not None else "its address"
