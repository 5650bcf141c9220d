"""The tiles of a run on a Dask cluster: a window of them in flight, each worker checked when it joins.

Every worker holds the task; what is sent are numbers of tiles. Tiles that take long are sent one by one, quick ones
several at once: the scheduler takes 4 ms for what is sent, whatever that is. A future is dropped once its tiles are
journaled, and what a worker has finished is found by the next one, so a worker that dies takes with it the tile that it
had in hand and nothing else. Imported only where Dask's client is.
"""

from __future__ import annotations

import itertools
import json
import logging
import threading
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cloudpickle
import dask.config
from distributed import CancelledError, Client, LocalCluster, WorkerPlugin, as_completed, get_worker
from distributed.client import ClosedClientError
from distributed.comm.core import CommClosedError
from distributed.scheduler import KilledWorker

from geoseg.errors import GeosegError, OutputError, UsageError, one_line
from geoseg.progress import Says
from geoseg.version import VERSION

_SENT_S = 2.0
"""How long a worker has for what it is sent at once, about."""
_MOST_TILES = 256
"""Sent at once."""
_ROUNDS = 4
"""So often each thread shall still be sent something: all end at about the same time."""
_IN_FLIGHT = 2
"""Sent to each thread of the workers: one in work, the next at hand."""
_LEAST_IN_FLIGHT = 16
"""A cluster that grows with what waits must see something wait."""
_TRIES = 3
"""Of a tile that fails, but for an option that cannot be right: the network may fail for a moment."""
_CONNECT_S = 20
_LOOKED_AT_SELDOM = {
    "distributed.worker.profile.enabled": False,
    "distributed.admin.tick.interval": "1s",
    "distributed.admin.system-monitor.interval": "10s",
    "distributed.worker.memory.monitor-interval": "500ms",
}
"""Dask looks a hundred times a second what a worker does, and fifty times whether it is alive. Two idle workers and
their scheduler took 0.075 of a core, so 0.016; workers that compute 10 % more than their work, so 2 % (measured)."""
_FIRST_LOOK_S, _LOOK_S = 1.0, 30.0
_LOOK_AT_WORKERS_S = 0.5
_LOOK_AT_FILE_S = 0.2


Several = Callable[[Sequence[int]], tuple[list[Any], list[int]]]
"""What `scheduler.in_turn` does with a task."""
_Answer = tuple[list[Any], list[int], float, tuple[str, str] | None]
"""Results, tiles that are left, seconds; the worker's address and why it cannot do the task, if so."""


def hold_task(task: Several, unfit: Callable[[], str | None] | None) -> WorkerPlugin:
    """Return what gives every worker, whenever it joins, the task of a run, and has it look whether it can do that.

    `task` does several tiles, as `scheduler.in_turn`; `unfit` returns why a process cannot do it, or None. The class
    and the task travel as values: a worker that lacks this geoseg, or a module of a model's function, can say so.
    """
    content, wanted = cloudpickle.dumps((task, unfit)), f"install geoseg {VERSION} and what the model imports"

    class HoldTask(WorkerPlugin):
        task: Several
        fault: str | None

        def setup(self, worker: Any) -> None:  # noqa: ANN401, ARG002 - as distributed calls it
            try:
                self.task, unfit = cloudpickle.loads(content)
                self.fault = None if unfit is None else unfit()
            except Exception as fault:  # noqa: BLE001 - whatever it is, this worker goes without the task
                self.fault = f"it cannot load the task ({' '.join(str(fault).split())}); {wanted}"

    return HoldTask()


def _name(run: str) -> str:
    return f"geoseg-{run}"


def _doing_held(run: str) -> Callable[[Sequence[int]], _Answer]:
    """Return a function that does the task that a worker holds; it travels as a value, see `hold_task`."""
    name = _name(run)

    def do_held(indexes: Sequence[int]) -> _Answer:
        worker = get_worker()
        held: Any = worker.plugins.get(name)
        fault = "it does not hold the task" if held is None else held.fault
        if fault is not None:
            return [], list(indexes), 0.0, (worker.address, fault)
        began = time.monotonic()
        done, left = held.task(indexes)
        return done, left, time.monotonic() - began, None

    return do_held


