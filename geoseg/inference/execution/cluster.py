"""Running tiles on a Dask cluster: a limited number in flight, each worker checked when it joins.

Every worker holds the task; only tile indexes are sent. Slow tiles are sent one by one, quick ones several at once: the
scheduler takes 4 ms per message, whatever it holds. A future is dropped once its tiles are journaled, and a worker
finds the parts that others have finished, so a worker that dies loses only the tile it was working on. Imported only if
Dask's client is.
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
from geoseg.progress import Announce
from geoseg.version import VERSION

_MESSAGE_S = 2.0
"""Approximate duration of the work sent to a worker at once."""
_MOST_TILES = 256
"""Largest number of tiles sent at once."""
_ROUNDS = 4
"""Each thread should get at least this many more messages, so that all finish at about the same time."""
_IN_FLIGHT = 2
"""Messages in flight per worker thread: one being processed, the next at hand."""
_LEAST_IN_FLIGHT = 16
"""An adaptive cluster grows only if it sees tasks waiting."""
_TRIES = 3
"""Attempts per tile, except for an invalid option, and to hand out the task: the network may fail for a moment."""
_CONNECT_S = 20
_QUIET_SETTINGS = {
    "distributed.worker.profile.enabled": False,
    "distributed.admin.tick.interval": "1s",
    "distributed.admin.system-monitor.interval": "10s",
    "distributed.worker.memory.monitor-interval": "500ms",
}
"""By default Dask profiles workers 100 times a second, and checks 50 times whether they are alive. With these settings
two idle workers and their scheduler took 0.016 of a core, not 0.075; busy workers 2 % extra, not 10 % (measured)."""
_FIRST_CHECK_S, _CHECK_S = 1.0, 30.0
_THREADS_CACHED_S = 0.5
_FILE_POLL_S = 0.2


Several = Callable[[Sequence[int]], tuple[list[Any], list[int]]]
"""A task for several tiles, like `scheduler.in_turn` with its first argument bound."""
_Answer = tuple[list[Any], list[int], float, tuple[str, str] | None]
"""Results, remaining tiles, seconds; address and reason if the worker cannot do the task."""


def hold_task(task: Several, unfit: Callable[[], str | None] | None) -> WorkerPlugin:
    """Return a plugin that gives every worker, whenever it joins, the task of a run, and checks that it can do it.

    `task` does several tiles, like `scheduler.in_turn`; `unfit` returns why a process cannot do it, or None. Class and
    task are pickled by value, so that a worker can report that it lacks this geoseg, or a module of the model.
    """
    content = cloudpickle.dumps((task, unfit))
    hint = f"install geoseg {VERSION} and the packages that the model imports"

    class HoldTask(WorkerPlugin):
        task: Several
        fault: str | None

        def setup(self, worker: Any) -> None:  # noqa: ANN401, ARG002 - as distributed calls it
            try:
                self.task, unfit = cloudpickle.loads(content)
                self.fault = None if unfit is None else unfit()
            except Exception as fault:  # noqa: BLE001 - whatever the reason, this worker has no task
                self.fault = f"it cannot load the task ({' '.join(str(fault).split())}); {hint}"

    return HoldTask()


def _plugin_name(run: str) -> str:
    return f"geoseg-{run}"


def _held_task(run: str) -> Callable[[Sequence[int]], _Answer]:
    """Return a function that runs the task that a worker holds; pickled by value, see `hold_task`."""
    name = _plugin_name(run)

    def run_held_task(indexes: Sequence[int]) -> _Answer:
        worker = get_worker()
        plugin: Any = worker.plugins.get(name)
        fault = "it did not receive the task" if plugin is None else plugin.fault
        if fault is not None:
            return [], list(indexes), 0.0, (worker.address, fault)
        began = time.monotonic()
        done, left = plugin.task(indexes)
        return done, left, time.monotonic() - began, None

    return run_held_task


@dataclass(slots=True)
class _Flight:
    """The tiles in flight on the cluster."""

    client: Any
    run: str
    waiting: deque[int]
    done: Any = field(default_factory=lambda: as_completed(raise_errors=False))
    sent: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """Tiles by future key; each attempt has its own key."""
    at_once: int = 1
    """How many tiles are sent at once."""
    alone: set[int] = field(default_factory=set)
    """Tiles to send one by one: one of them may be killing workers."""
    unfit: dict[str, str] = field(default_factory=dict)
    """Reasons to leave workers out, by address."""
    failures: Counter[int] = field(default_factory=Counter)
    """Failed attempts, by tile."""
    numbers: Iterator[int] = field(default_factory=itertools.count)

    threads: dict[str, int] = field(default_factory=dict)
    """Threads of the workers by address, cached: asking the scheduler takes as long as sending a tile."""
    threads_read_at: float = -_THREADS_CACHED_S

    def fill(self) -> None:
        """Send tiles until enough are in flight."""
        threads = self._threads()
        fit = [address for address in threads if address not in self.unfit] if self.unfit else None
        if self.unfit and threads and not fit:
            address, reason = next(iter(self.unfit.items()))
            raise OutputError(f"no Dask worker can run the tiles; {address}: {reason}")
        total = sum(threads.values())
        most = max(_LEAST_IN_FLIGHT, _IN_FLIGHT * total)
        batches: list[tuple[int, ...]] = []
        while self.waiting and len(self.sent) + len(batches) < most:
            batches.append(self._next(total))
        if not batches:
            return
        keys = [f"geoseg-tile-{self.run}-{batch[0]}-{next(self.numbers)}" for batch in batches]
        futures = self.client.map(_held_task(self.run), batches, key=keys, pure=False, workers=fit)
        self.sent.update(zip(keys, batches, strict=True))
        self.done.update(futures)

    def _next(self, threads: int) -> tuple[int, ...]:
        """Take the tiles to send next; fewer near the end."""
        size = max(1, min(self.at_once, len(self.waiting) // (_ROUNDS * max(1, threads))))
        tiles = [self.waiting.popleft()]
        while len(tiles) < size and self.waiting and self.alone.isdisjoint((tiles[-1], self.waiting[0])):
            tiles.append(self.waiting.popleft())
        return tuple(tiles)

    def _threads(self) -> dict[str, int]:
        now = time.monotonic()
        if self.unfit or not self.threads or now - self.threads_read_at >= _THREADS_CACHED_S:
            self.threads, self.threads_read_at = self.client.nthreads(), now
        return self.threads

    def results(self, futures: Sequence[Any]) -> Iterator[Any]:
        """Yield the results of tiles that succeeded; then retry the others, or raise the error that ends the run."""
        finished = [future for future in futures if future.status == "finished"]
        results: list[Any] = []
        for future, (done, left, seconds, unfit) in zip(finished, self.client.gather(finished), strict=True):
            tiles = len(self.sent.pop(future.key))
            if unfit is None:
                self._learn(tiles, seconds)
            else:
                self.unfit.update([unfit])
            future.release()  # no longer referenced, so it is never recomputed
            self.waiting.extendleft(reversed(left))
            results += done
        yield from results
        for future in futures:
            if future not in finished:
                self._failed(future)

    def _learn(self, tiles: int, seconds: float) -> None:
        """Adjust how many tiles are sent at once to the time that `tiles` tiles took."""
        if seconds < _MESSAGE_S / 2 and tiles >= self.at_once:
            self.at_once = min(2 * self.at_once, _MOST_TILES)
        elif seconds > 2 * _MESSAGE_S and 1 < tiles <= self.at_once:
            self.at_once = tiles // 2

    def _failed(self, future: Any) -> None:  # noqa: ANN401 - distributed has no types
        """Retry the tiles of a future, or raise the error that ends the run."""
        status = future.status
        if status not in {"error", "cancelled"}:  # its worker died with the result: Dask recomputes it
            self.done.add(future)
            return
        tiles = self.sent.pop(future.key)
        fault = future.exception() if status == "error" else CancelledError(future.key)
        future.release()
        if isinstance(fault, KilledWorker) and len(tiles) > 1:
            self.alone.update(tiles)
        elif isinstance(fault, KilledWorker):
            raise GeosegError(
                f"tile {tiles[0]} killed every worker that ran it; give the workers more memory "
                "(memory_limit of Dask's workers), or use a smaller `tile`; the finished tiles are kept"
            ) from None
        elif isinstance(fault, CancelledError) and self.client.status != "running":
            raise fault  # the scheduler has left; if it has not, somebody has restarted its workers
        else:
            self.failures[tiles[0]] += 1
            if self.failures[tiles[0]] >= _TRIES or isinstance(fault, UsageError):
                raise fault
        self.waiting.extendleft(reversed(tiles))


def run_on_cluster(  # noqa: PLR0913, PLR0917 - those of `scheduler.run_tasks`
    client: Any,  # noqa: ANN401 - distributed has no types
    task: Several,
    unfit: Callable[[], str | None] | None,
    indexes: Sequence[int],
    finished: Callable[[Any], None],
    announce: Announce,
) -> None:
    """Run a task for all indexes on the workers of a client; `finished` gets each result, in this thread.

    `task` and `unfit` are those of `hold_task`.

    Raises an error that a task raises repeatedly, and GeosegError or OutputError if no worker can do it, a tile kills
    workers, or the scheduler leaves. `announce` gets a line for each worker left out, and if there is no worker.
    """
    run = uuid.uuid4().hex[:12]
    with (
        _reporting_lost_scheduler(client),
        _holding(client, hold_task(task, unfit), _plugin_name(run)),
        _reporting_missing_workers(client, announce),
    ):
        flight = _Flight(client, run, deque(indexes))
        flight.fill()
        for futures in flight.done.batches():
            reported = len(flight.unfit)
            for result in flight.results(futures):
                finished(result)
            for address, reason in list(flight.unfit.items())[reported:]:
                announce(f"the Dask worker {address} is not used: {reason}")
            flight.fill()


@contextmanager
def _reporting_lost_scheduler(client: Any) -> Iterator[None]:  # noqa: ANN401 - distributed has no types
    """Report in one line that the scheduler has left, whichever call notices."""
    address = _address(client)
    try:
        yield
    except (CancelledError, ClosedClientError, OSError) as fault:
        if isinstance(fault, OSError) and not isinstance(fault, CommClosedError) and client.status == "running":
            raise  # unrelated to Dask, such as a broken pipe
        raise OutputError(
            f"the connection to the Dask scheduler at {address} was lost; the finished tiles are kept: restart it and "
            "run the same command again"
        ) from None


@contextmanager
def _holding(client: Any, plugin: WorkerPlugin, name: str) -> Iterator[None]:  # noqa: ANN401 - distributed has no types
    for tries_left in reversed(range(_TRIES)):
        try:
            client.register_plugin(plugin, name)
            break
        except (OSError, TimeoutError, ValueError) as fault:
            if tries_left and isinstance(fault, CommClosedError) and client.status == "running":
                continue  # a worker left while the scheduler was sending it the task
            where = f"the Dask scheduler at {_address(client)}"
            raise OutputError(f"{where} does not respond: {one_line(fault)}; check that it is running") from None
    try:
        yield
    finally:
        with suppress(Exception):  # the scheduler may have left
            client.unregister_worker_plugin(name)


@contextmanager
def _reporting_missing_workers(client: Any, announce: Announce) -> Iterator[None]:  # noqa: ANN401
    """Report while a client has no worker: adaptive clusters start them for waiting tasks, batch queues at any time."""
    ended = threading.Event()

    def watch() -> None:
        wait_s = _FIRST_CHECK_S
        while not ended.wait(wait_s):
            wait_s = _CHECK_S
            workers: object = "unknown"
            with suppress(Exception):  # the scheduler may have left
                workers = client.nthreads()
            if not workers:
                announce(f"the Dask client at {_address(client)} has no workers; waiting for one (Ctrl-C to stop)")

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        ended.set()


@contextmanager
def local_cluster(workers: int) -> Iterator[Any]:
    """Start worker processes on this machine, with little overhead of their own."""
    with (
        dask.config.set(_QUIET_SETTINGS),
        LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None) as local,
    ):
        yield local


@contextmanager
def connected(cluster: str) -> Iterator[None]:
    """Make a client current: of the scheduler at an address or in a scheduler file, or of N processes on this machine.

    Raises UsageError for anything else, OutputError if no scheduler answers.
    """
    if cluster.isdecimal() and int(cluster):
        with local_cluster(int(cluster)) as local, Client(local):
            yield
        return
    if "://" not in cluster and not cluster.endswith(".json"):
        raise UsageError(
            "`cluster` must be the address of a Dask scheduler (tcp://host:8786), its scheduler file (.json), or a "
            f"number of processes on this machine; got {cluster!r:.80}",
            "cluster",
        )
    address = cluster if "://" in cluster else _address_in(Path(cluster))
    try:
        client = Client(address, timeout=_CONNECT_S)
    except MemoryError:  # it takes text for a length
        raise OutputError(
            f"another program responds at {cluster}, not a Dask scheduler; check the port (a scheduler's is 8786 by "
            "default)",
            "cluster",
        ) from None
    except (OSError, TimeoutError, ValueError) as fault:
        raise OutputError(
            f"no Dask scheduler responds at {cluster}: {one_line(fault)}; check that it is running and "
            "that its port can be reached",
            "cluster",
        ) from None
    with _quiet_client(), client:  # closing may log too
        yield


@contextmanager
def _quiet_client() -> Iterator[None]:
    """Silence the many lines that Dask's client logs if the scheduler leaves; a single one replaces them."""
    logger = logging.getLogger("distributed.client")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


def _address_in(file: Path) -> str:
    """Return the address in a scheduler file; waits for a scheduler that was just started to write it."""
    latest = time.monotonic() + _CONNECT_S
    while not file.is_file() and time.monotonic() < latest:
        time.sleep(_FILE_POLL_S)
    try:
        address = json.loads(file.read_bytes())["address"]
    except OSError as fault:
        raise OutputError(
            f"the scheduler file {file} cannot be read ({fault.strerror}); check that the scheduler is running and "
            "writes it (dask scheduler --scheduler-file)",
            "cluster",
        ) from None
    except (ValueError, KeyError, TypeError, RecursionError):
        address = None
    if not isinstance(address, str) or "://" not in address:
        raise UsageError(
            f"{file} is not a Dask scheduler file: it has no address; give the one that dask scheduler "
            "--scheduler-file writes",
            "cluster",
        )
    return address


def _address(client: Any) -> str:  # noqa: ANN401 - distributed has no types
    return str(client.scheduler.address) if client.scheduler is not None else "its address"
