"""The tiles of a run on Dask: on threads of this process, or on the cluster of a client that is current."""

from __future__ import annotations

import os
import sys
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import dask.config
import dask.threaded
from dask.base import get_scheduler
from dask.callbacks import Callback

from geoseg.errors import GeosegError, UsageError
from geoseg.progress import Says

Done = TypeVar("Done")


class StoppedError(Exception):
    """A tile was given up because its run has ended; nobody sees it but the run."""


@dataclass(frozen=True, slots=True)
class Run:
    """The name of a run, and the process that started it."""

    name: str
    process: int


_GRAPH_TASKS = 20_000
"""Of one graph: Dask takes 2 KB and more for each task, and waits for the last one but once in so many."""
_PROCESSES = ("processes", "multiprocessing")
_stops: dict[Run, threading.Event] = {}


@contextmanager
def stoppable() -> Iterator[Run]:
    """Name a run, and end its tasks that still work in this process when it is left."""
    run = Run(uuid.uuid4().hex, os.getpid())
    _stops[run] = threading.Event()
    try:
        yield run
    finally:
        _stops.pop(run).set()


def checkpoint(run: Run) -> Callable[[], None]:
    """Return a function that raises StoppedError once the run has ended; in another process it never does."""
    stop = _stops.get(run)
    late = stop is None and run.process == os.getpid()

    def check() -> None:
        if late or (stop is not None and stop.is_set()):
            raise StoppedError

    return check


def run_tasks(  # noqa: PLR0913, PLR0917 - the last two are for those on a cluster
    task: Callable[[int], Done],
    indexes: Sequence[int],
    workers: int,
    finished: Callable[[Done], None],
    announce: Says = lambda _line: None,
    unfit: Callable[[], str | None] | None = None,
) -> None:
    """Call `task` with every index, `workers` at a time, and `finished` in this thread with each result as it comes.

    A current Dask client takes the tasks; else the scheduler that Dask is configured with, by default threads. A flat
    graph of plain tuples: 10^5 tasks are scheduled in seconds, as `delayed` objects they take minutes. What a task or
    `finished` raises ends the run. `announce` is told when a client has no worker: it may get one. `unfit` returns, on
    a worker, why it cannot do the task, or None. A client's workers get several indexes at once where they are quick; a
    task may say in `several` how these are done, as `in_turn` does. Runs in several threads of one process know nothing
    of each other.
    """
    client = current_client()
    if client is not None or dask.config.get("scheduler", None) in _PROCESSES:
        _check_sendable(task)
    if client is not None:
        from geoseg.inference.execution.cluster import run_on_cluster  # noqa: PLC0415 - distributed is here

        several = getattr(task, "several", None) or partial(in_turn, task)
        run_on_cluster(client, several, unfit, indexes, finished, announce)
        return
    # given, not registered: what is registered is told of the tasks of whichever run of the process looks first
    ours = (None, None, None, lambda _key, result, *_: finished(result), None)
    callbacks = [*Callback.active, ours]
    # get_scheduler imports distributed wherever it is installed; ask only if a scheduler was chosen
    chosen = get_scheduler() if dask.config.get("scheduler", None) else None
    is_chosen = chosen is not None or dask.config.get("pool", None) is not None
    # Dask's own threads outlive the run: a fork would wait for them
    pool = None if is_chosen else ThreadPoolExecutor(workers, "geoseg-tiles")
    who: dict[str, Any] = {"num_workers": workers} if pool is None else {"pool": pool}
    try:
        for start in range(0, len(indexes), _GRAPH_TASKS):
            graph = {("tile", index): (task, index) for index in indexes[start : start + _GRAPH_TASKS]}
            (chosen or dask.threaded.get)(graph, list(graph), callbacks=callbacks, **who)
    finally:
        if pool is not None:
            pool.shutdown(wait=False, cancel_futures=True)


def in_turn(task: Callable[[int], Done], indexes: Sequence[int]) -> tuple[list[Done], list[int]]:
    """Call a task with one index after the other, up to one that fails.

    Return the results and the indexes that are left; what the first one raises is raised.
    """
    done: list[Done] = []
    for index in indexes:
        try:
            done.append(task(index))
        except Exception:
            if not done:
                raise
            break
    return done, list(indexes[len(done) :])


def is_scheduled() -> bool:
    """Return whether the caller chose who does the work: a client of Dask that is current, a scheduler or a pool."""
    chosen = dask.config.get("scheduler", None) or dask.config.get("pool", None)
    return chosen is not None or current_client() is not None


def _check_sendable(task: Callable[[int], object]) -> None:
    import cloudpickle  # noqa: PLC0415 - threads need none

    try:
        cloudpickle.dumps(task)
    except Exception as fault:
        raise UsageError(
            f"the tiles cannot be sent to Dask's processes ({fault}); a model's function must be one that they can "
            "import, without open files or locks; or close the client, and threads do the work"
        ) from fault


def current_client() -> Any | None:  # noqa: ANN401 - distributed may not be installed
    """Return the Dask client that is current in this process, if any, without importing distributed."""
    distributed = sys.modules.get("distributed")
    if distributed is None:
        return None
    try:
        return distributed.default_client()
    except ValueError:
        return None


def connected(cluster: str) -> AbstractContextManager[None]:
    """Make a client current: of the scheduler at an address or in a scheduler file, or of N processes on this machine.

    Raises UsageError for what is none of these or where distributed is missing, OutputError where no scheduler answers.
    """
    try:
        from geoseg.inference.execution.cluster import connected  # noqa: PLC0415 - it needs distributed
    except ImportError:
        raise UsageError("`cluster` needs Dask's distributed: pip install 'geoseg[cluster]'", "cluster") from None
    return connected(cluster)


def where_the_work_is_done(call: Callable[..., Done], *arguments: object, **settings: object) -> Done:
    """Return what a function returns on a worker of a client that is current, else here.

    A login node may lack the GPU that its workers have.
    """
    client = current_client()
    if client is None or not client.nthreads():
        return call(*arguments, **settings)
    try:
        found: Done = client.submit(
            _by_value(call, *arguments, **settings), pure=False, key=f"geoseg-{uuid.uuid4().hex}"
        ).result()
    except GeosegError:
        raise
    except Exception:  # noqa: BLE001 - whatever hinders sending it is told when the tiles are sent
        return call(*arguments, **settings)
    return found


def _by_value(call: Callable[..., Done], *arguments: object, **settings: object) -> Callable[[], Done]:
    """Return a call that any worker can load; what it lacks for it is an error of the call: others end the worker."""
    import cloudpickle  # noqa: PLC0415 - threads need none

    content = cloudpickle.dumps((call, arguments, settings))

    def called() -> Done:
        call, arguments, settings = cloudpickle.loads(content)
        made: Done = call(*arguments, **settings)
        return made

    return called