@dataclass(slots=True)
class _Flight:
    """The tiles in flight."""

    client: Any
    run: str
    waiting: deque[int]
    done: Any = field(default_factory=lambda: as_completed(raise_errors=False))
    sent: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """Tiles, by the key of a future; each try has its own."""
    at_once: int = 1
    """How many tiles are sent at once."""
    alone: set[int] = field(default_factory=set)
    """Tiles that are sent one by one: one of them may be what kills workers."""
    unfit: dict[str, str] = field(default_factory=dict)
    """Why workers are left out, by address."""
    failures: Counter[int] = field(default_factory=Counter)
    """By tile."""
    numbers: Iterator[int] = field(default_factory=itertools.count)

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
        total = sum(threads.values())
        most = max(_LEAST_IN_FLIGHT, _IN_FLIGHT * total)
        runs: list[tuple[int, ...]] = []
        while self.waiting and len(self.sent) + len(runs) < most:
            runs.append(self._next(total))
        if not runs:
            return
        keys = [f"geoseg-tile-{self.run}-{run[0]}-{next(self.numbers)}" for run in runs]
        futures = self.client.map(_doing_held(self.run), runs, key=keys, pure=False, workers=fit)
        self.sent.update(zip(keys, runs, strict=True))
        self.done.update(futures)

    def _next(self, threads: int) -> tuple[int, ...]:
        """Take the tiles that are sent next; fewer at the end."""
        size = max(1, min(self.at_once, len(self.waiting) // (_ROUNDS * max(1, threads))))
        run = [self.waiting.popleft()]
        while len(run) < size and self.waiting and self.alone.isdisjoint((run[-1], self.waiting[0])):
            run.append(self.waiting.popleft())
        return tuple(run)

    def _threads(self) -> dict[str, int]:
        now = time.monotonic()
        if self.unfit or not self.threads or now - self.looked >= _LOOK_AT_WORKERS_S:
            self.threads, self.looked = self.client.nthreads(), now
        return self.threads

    def landed(self, futures: Sequence[Any]) -> Iterator[Any]:
        """Yield the results of tiles that ended well; then the others are tried again, or raise what ends the run."""
        ended = [future for future in futures if future.status == "finished"]
        results: list[Any] = []
        for future, (done, left, seconds, unfit) in zip(ended, self.client.gather(ended), strict=True):
            tiles = len(self.sent.pop(future.key))
            if unfit is None:
                self._learn(tiles, seconds)
            else:
                self.unfit.update([unfit])
            future.release()  # from here on nobody asks for it, so nobody computes it again
            self.waiting.extendleft(reversed(left))
            results += done
        yield from results
        for future in futures:
            if future not in ended:
                self._failed(future)

    def _learn(self, tiles: int, seconds: float) -> None:
        """Send more at once, or less, by how long so many tiles took."""
        if seconds < _SENT_S / 2 and tiles >= self.at_once:
            self.at_once = min(2 * self.at_once, _MOST_TILES)
        elif seconds > 2 * _SENT_S and 1 < tiles <= self.at_once:
            self.at_once = tiles // 2

    def _failed(self, future: Any) -> None:  # noqa: ANN401 - distributed has no types
        """Have tiles tried again, or raise what ends the run."""
        status = future.status
        if status not in {"error", "cancelled"}:  # its worker died with the result: Dask computes it again
            self.done.add(future)
            return
        run = self.sent.pop(future.key)
        fault = future.exception() if status == "error" else CancelledError(future.key)
        future.release()
        if isinstance(fault, KilledWorker) and len(run) > 1:
            self.alone.update(run)
        elif isinstance(fault, KilledWorker):
            raise GeosegError(
                f"tile {run[0]} killed every worker that it was given to; give the workers more memory "
                "(memory_limit of Dask's workers), or use a smaller `tile`; the finished tiles are kept"
            ) from None
        elif isinstance(fault, CancelledError):
            raise fault
        else:
            self.failures[run[0]] += 1
            if self.failures[run[0]] >= _TRIES or isinstance(fault, UsageError):
                raise fault
        self.waiting.extendleft(reversed(run))


def run_on_cluster(  # noqa: PLR0913, PLR0917 - those of `scheduler.run_tasks`
    client: Any,  # noqa: ANN401 - distributed has no types
    task: Several,
    unfit: Callable[[], str | None] | None,
    indexes: Sequence[int],
    finished: Callable[[Any], None],
    announce: Says,
) -> None:
    """Have the workers of a client do a task for all indexes; `finished` gets each result, in this thread.

    `task` and `unfit` are those of `hold_task`.

    Raises what a task raises again and again, and GeosegError or OutputError where no worker can do it, a tile kills
    workers, or the scheduler leaves. `announce` gets a line for each worker that is left out, and when there is none.
    """
    run = uuid.uuid4().hex[:12]
    with (
        _told_of_its_end(client),
        _holding(client, hold_task(task, unfit), _name(run)),
        _told_of_no_worker(client, announce),
    ):
        flight = _Flight(client, run, deque(indexes))
        flight.fill()
        for futures in flight.done.batches():
            known = len(flight.unfit)
            for result in flight.landed(futures):
                finished(result)
            for address, reason in list(flight.unfit.items())[known:]:
                announce(f"the Dask worker {address} is left out: {reason}")
            flight.fill()


@contextmanager
def _told_of_its_end(client: Any) -> Iterator[None]:  # noqa: ANN401 - distributed has no types
    """Say in one line that the scheduler has left, whichever call finds out."""
    address = _address(client)
    try:
        yield
    except (CancelledError, ClosedClientError, OSError) as fault:
        if isinstance(fault, OSError) and not isinstance(fault, CommClosedError) and client.status == "running":
            raise  # it is another's, as of a pipe that nobody reads
        raise OutputError(
            f"the Dask scheduler at {address} has left; the finished tiles are kept: start it and run the same command "
            "again"
        ) from None


@contextmanager
def _holding(client: Any, plugin: WorkerPlugin, name: str) -> Iterator[None]:  # noqa: ANN401 - distributed has no types
    try:
        client.register_plugin(plugin, name)
    except (OSError, TimeoutError, ValueError) as fault:
        raise OutputError(f"the Dask scheduler at {_address(client)} does not answer: {fault}") from None
    try:
        yield
    finally:
        with suppress(Exception):  # a scheduler that has left
            client.unregister_worker_plugin(name)


@contextmanager
def _told_of_no_worker(client: Any, announce: Says) -> Iterator[None]:  # noqa: ANN401
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
def local_cluster(workers: int) -> Iterator[Any]:
    """Start so many worker processes on this machine, which leave its cores to the work."""
    with (
        dask.config.set(_LOOKED_AT_SELDOM),
        LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None) as local,
    ):
        yield local


@contextmanager
def connected(cluster: str) -> Iterator[None]:
    """Make a client current: of the scheduler at an address or in a scheduler file, or of N processes on this machine.

    Raises UsageError for what is none of these, OutputError where no scheduler answers.
    """
    if cluster.isdecimal() and int(cluster):
        with local_cluster(int(cluster)) as local, Client(local):
            yield
        return
    if "://" not in cluster and not cluster.endswith(".json"):
        raise UsageError(
            "`cluster` is the address of a Dask scheduler (tcp://host:8786), its scheduler file (.json), or a number "
            f"of processes on this machine; got {cluster!r:.80}",
            "cluster",
        )
    address = cluster if "://" in cluster else _address_in(Path(cluster))
    try:
        client = Client(address, timeout=_CONNECT_S)
    except (OSError, TimeoutError, ValueError) as fault:
        raise OutputError(
            f"no Dask scheduler answers at {cluster}: {one_line(fault)}; check that it runs and "
            "that its port can be reached",
            "cluster",
        ) from None
    with client, _quiet_client():
        yield


@contextmanager
def _quiet_client() -> Iterator[None]:
    """Keep to ourselves what Dask's client logs of a scheduler that has left, on many lines: it is said in one."""
    logger = logging.getLogger("distributed.client")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


def _address_in(file: Path) -> str:
    """Return the address in a scheduler's file, which a scheduler that has just been started is yet to write."""
    latest = time.monotonic() + _CONNECT_S
    while not file.is_file() and time.monotonic() < latest:
        time.sleep(_LOOK_AT_FILE_S)
    try:
        address = json.loads(file.read_bytes())["address"]
    except OSError as fault:
        raise OutputError(
            f"the scheduler file {file} cannot be read ({fault.strerror}); check that the scheduler runs and writes it "
            "(dask scheduler --scheduler-file)",
            "cluster",
        ) from None
    except (ValueError, KeyError, TypeError, RecursionError):
        address = None
    if not isinstance(address, str) or "://" not in address:
        raise UsageError(f"{file} is not the file of a Dask scheduler: it names no address; give that file", "cluster")
    return address


def _address(client: Any) -> str:  # noqa: ANN401 - distributed has no types
    return str(client.scheduler.address) if client.scheduler is not None else "its address"
